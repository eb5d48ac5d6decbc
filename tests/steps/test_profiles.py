"""Profiles of earlier windows: one per window, replaced by a later count, the newest kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.store import profiles
from tasks.store.profiles import recent_profiles, save_profile
from tests.drifted import day
from tests.stores import BOTH, fresh_store


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


def save(store: Engine, window: Window, rows: int, reference: str = "r1", model: str = "churn") -> bool:
    profile: dict[str, Any] = {"rows": rows, "features": {"spend": [1, 2, float("nan")]}}
    return save_profile(
        store, model=model, version=3, reference_id=reference, window=window, profile=profile
    )  # fmt: skip


def rows_of(store: Engine, n: int, before: int, reference: str = "r1") -> list[int]:
    return [one["rows"] for one in recent_profiles(store, "churn", reference, n, day(before).start)]


def test_the_last_profiles_that_ended_before_come_newest_last(store: Engine) -> None:
    for place in (2, 0, 1, 3):
        assert save(store, day(place), place)
    assert rows_of(store, 2, before=3) == [1, 2]
    assert rows_of(store, 9, before=4) == [0, 1, 2, 3]
    assert recent_profiles(store, "churn", "r1", 1, day(1).start) == [
        {"rows": 0, "features": {"spend": [1, 2, None]}}
    ]


def test_a_profile_belongs_to_its_model_and_reference(store: Engine) -> None:
    save(store, day(0), 1)
    save(store, day(0), 2, reference="r2")
    save(store, day(0), 3, model="spend")
    assert rows_of(store, 9, before=9) == [1]
    assert rows_of(store, 9, before=9, reference="r2") == [2]


def test_the_same_profile_again_writes_nothing_and_another_takes_its_place(store: Engine) -> None:
    assert save(store, day(0), 1)
    assert not save(store, day(0), 1)
    assert save(store, day(0), 2)
    assert rows_of(store, 9, before=9) == [2]


def test_windows_that_overlap_are_summed_once(store: Engine) -> None:
    for place in range(9):
        save(store, Window(day(place).start, day(place + 2).end), place)
    assert rows_of(store, 9, before=11) == [2, 5, 8]
    assert rows_of(store, 2, before=11) == [5, 8]


def test_only_the_newest_of_a_model_are_kept(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert profiles.KEPT == 1000
    monkeypatch.setattr(profiles, "KEPT", 3)
    save(store, day(0), 99, model="spend")
    for place in range(6):
        save(store, day(place), place, reference=f"r{place % 2}")
    assert rows_of(store, 9, before=9, reference="r1") == [3, 5]
    assert rows_of(store, 9, before=9, reference="r0") == [4]
    with store.connect() as connection:
        kept = connection.execute(sa.text("SELECT count(*) FROM profiles WHERE model = 'spend'")).scalar()
    assert kept == 1
