"""The prediction log: what comes together is one commit, what fails is told, what waits is bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, OperationalError

from serving import keeping, record
from serving.record import AlreadyKept, Recorder
from tasks.core.errors import StoreError
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import predictions, schema
from tasks.store.engine import insert_new, open_store, reading, writing
from tasks.store.recorded import insert_predictions
from tests.stores import BOTH, fresh_store

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

    monkeypatch.setattr(keeping, "writing", held)
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
        patch.setattr(keeping, "insert_predictions", lambda *_: 1 / 0)
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
    real = keeping.insert_predictions

    def picky(connection: Connection, rows: Any) -> int:
        if any(one["row_key"] == "bad" for one in rows):
            raise DataError("insert", {}, ValueError("NUL"))
        return real(connection, rows)

    monkeypatch.setattr(keeping, "insert_predictions", picky)
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


def test_an_id_that_was_answered_before_is_refused_alone_and_the_first_answer_stays(
    place: Settings, gate: threading.Event
) -> None:
    recorder = Recorder(open_store(place))
    gate.set()
    recorder.record([row("a/0")]).result(30)
    gate.clear()
    other = {**row("a/0"), "served_at": AT.replace(hour=1), "prediction": 0}
    gone = {**row("a/1"), "served_at": AT.replace(hour=1)}
    first = recorder.record([row("b")])
    while recorder._waiting.qsize():
        pass
    twice, fresh = recorder.record([other, gone]), recorder.record([row("c")])
    within = recorder.record([{**row("c"), "served_at": AT.replace(hour=2)}])
    gate.set()
    recorder.close()
    assert (first.result(0), fresh.result(0)) == (None, None)
    for one in (twice, within):
        with pytest.raises(AlreadyKept, match="answered before"):
            one.result(0)
    kept = predictions.read(open_store(place), "churn", DAY).set_index("prediction_id")
    assert sorted(kept.index) == ["a/0", "b", "c"]
    assert kept.loc["a/0", "prediction"] == 1
    assert kept.loc["c", "served_at"] == AT


def test_a_commit_whose_end_was_not_heard_of_is_tried_again_and_is_no_second_answer(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []

    @contextmanager
    def cutting(engine: Engine) -> Iterator[Connection]:
        with writing(engine) as connection:
            yield connection
        if not cut:
            cut.append(1)
            raise OperationalError("COMMIT", {}, OSError("gone"), connection_invalidated=True)

    monkeypatch.setattr(keeping, "writing", cutting)
    recorder = Recorder(open_store(place))
    recorder.record([row("a"), row("b")]).result(30)
    recorder.close()
    assert cut
    assert len(predictions.read(open_store(place), "churn", DAY)) == 2


def test_a_fast_log_lets_nobody_wait_and_counts_what_it_could_not_take(
    place: Settings, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "MOST_WAITING", 3)
    lost: list[str] = []
    recorder = Recorder(
        open_store(place), mode="fast", lost=lambda rows: lost.extend(one["row_key"] for one in rows)
    )
    assert recorder.record([row("a")]).result(0) is None
    while recorder._waiting.qsize():
        pass
    for index in range(5):
        assert recorder.record([row(f"{index}"), row(f"{index}b")]).done()
    assert (recorder.lost, lost) == (4, ["3", "3b", "4", "4b"])
    gate.set()
    recorder.close()
    assert len(predictions.read(open_store(place), "churn", DAY)) == 7


def test_a_fast_log_holds_what_it_answered_through_an_outage_and_refuses_meanwhile(
    place: Settings, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(record, "MOST_TOGETHER", 1)
    real, fails = keeping.insert_predictions, [True]

    def failing(connection: Connection, rows: Any) -> int:
        if fails[0]:
            raise OperationalError("insert", {}, OSError("down"))
        return real(connection, rows)

    monkeypatch.setattr(keeping, "insert_predictions", failing)
    recorder = Recorder(open_store(place), mode="fast")
    for name in ("a", "x", "y"):  # one after the other they fail to be written
        recorder.record([row(name)])
    gate.set()
    deadline = time.monotonic() + 20
    while True:
        try:
            recorder.record([row("more")])
        except StoreError:
            break
        assert time.monotonic() < deadline
    while recorder._waiting.qsize():
        assert time.monotonic() < deadline
    fails[0] = False
    while "a" not in set(predictions.read(open_store(place), "churn", DAY)["row_key"]):
        assert time.monotonic() < deadline
    recorder.record([row("b")])
    recorder.close()
    assert set(predictions.read(open_store(place), "churn", DAY)["row_key"]) == {*"axyb", "more"}
    assert recorder.lost == 0


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


def test_the_fast_insert_keeps_what_the_plain_one_keeps(engine: Engine) -> None:
    odd = {
        "prediction": float("nan"), "score": [0.1, None, float("inf")], "latency_ms": None, "inputs": None,
        "served_at": AT.astimezone(timezone(timedelta(hours=2))), "event_time": AT.replace(microsecond=7),
    }  # fmt: skip
    rows = [
        row("a"),
        {**row("b"), **odd},
        {**row("ü'\"%(x)s"), "prediction": "ja", "status": 200, "route": "x"},
    ]
    plain = [{**one, "model": "plain"} for one in rows]
    with writing(engine) as connection:
        assert insert_predictions(connection, rows) == 3
        assert insert_predictions(connection, [rows[0], row("d")]) == 1
        for one in [*plain, {**row("d"), "model": "plain"}]:
            insert_new(connection, schema.predictions, [one])
    with reading(engine) as connection:
        found = connection.execute(sa.select(schema.predictions)).mappings().all()
    by_model = {
        model: sorted(
            [{**one, "model": ""} for one in found if one["model"] == model], key=lambda one: one["row_key"]
        )
        for model in ("churn", "plain")
    }
    assert by_model["churn"] == by_model["plain"]
    assert len(by_model["churn"]) == 4
