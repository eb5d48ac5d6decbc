"""No answer vanishes uncounted: ids that others used, rows that wait, a store that hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from serving import keeping, record
from serving.hand import TooSlow
from serving.keeping import AlreadyKept, Keeper
from serving.record import Recorder
from serving.spool import Spool
from serving.traffic import Traffic
from tasks.core.errors import StoreError
from tasks.store.engine import _POSTGRES, writing
from tasks.store.recorded import insert_predictions, standing
from tasks.store.schema import predictions
from tests.serving.test_spool import AT, row, until
from tests.stores import BOTH, fresh_store

LATER = AT.replace(hour=20)


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store("sqlite", request, tmp_path) as engine:
        yield engine


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(record, "PATIENCE_SECONDS", 0.2)


def kept(engine: Engine) -> dict[str, Any]:  # Any: a prediction
    table = predictions.c
    with engine.connect() as connection:
        found = connection.execute(sa.select(table.prediction_id, table.prediction))
        return {one.prediction_id: one.prediction for one in found}


class Hanging:
    """A store that takes the next rows only when `goes_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.goes_on = threading.Event()
        real = keeping.insert_predictions

        def insert(connection: Connection, rows: Any) -> int:
            assert self.goes_on.wait(20)
            return real(connection, rows)

        monkeypatch.setattr(keeping, "insert_predictions", insert)


def test_a_fast_log_counts_an_answer_whose_id_another_process_used(here: Engine) -> None:
    with writing(here) as connection:
        insert_predictions(connection, [row("order-17")])
    lost: list[str] = []
    log = Recorder(here, mode="fast", lost=lambda rows: lost.extend(one["row_key"] for one in rows))
    log.record([row("order-17", served_at=LATER, prediction="no")]).result(0)
    log.close()
    assert (log.lost, lost, kept(here)) == (1, ["order-17"], {"order-17": "yes"})


def test_a_spooled_answer_whose_id_another_process_used_is_set_aside_and_counted(
    engine: Engine, tmp_path: Path
) -> None:
    with writing(engine) as connection:
        insert_predictions(connection, [row("a"), row("b")])
    spool = Spool(tmp_path / "spool")
    spool.append([row("a"), row("b", served_at=LATER, prediction="no"), row("c")])
    log = Recorder(engine, spool=spool)
    log.on_disk = spool.rows
    log.record([row("d")])  # wakes it
    until(lambda: log.on_disk == 0)
    log.close()
    assert kept(engine) == dict.fromkeys("abcd", "yes")
    assert (log.damaged, log.lost) == (1, 1)
    assert b'"no"' in (tmp_path / "spool" / "damaged.txt").read_bytes()


def test_an_answer_is_acknowledged_only_if_it_is_the_one_in_the_store(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(connection: Connection, rows: Any) -> Any:
        found = standing(connection, rows)
        if engine.dialect.name == "postgresql":  # there others write between the look and the insert
            with writing(engine) as other:
                insert_predictions(other, [row("x", prediction="theirs")])
        return found

    with writing(engine) as connection:
        insert_predictions(connection, [row("old"), row("again")])
    monkeypatch.setattr(keeping, "standing", late)
    given: list[tuple[list[dict[str, Any]], Future[None]]] = [
        ([row("old", served_at=LATER)], Future()),
        ([row("x", served_at=LATER, prediction="ours")], Future()),
        ([row("again"), row("new")], Future()),  # a commit of which nobody heard
    ]
    refused = Keeper(engine).commit(given)
    theirs = engine.dialect.name == "postgresql"
    assert [done in refused for _, done in given] == [True, theirs, False]
    assert kept(engine)["x"] == ("theirs" if theirs else "ours")
    assert "new" in kept(engine)


@pytest.mark.parametrize("mode", ["durable", "fast"])
def test_rows_that_wait_are_bounded_not_only_requests(
    here: Engine, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    store = Hanging(monkeypatch)
    monkeypatch.setattr(record, "MOST_ROWS", 10)
    log = Recorder(here, mode=mode)
    log.record([row(f"a{index}") for index in range(6)])
    until(lambda: not log._waiting.qsize())  # under way, and in memory still
    log.record([row(f"b{index}") for index in range(4)])
    if mode == "fast":
        assert log.record([row("c")]).done()
    else:
        with pytest.raises(StoreError, match="10 rows waiting"):
            log.record([row("c")])
    assert log.lost == (mode == "fast")
    store.goes_on.set()
    until(lambda: log.written == 10)
    log.record([row("d")])
    log.close()
    assert len(kept(here)) == 11
    assert log._waiting.rows == 0


@pytest.mark.usefixtures("quick")
def test_a_store_that_hangs_is_told_in_time_and_what_was_refused_is_not_kept(
    here: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Hanging(monkeypatch)
    log = Recorder(here)
    for identity in "ab":
        with pytest.raises(TooSlow):
            log.record([row(identity)]).result(5)
    store.goes_on.set()
    until(lambda: log._hand.is_free)
    log.record([row("a", served_at=LATER, prediction="second")]).result(5)
    log.close()
    assert kept(here) == {"a": "second"}


@pytest.mark.usefixtures("quick")
def test_a_fast_log_holds_what_a_store_that_hangs_may_have_taken(
    here: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Hanging(monkeypatch)
    log = Recorder(here, mode="fast")
    log.record([row("a"), row("b")])
    until(lambda: log._held)
    with pytest.raises(StoreError):
        log.record([row("c")])
    store.goes_on.set()
    until(lambda: not log._held and not log._waiting.rows)
    log.close()
    assert (kept(here), log.lost, log.failed) == ({"a": "yes", "b": "yes"}, 0, 0)


@pytest.mark.usefixtures("quick")
def test_a_stopped_postgres_holds_no_request_up_where_the_log_spools(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with fresh_store("postgres", request, tmp_path) as engine:
        log = Recorder(engine, spool=Spool(tmp_path / "spool"), spools=True)
        log.record([row("before")]).result(20)
        with engine.connect() as connection:  # the one that the log uses again
            server = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        os.kill(server, signal.SIGSTOP)
        try:
            took = []
            for identity in "abc":
                began = time.monotonic()
                log.record([row(identity)]).result(10)
                took.append(time.monotonic() - began)
            assert (log.on_disk, log.spooled) == (3, 3)
        finally:
            os.kill(server, signal.SIGCONT)
        until(lambda: log.on_disk == 0)
        log.record([row("after")]).result(20)
        log.close()
        assert took[0] < 3
        assert sum(took[1:]) < 0.5  # only the first had to find out
        assert sorted(kept(engine)) == ["a", "after", "b", "before", "c"]
        assert (log.lost, log.damaged, log.failed) == (0, 0, 0)


@pytest.mark.usefixtures("quick")
def test_the_end_of_the_app_waits_for_no_store_that_hangs(
    here: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("serving.traffic.CLOSE_SECONDS", 0.2)
    store = Hanging(monkeypatch)
    monkeypatch.setattr("serving.traffic.write_traffic", lambda *_: store.goes_on.wait(20))
    counts = Traffic(here)
    counts.count("churn", 1, 200, rows=1, seconds=0.1)
    counts.start()
    log = Recorder(here, spool=Spool(tmp_path / "spool"), spools=True)
    log.record([row("a")]).result(5)
    began = time.monotonic()
    log.close()
    counts.close()
    assert time.monotonic() - began < 5
    store.goes_on.set()
    until(lambda: log._hand.is_free)
    heir = Spool(tmp_path / "spool")
    assert [one["prediction_id"] for one in heir.waiting(9)] == ["a"]
    heir.close()


def test_an_id_given_twice_to_a_durable_log_is_refused_once_more(here: Engine) -> None:
    log = Recorder(here)
    log.record([row("a")]).result(20)
    with pytest.raises(AlreadyKept):
        log.record([row("a", served_at=LATER)]).result(20)
    log.close()
    assert log.lost == 0


def test_a_postgres_connection_whose_other_end_is_gone_ends(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with fresh_store("postgres", request, tmp_path) as engine, engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        used = {**driver.info.get_parameters()}
        assert {name: used[name] for name in _POSTGRES} == _POSTGRES
