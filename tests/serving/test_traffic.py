"""Every request is counted once, by minute, version and status, whatever the store does meanwhile."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from serving import traffic
from serving.app import create_app
from serving.traffic import Traffic, edge_of
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.traffic import latency_ms, read_traffic
from tests.serving.running import running
from tests.serving.test_app import ROW, promoted
from tests.stores import BOTH, fresh_store
from tests.versions import Made

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVER = Window(T0.replace(year=2000), T0.replace(year=2999))


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


def test_counts_add_up_by_minute_version_and_status_over_flushes_and_processes(engine: Engine) -> None:
    clock = Clock()
    one, two = (Traffic(engine, now=clock) for _ in range(2))
    for minute in range(3):
        clock.now = T0 + timedelta(minutes=minute, seconds=7)
        for each in (one, two):
            each.count("churn", 4, 200, rows=10, seconds=0.008)
            assert each.flush()
            each.count("churn", 4, 200, rows=1, seconds=0.1)
            each.count("churn", 0, 503, rows=0, seconds=0.001)
            each.count("other", 1, 200, rows=1, seconds=0.001)
        one.lost("churn", 4, 2)
    one.close()
    two.close()
    every = read_traffic(engine, "churn", EVER)
    assert [(t.version, t.status, t.requests, t.rows, t.lost) for t in every] == [
        (0, 503, 6, 0, 0),
        (4, 200, 12, 66, 6),
    ]
    assert every[1].latency == {8.0: 6, 107.6: 6}
    second = read_traffic(engine, "churn", Window(T0 + timedelta(minutes=1), T0 + timedelta(minutes=2)))
    assert [(t.status, t.requests, t.rows) for t in second] == [(503, 2, 0), (200, 4, 22)]
    assert read_traffic(engine, "nobody", EVER) == []


def test_a_flush_that_took_but_was_not_heard_of_counts_nothing_twice(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, clock = open_store(place), Clock()
    real = traffic.write_traffic

    def cut(engine: Engine, rows: Any) -> None:
        real(engine, rows)
        raise OperationalError("COMMIT", {}, OSError("gone"))

    one = Traffic(engine, now=clock)
    one.count("churn", 1, 200, rows=3, seconds=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(traffic, "write_traffic", cut)
        assert not one.flush()
    one.count("churn", 1, 200, rows=3, seconds=0.01)
    clock.now -= timedelta(minutes=5)  # a clock set back
    one.count("churn", 1, 200, rows=3, seconds=0.01)
    assert one.flush()
    one.count("churn", 1, 200, rows=3, seconds=0.01)
    one.close()
    (found,) = read_traffic(engine, "churn", EVER)
    assert (found.requests, found.rows, one.failed) == (4, 12, 1)


def test_threads_that_count_while_it_is_flushed_lose_nothing(place: Settings) -> None:
    one = Traffic(open_store(place), flush_seconds=0.01)
    assert one.flush()  # before anything came
    one.start()

    def count() -> None:
        for index in range(2_000):
            one.count("churn", 1, 200 if index % 2 else 422, rows=2, seconds=index / 1e5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.close()
    found = {
        t.status: (t.requests, t.rows, sum(t.latency.values()))
        for t in read_traffic(one._engine, "churn", EVER)
    }
    assert found == {200: (4_000, 8_000, 4_000), 422: (4_000, 8_000, 4_000)}


def test_what_waits_in_an_outage_is_bounded(place: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MOST_HELD", 5)
    clock = Clock()
    one = Traffic(open_store(place), now=clock)
    for minute in range(20):
        clock.now = T0 + timedelta(minutes=minute)
        one.count("churn", 1, 200, rows=1, seconds=0.01)
    assert len(one._counts) == 5
    one.close()
    assert sum(t.requests for t in read_traffic(open_store(place), "churn", EVER)) == 5


@given(st.floats(0, 60_000))
@settings(max_examples=200)
def test_an_edge_is_never_below_its_latency_and_hardly_above(milliseconds: float) -> None:
    edge = float(edge_of(milliseconds))
    assert edge >= milliseconds * 0.9995  # four digits of it are kept
    assert edge <= max(milliseconds * 1.19 * 1.001, 0.0625)


def test_percentiles_of_buckets_are_those_of_the_values_up_to_a_bucket(place: Settings) -> None:
    values = np.random.default_rng(0).lognormal(2, 1, 20_000)
    one = Traffic(open_store(place))
    for value in values:
        one.count("churn", 1, 200, rows=1, seconds=value / 1000)
    one.close()
    found = read_traffic(open_store(place), "churn", EVER)
    for share in (0.5, 0.95, 0.99):
        exact = float(np.quantile(values, share, method="inverted_cdf"))
        said = latency_ms(found, share)
        assert said is not None
        assert exact * 0.999 <= said <= exact * 1.2
    assert latency_ms([], 0.5) is None
    assert math.isinf(float(edge_of(1e9)))


def test_the_app_counts_what_it_answered_and_what_it_refused(made: Made, place: Settings) -> None:
    promoted(made, place)
    with running(create_app(["churn"], place)) as client:
        assert client.post("/predict/churn", json={"rows": [ROW, ROW]}).status_code == 200
        assert client.post("/predict/churn", json={"rows": [ROW]}).status_code == 200
        assert client.post("/predict/churn", json={"rows": [{}]}).status_code == 422
        assert client.post("/predict/nobody", json={"rows": [ROW]}).status_code == 404
        text = client.get("/metrics").text
    for line in ("evergreen_log_lost_rows_total 0.0", "evergreen_log_waiting_rows 0.0"):
        assert line in text
    found = read_traffic(open_store(place), "churn", EVER)
    assert [(t.version, t.status, t.requests, t.rows) for t in found] == [(0, 422, 1, 0), (1, 200, 2, 3)]
