"""A request to predict: its id, who answers it, and what becomes of one that cannot be answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from serving.batching import TooBusy
from serving.canary import CanaryLane
from serving.holder import Served
from serving.scoring import NoAnswer
from serving.service import Service
from tasks.core.errors import StoreError
from tasks.core.model.pipeline import build_pipeline
from tasks.settings import Settings
from tasks.store.schema import predictions
from tests.make import make_frame
from tests.serving.running import running
from tests.serving.served import a_served, an_app
from tests.versions import SPEC_, set_up

ROW: dict[str, Any] = {"tenure": 12.0, "spend": 30.0, "plan": "basic", "region": "north"}
Logged = Callable[[str], list[Any]]


class Spoiled:
    """A scorer that raises for rows of one plan, and otherwise answers as the version does."""

    is_rowwise = True

    def __init__(self, served: Served, err: Exception, *, always: bool = False, on: str = "team"):
        self.served = served
        self.on = on
        self.err = err
        self.always = always

    def answers(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        if self.always or any(self.on in (row["plan"], row["region"]) for row in rows):
            raise self.err
        return self.served.scorer.answers(rows)


class Lane:
    """A rollout that sends ids of `c…` to its canary, and remembers what it is told."""

    def __init__(self, canary: Served | None = None):
        self.canary = canary
        self.failures: list[Exception] = []
        self.shadowed: list[tuple[str, list[Any]]] = []

    def chosen(self, request_id: str, champion: Served) -> tuple[Served, str]:
        if self.canary is not None and request_id.startswith("c"):
            return self.canary, "canary"
        return champion, "champion"

    def failed(self, served: Served, err: Exception) -> None:
        assert served is self.canary
        self.failures.append(err)

    def shadow(self, request_id: str, rows: Sequence[Any], at: object) -> None:
        self.shadowed.append((request_id, list(rows)))

    def refresh(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def served() -> Served:
    frame = make_frame(200)
    with threadpool_limits(1):
        model = build_pipeline(SPEC_).fit(frame, frame["churned"])
    golden: pd.DataFrame = frame[SPEC_.features.all].head(20)
    return a_served(SPEC_, model, golden)


@pytest.fixture(scope="module")
def app(served: Served, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    place = Settings(state_dir=tmp_path_factory.mktemp("predict") / "state", threads=1)
    return an_app(set_up(place, fresh), {"churn": served})


@pytest.fixture(scope="module")
def listening(app: FastAPI) -> Iterator[httpx.Client]:
    with running(app) as client:
        yield client


@pytest.fixture
def service(app: FastAPI, served: Served) -> Iterator[Service]:
    found: Service = app.state.service
    lanes = dict(found.rollouts)
    yield found
    found.rollouts = lanes
    found.holders["churn"].current = served


@pytest.fixture
def logged(service: Service) -> Logged:
    def rows(request_id: str) -> list[Any]:
        table = predictions.c
        with service.engine.connect() as connection:
            asked = sa.select(table.version, table.route, table.status, table.prediction_id)
            return [tuple(one) for one in connection.execute(asked.where(table.request_id == request_id))]

    return rows


def ask(client: httpx.Client, request_id: str = "", **row: Any) -> httpx.Response:
    headers = {"X-Request-ID": request_id} if request_id else {}
    return client.post("/predict/churn", json={"rows": [{**ROW, **row}]}, headers=headers)


def test_a_callers_own_id_names_the_request_and_its_rows(listening: httpx.Client, logged: Logged) -> None:
    given = ask(listening, "order-17.a:b")
    assert given.json()["request_id"] == "order-17.a:b"
    assert logged("order-17.a:b") == [(1, "champion", 200, "order-17.a:b/0")]


@pytest.mark.parametrize("name", ["a" * 65, "a b", "a/0", "ä", "'; drop", ""])
def test_an_id_that_is_long_or_odd_is_refused(listening: httpx.Client, name: str) -> None:
    given = listening.post(
        "/predict/churn", json={"rows": [ROW]}, headers=[(b"X-Request-ID", name.encode("latin-1"))]
    )
    assert given.status_code == 422
    assert "X-Request-ID" in given.json()["detail"]


def test_two_ids_of_one_request_are_refused(listening: httpx.Client) -> None:
    headers = [("X-Request-ID", "a1"), ("X-Request-ID", "a2")]
    assert listening.post("/predict/churn", json={"rows": [ROW]}, headers=headers).status_code == 422


def test_an_id_sent_again_is_refused_and_stored_once(listening: httpx.Client, logged: Logged) -> None:
    assert ask(listening, "twice").status_code == 200
    again = ask(listening, "twice", spend=99.0)
    assert again.status_code == 409
    assert "new id" in again.json()["detail"]
    assert len(logged("twice")) == 1


def test_of_many_requests_with_one_id_one_is_answered(listening: httpx.Client, logged: Logged) -> None:
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: ask(listening, "race").status_code, range(8)))
    assert sorted(codes) == [200] + [409] * 7
    assert len(logged("race")) == 1


def test_an_id_that_another_process_has_stored_is_refused(
    listening: httpx.Client, service: Service, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(listening, "elsewhere").status_code == 200
    monkeypatch.setattr("serving.routes.predict._Recent.add", lambda self, one: True)  # as in a new process
    assert ask(listening, "elsewhere").status_code == 409
    assert len(logged("elsewhere")) == 1


def test_an_id_whose_request_was_refused_may_be_sent_again(
    listening: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(listening, "later", spend="x").status_code == 422
    with monkeypatch.context() as patch:
        failing: Future[None] = Future()
        failing.set_exception(StoreError("a store that does not answer", "one that does"))
        patch.setattr(service.recorder, "record", lambda rows: failing)
        given = ask(listening, "later")
        assert given.status_code == 503
        assert given.headers["Retry-After"] == "1"
    assert ask(listening, "later").status_code == 200


def test_a_canarys_answer_goes_out_and_stands_in_the_log_as_its_own(
    listening: httpx.Client, service: Service, served: Served, logged: Logged
) -> None:
    canary = a_served(SPEC_, served.model, served.golden, version=2)
    lane = Lane(canary)
    service.rollouts = {"churn": lane}  # type: ignore[dict-item]
    assert ask(listening, "c-1").json()["version"] == 2
    assert ask(listening, "d-1").json()["version"] == 1
    assert logged("c-1") == [(2, "canary", 200, "c-1/0")]
    assert logged("d-1") == [(1, "champion", 200, "d-1/0")]
    assert [name for name, _ in lane.shadowed] == ["d-1"]  # what the canary answered needs no shadow
    assert lane.shadowed[0][1][0]["spend"] == 30.0
    assert lane.failures == []


def test_where_the_canary_fails_the_champion_answers(
    listening: httpx.Client, service: Service, served: Served, logged: Logged
) -> None:
    broken = Spoiled(served, ZeroDivisionError(), always=True)
    lane = Lane(a_served(SPEC_, served.model, served.golden, version=2, scorer=broken))
    service.rollouts = {"churn": lane}  # type: ignore[dict-item]
    given = ask(listening, "c-2")
    assert (given.status_code, given.json()["version"]) == (200, 1)
    assert logged("c-2") == [(1, "champion", 200, "c-2/0")]
    assert [type(err) for err in lane.failures] == [ZeroDivisionError]


class Slow:
    """A scorer that does not answer before it may."""

    is_rowwise = True

    def __init__(self) -> None:
        self.may = threading.Event()

    def answers(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        assert self.may.wait(30)
        raise ValueError("late")


def test_a_canary_that_hangs_delays_nobody_else_and_the_champion_answers_for_it(
    listening: httpx.Client, service: Service, served: Served, logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(CanaryLane, "deadline", 0.4)
    slow = Slow()
    lane = Lane(replace(served, version=7, scorer=slow))
    service.rollouts = {"churn": lane}  # type: ignore[dict-item]
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ask, listening, "c-hangs")
        for number in range(3):
            began = time.perf_counter()
            assert ask(listening, f"d-beside-{number}").json()["version"] == 1
            assert time.perf_counter() - began < 0.3
        assert not late.done()
        assert late.result().json()["version"] == 1
    assert logged("c-hangs") == [(1, "champion", 200, "c-hangs/0")]
    assert [type(err) for err in lane.failures] == [TimeoutError]
    lane.canary = replace(served, version=8)
    assert ask(listening, "c-next").json()["version"] == 8  # the next one is not stuck behind it
    slow.may.set()


def test_rows_that_neither_version_can_answer_are_no_failure_of_a_canary_that_is_well(
    listening: httpx.Client, service: Service, served: Served
) -> None:
    err = NoAnswer("no finite number")
    service.holders["churn"].current = replace(served, scorer=Spoiled(served, err, on="odd"))
    lane = Lane(replace(served, version=2, scorer=Spoiled(served, err, on="odd")))
    service.rollouts = {"churn": lane}  # type: ignore[dict-item]
    assert [ask(listening, f"c-odd-{n}", region="odd").status_code for n in range(4)] == [422] * 4
    assert lane.failures == []
    lane.canary = replace(served, version=3, scorer=Spoiled(served, err, always=True))
    assert ask(listening, "c-odd", region="odd").status_code == 422
    assert lane.failures == [err]  # it answers no row of its own either


@pytest.mark.parametrize(
    ("err", "always", "status", "words"),
    [
        (NoAnswer("no finite number"), False, 422, "no finite number"),
        (ValueError("secret 123"), False, 422, "cannot answer these rows (ValueError)"),
        (ValueError("secret 123"), True, 500, "version 1 cannot answer (ValueError)"),
        (TooBusy("1000 requests wait"), False, 503, "too busy"),
    ],
)
def test_rows_that_cannot_be_answered_are_told_apart_from_a_version_that_cannot_answer(
    listening: httpx.Client, service: Service, served: Served, logged: Logged,
    err: Exception, always: bool, status: int, words: str,
) -> None:  # fmt: skip
    scorer = Spoiled(served, err, always=always)
    service.holders["churn"].current = a_served(SPEC_, served.model, served.golden, scorer=scorer)
    given = ask(listening, "odd", plan="team")
    assert given.status_code == status
    assert words in given.json()["detail"]
    assert "secret" not in given.text
    assert logged("odd") == []
    if not always:
        assert ask(listening, plan="pro").status_code == 200
