"""Telling labels holds nobody up, however much is known of a key, and none comes before its event."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.store.coverage import heard_of
from tasks.store.known_labels import Known, Nearby
from tasks.store.labels import Label
from tasks.store.told import MOST_TOLD, TOO_MANY, Told, hear_told
from tests.stores import BOTH, fresh_store
from tests.told import served, standing, tell

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = Window(T0, T0 + 7 * DAY)


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


def test_what_is_told_while_another_call_still_reads_is_waited_for_by_nobody_and_seen(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(store, ["a"], [0])
    one, read, told = Label("a", 1, T0 + 8 * DAY), Nearby.read, []

    def slow(self: Nearby, connection: Any) -> None:
        read(self, connection)
        if not told:
            told.append("once")
            told.extend(tell(store, one))

    monkeypatch.setattr(Nearby, "read", slow)
    assert tell(store, one, Label("a", 0, T0 + 9 * DAY)) == ["same", "corrected"]
    assert told == ["once", "new"]


def test_of_a_long_history_only_the_neighbours_are_read(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = timedelta(seconds=1)
    history = [Label("a", n % 2, T0 + 8 * DAY + 10 * n * second) for n in range(2_000)]
    tell(store, *history, Label("b", 1, T0), Label("a", 7, T0 + 9 * DAY, event_time=T0))
    learnt, learn = [], Known.learn
    monkeypatch.setattr(Known, "learn", lambda self, *given: (learnt.append(given), learn(self, *given)))
    middle = T0 + 8 * DAY + 10_005 * second  # after the one of n = 1000, whose label is 0
    told = [Label("a", 0, middle), Label("a", 1, middle), Label("a", 1, middle + second)]
    assert tell(store, *told) == ["same", "outdated", "same"]
    assert tell(store, Label("a", 0, T0 + 20 * DAY)) == ["corrected"]
    assert len(learnt) < 12


def test_more_labels_for_one_target_than_a_call_may_tell_are_refused_and_told_so(store: Engine) -> None:
    served(store, ["a", "b"], [0, 0])
    told = [Told(n % 2, key="a", known_at=T0 + DAY + timedelta(seconds=n)) for n in range(MOST_TOLD + 3)]
    found = hear_told(store, "churn", [*told, Told(1, key="b")], now=T0 + 8 * DAY)
    kept = ["new", *["corrected"] * (MOST_TOLD - 1)]
    assert [one.outcome for one in found] == [*kept, *["refused"] * 3, "new"]
    assert {one.problem for one in found[MOST_TOLD:-1]} == {TOO_MANY}


def test_a_label_that_waits_is_not_for_an_event_after_it_was_known(store: Engine) -> None:
    told = [Told(1, key="a", known_at=T0 - 9_000 * DAY), Told(1, key="b", known_at=T0 + DAY)]
    assert {one.outcome for one in hear_told(store, "churn", told, now=T0 + 2 * DAY)} == {"kept_for_later"}
    tell(store, Label("c", 1, T0 - DAY), source="fetch")
    seconds = timedelta(seconds=1) / DAY
    served(store, list("abbbc"), [0, 1, 1 + 59.5 * seconds, 1 + 60.5 * seconds, 0])
    assert standing(store) == {"p1": 1, "p2": 1, "p4": 1}, "a clock may be a minute behind"
    assert heard_of(store, "churn", [WEEK], version=1, as_of=T0 + 2 * DAY) == [3]
