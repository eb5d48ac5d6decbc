"""Anchors in the store: append-only, one revision each, and which version has been best on one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tasks.core.window import Window
from tasks.store import anchors
from tasks.store.engine import writing
from tasks.store.schema import promotions
from tasks.store.schema_versions import versions
from tests.make import START
from tests.stores import BOTH, fresh_store

LATER = START + timedelta(days=30)
WINDOW = Window(START, START + timedelta(days=1))


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path):
    with fresh_store(request.param, request, tmp_path) as opened:
        yield opened


def put(engine: sa.Engine, sha256: str, version: int = 1, **over: Any) -> anchors.AnchorRow:
    known = {
        "path": f"{sha256}.parquet",
        "rows": 9,
        "window": WINDOW,
        "actor": "a",
        "reason": "r",
        "at": LATER,
    }
    return anchors.fix(engine, "churn", sha256=sha256, version=version, **{**known, **over})


def test_of_many_that_fix_at_once_one_does(engine: sa.Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda number: put(engine, f"s{number}", number), range(16)))
    assert len(found) == 1 and found == {anchors.current(engine, "churn")}
    assert len(anchors.history(engine, "churn")) == 1
    with ThreadPoolExecutor(8) as pool:
        renewed = list(pool.map(lambda number: put(engine, f"t{number}", number, renew=True), range(8)))
    assert sorted(row.revision for row in renewed) == list(range(2, 10))


def test_an_anchor_comes_back_as_it_was_fixed_and_models_do_not_mix(engine: sa.Engine) -> None:
    row = put(engine, "s1", 3, renew=True)
    assert row == anchors.AnchorRow("churn", 1, "s1", "s1.parquet", 9, WINDOW, 3, "a", "r", LATER)
    assert anchors.current(engine, "churn") == row and anchors.current(engine, "fraud") is None
    assert put(engine, "s1", 3, renew=True, actor="b") == row  # asked for once more after a crash
    put(engine, "s2", 4, renew=True)
    assert [one.sha256 for one in anchors.history(engine, "churn")] == ["s1", "s2"]


def test_an_anchor_that_stood_before_comes_back_as_a_new_revision(engine: sa.Engine) -> None:
    put(engine, "s1", 1)
    second = put(engine, "s2", 2, renew=True)
    assert put(engine, "s1", 1) == second  # without renew nothing comes back
    third = put(engine, "s1", 1, renew=True, actor="bob", reason="the former ones were right")
    assert (third.revision, third.sha256, third.actor) == (3, "s1", "bob")
    assert anchors.current(engine, "churn") == third


def test_scores_that_are_no_numbers_or_of_versions_that_never_served_keep_nothing(engine: sa.Engine) -> None:
    moved_row = {
        "model": "churn",
        "action": "promoted",
        "actor": "gate",
        "reason": "r",
        "evidence": {},
        "at": LATER,
    }
    facts = {name: {} for name in ("snapshot", "gate", "params")}
    facts |= dict.fromkeys(("created", "registered_at", "window_start", "window_end", "cut"), LATER)
    facts |= dict.fromkeys(("run_id", "attempt", "decision_id", "cause"), "x")
    scores = {1: float("nan"), 2: 0.7, 3: None, 4: 0.7, 5: 0.9}
    with writing(engine) as connection:
        for number, score in scores.items():
            row = {"model": "churn", "number": number, "digest": f"g{number}", "metric": "roc_auc"}
            connection.execute(
                versions.insert(), {**facts, **row, "anchor_sha256": "s1", "anchor_score": score}
            )
            if number < 5:
                connection.execute(
                    promotions.insert(), {**moved_row, "decision_id": f"d{number}", "to_version": number}
                )
    assert anchors.best_keeper(engine, "churn", "s1", "roc_auc") == anchors.Keeper(2, "g2", 0.7)
    assert anchors.best_keeper(engine, "churn", "s2", "roc_auc") is None
    assert anchors.note_score(engine, "churn", 3, sha256="s1", score=0.8) is True
    assert anchors.note_score(engine, "churn", 9, sha256="s1", score=0.99) is False
    assert anchors.best_keeper(engine, "churn", "s1", "roc_auc") == anchors.Keeper(3, "g3", 0.8)
