"""The prediction log: what comes together is one commit, what fails is told, what waits is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError

from serving import record
from serving.record import Recorder
from tasks.core.errors import StoreError
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.engine import open_store, writing

AT = datetime(2026, 3, 1, tzinfo=UTC)
DAY = Window.ending(AT.replace(day=2), "2d")


def row(identity: str) -> dict[str, Any]:
    return {
        "model": "churn", "prediction_id": identity, "version": 1, "row_key": identity, "event_time": AT,
        "served_at": AT, "prediction": 1, "score": [0.2, 0.8], "inputs": {"spend": 1.0}, "latency_ms": 3.0,
    }  # fmt: skip


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Lets commits through once it is set; until then the first of them waits."""
    free = threading.Event()

    @contextmanager
    def held(engine: Engine) -> Iterator[Connection]:
        assert free.wait(30)
        with writing(engine) as connection:
            yield connection

    monkeypatch.setattr(record, "writing", held)
    return free


def test_what_comes_while_a_commit_is_under_way_is_one_commit_together(
    place: Settings, gate: threading.Event
) -> None:
    recorder = Recorder(open_store(place))
    first = recorder.record([row("a")])
    while recorder._waiting.qsize():  # the first is being written
        pass
    later = [recorder.record([row(f"b{index}"), row(f"c{index}")]) for index in range(50)]
    assert not any(one.done() for one in (first, *later))
    gate.set()
    for one in (first, *later):
        one.result(30)
    assert recorder.commits == 2
    assert recorder.written == 101
    recorder.close()
    kept = predictions.read(open_store(place), "churn", DAY)
    assert len(kept) == 101
    assert kept["prediction_id"].is_unique


def test_what_waits_is_written_before_the_log_closes_and_nothing_after(
    place: Settings, gate: threading.Event
) -> None:
    recorder = Recorder(open_store(place))
    waiting = [recorder.record([row(str(index))]) for index in range(20)]
    gate.set()
    recorder.close()
    assert all(one.result(0) is None for one in waiting)
    assert len(predictions.read(open_store(place), "churn", DAY)) == 20
    with pytest.raises(StoreError, match="closed"):
        recorder.record([row("late")])


def test_a_full_queue_refuses_at_once(
    place: Settings, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "MOST_WAITING", 3)
    recorder = Recorder(open_store(place))
    taken = [recorder.record([row("a")])]
    while recorder._waiting.qsize():
        pass
    taken += [recorder.record([row(str(index))]) for index in range(3)]
    with pytest.raises(StoreError, match="3 requests waiting"):
        recorder.record([row("one too many")])
    gate.set()
    recorder.close()
    assert [one.result(0) for one in taken] == [None] * 4
    assert len(predictions.read(open_store(place), "churn", DAY)) == 4


def test_a_failed_commit_is_told_to_all_who_waited_and_the_next_one_works(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(open_store(place))
    with monkeypatch.context() as patch:
        patch.setattr(record, "insert_new", lambda *_: 1 / 0)
        lost = recorder.record([row("a")])
        with pytest.raises(StoreError, match="ZeroDivisionError"):
            lost.result(30)
    recorder.record([row("b")]).result(30)
    recorder.close()
    assert list(predictions.read(open_store(place), "churn", DAY)["prediction_id"]) == ["b"]
    assert (recorder.failed, recorder.written) == (1, 1)


def test_a_row_that_the_database_cannot_take_fails_alone(
    place: Settings, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = record.insert_new

    def picky(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> int:
        if any(one["row_key"] == "bad" for one in rows):
            raise DataError("insert", {}, ValueError("NUL"))
        return real(connection, table, rows)

    monkeypatch.setattr(record, "insert_new", picky)
    recorder = Recorder(open_store(place))
    given = {name: recorder.record([row(name)]) for name in ("first", "good", "bad", "other")}
    gate.set()
    recorder.close()
    assert [name for name, one in given.items() if one.exception(0) is None] == ["first", "good", "other"]
    with pytest.raises(StoreError, match="DataError"):
        given["bad"].result(0)
    assert set(predictions.read(open_store(place), "churn", DAY)["row_key"]) == {"first", "good", "other"}


def test_somebody_who_gives_up_waiting_does_not_end_the_log(place: Settings, gate: threading.Event) -> None:
    recorder = Recorder(open_store(place))
    first = recorder.record([row("a")])
    while recorder._waiting.qsize():
        pass
    gone, stays = recorder.record([row("gone")]), recorder.record([row("stays")])
    assert gone.cancel()
    gate.set()
    stays.result(30)
    assert first.done()
    assert recorder.is_alive
    recorder.close()
    assert not recorder.is_alive
    assert set(predictions.read(open_store(place), "churn", DAY)["row_key"]) == {"a", "stays"}
