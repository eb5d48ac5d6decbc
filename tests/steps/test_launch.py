"""A launch starts at most one retraining, and a failure never looks like success."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from tasks import launch
from tasks.core.errors import LaunchError
from tasks.core.policy.decision import Decision
from tasks.core.spec import ModelSpec
from tasks.launching import deployed as deployed_module
from tasks.launching.emit import Emitted, event_id
from tasks.settings import Settings
from tasks.store import claims, ledger, outbox
from tasks.store.engine import close_stores, open_store
from tests.make import make_spec

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TRAIN = Decision("TRAIN", "decay", ("score fell", "twice"), "train-1")


class Server:
    """Stands for the Prefect API: runs by idempotency key, in the states it is told."""

    def __init__(self, *ends: StateType, first: StateType = StateType.SCHEDULED):
        self.ends, self.first = list(ends), first
        self.runs: dict[str, FlowRun] = {}
        self.calls: list[dict[str, Any]] = []

    def __call__(self, name: str, **given: Any) -> FlowRun:
        self.calls.append({"name": name, **given})
        key = given["idempotency_key"]
        if key not in self.runs:
            state = State(type=self.first, name=self.first.value.title())
            pool = {"work_pool_name": "evergreen"}
            self.runs[key] = FlowRun(id=uuid4(), flow_id=uuid4(), state=state, **pool)
        elif given["timeout"] != 0 and self.ends:
            end = self.ends.pop(0)
            self.runs[key].state = State(type=end, name=end.value.title(), message="as told")
        return self.runs[key]


@pytest.fixture
def deployed(settings: Settings) -> Settings:
    return settings.model_copy(update={"launch": "deployment"})


def serve(monkeypatch: pytest.MonkeyPatch, server: Callable[..., FlowRun]) -> None:
    monkeypatch.setattr(deployed_module, "run_deployment", server)
    monkeypatch.setattr(deployed_module, "workers_online", lambda pool: None)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_stores()


def start(settings: Settings, decision: Decision = TRAIN, **over: Any) -> launch.Launched:
    return launch.launch_retraining(make_spec(), decision, **{"as_of": NOW, "settings": settings, **over})


@pytest.fixture
def retrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ModelSpec, dict[str, Any]]]:
    """Calls of a stand-in for the retraining flow, at `stand_in.retrain`."""
    calls: list[tuple[ModelSpec, dict[str, Any]]] = []
    module = ModuleType("stand_in")

    def retrain(spec: ModelSpec, **given: Any) -> str:
        calls.append((spec, given))
        return "promoted"

    module.retrain = retrain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stand_in", module)
    return calls


def test_inline_calls_the_flow_with_the_decision(settings: Settings, retrained: list[Any]) -> None:
    launched = start(settings, entrypoint="stand_in.retrain")
    expected = {"as_of": NOW, "reason": "score fell; twice", "decision_id": "train-1"}
    assert retrained == [(make_spec(), expected)]
    assert launched == launch.Launched("inline", True, "promoted", None, "score fell; twice")


@pytest.mark.parametrize("state", ["busy", "done"])
def test_a_decision_somebody_works_on_or_ended_is_not_launched(
    settings: Settings, retrained: list[Any], state: str
) -> None:
    me = claims.this_process()
    claims.claim(open_store(settings), TRAIN.id, "churn", me, datetime.now(UTC))
    if state == "done":
        claims.finish(open_store(settings), TRAIN.id, me, "kept")
    launched = start(settings, entrypoint="stand_in.retrain")
    assert (launched.started, launched.outcome, retrained) == (False, state, [])
    assert ("kept" if state == "done" else me) in launched.reason


@pytest.mark.parametrize("kind", ["SKIP", "BLOCK"])
def test_only_a_decision_to_train_can_be_launched(settings: Settings, kind: Any) -> None:
    with pytest.raises(LaunchError, match=f"train-1 to {kind}"):
        start(settings, replace(TRAIN, kind=kind))


@pytest.mark.parametrize("entrypoint", ["stand_in.missing", "no_such_module.retrain", "plain"])
def test_an_entrypoint_that_is_not_there_is_named(
    settings: Settings, retrained: list[Any], entrypoint: str
) -> None:
    with pytest.raises(LaunchError, match=f"no flow at {entrypoint}"):
        start(settings, entrypoint=entrypoint)


def test_a_deployment_is_asked_with_parameters_the_flow_takes(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(StateType.COMPLETED)
    serve(monkeypatch, server)
    launched = start(deployed)
    (run,) = server.runs.values()
    expected = launch.Launched("deployment", True, "completed", str(run.id), "as told")
    assert replace(launched, link=None) == expected
    assert server.calls[0]["name"] == "retrain/churn"
    given = server.calls[0]["parameters"]
    assert ModelSpec.model_validate(given.pop("spec")) == make_spec()
    assert given == {"as_of": NOW.isoformat(), "reason": "score fell; twice", "decision_id": "train-1"}
    # Waiting asks for the same run again: without its parameters the server would refuse the request.
    assert server.calls[1]["parameters"] is server.calls[0]["parameters"]


def test_the_same_launch_twice_is_one_run_and_other_parameters_another(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    serve(monkeypatch, server)
    first, again = (start(deployed, wait_seconds=0) for _ in range(2))
    later = start(deployed, wait_seconds=0, as_of=NOW + timedelta(days=1))
    assert first.run_id == again.run_id
    assert (later.run_id == first.run_id, len(server.runs)) == (False, 2)


def test_a_run_no_worker_takes_is_not_called_started(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, Server(StateType.SCHEDULED))
    launched = start(deployed, wait_seconds=8)
    assert (launched.started, launched.outcome) == (False, "scheduled")
    assert f"took run {launched.run_id} for 8 s" in launched.reason


@pytest.mark.parametrize(
    ("online", "message"),
    [
        (
            [],
            "no worker of pool 'evergreen' took run .* yet: none is online: prefect worker start",
        ),
        (["one", "two"], "2 online \\(one, two\\), perhaps busy"),
        (None, "start one on it"),
    ],
)
def test_why_nobody_takes_a_run_is_said(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, online: list[str] | None, message: str
) -> None:
    serve(monkeypatch, Server(StateType.SCHEDULED))
    monkeypatch.setattr(deployed_module, "workers_online", {"evergreen": online}.get)
    assert re.search(message, start(deployed, wait_seconds=0).reason)


def test_a_run_that_goes_on_is_called_running(deployed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Server(StateType.RUNNING))
    launched = start(deployed, wait_seconds=8)
    assert (launched.started, launched.outcome) == (True, "running")


@pytest.mark.parametrize("end", [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED])
def test_a_child_that_fails_fails_the_launch(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, end: StateType
) -> None:
    serve(monkeypatch, server := Server(end))
    with pytest.raises(LaunchError) as caught:
        start(deployed)
    [run] = server.runs.values()
    assert caught.value.found == f"retraining {run.id} ended {end.value.title()}"
    assert caught.value.todo.startswith(f"open run {run.id}")
    assert "as told" not in str(caught.value), "what it told may hold a value of a row"


def test_an_earlier_failed_run_of_the_same_launch_is_not_mistaken_for_this_one(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(StateType.FAILED, StateType.COMPLETED)
    serve(monkeypatch, server)
    with pytest.raises(LaunchError):
        start(deployed)
    assert start(deployed).outcome == "completed"
    assert len(server.runs) == 2


def test_runs_that_fail_at_once_are_not_started_for_ever(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(first=StateType.FAILED)
    serve(monkeypatch, server)
    with pytest.raises(LaunchError, match="5 failed runs"):
        start(deployed)
    assert len(server.runs) == 5


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ObjectNotFound(Exception("gone")), "no deployment retrain/churn.*prefect deploy"),
        (httpx.ConnectError("refused"), "no answer from the Prefect API"),
        (
            PrefectHTTPStatusError(
                "x", request=httpx.Request("POST", "http://api"), response=httpx.Response(409)
            ),
            "answering 409",
        ),
    ],
)
def test_a_server_that_cannot_start_it_is_a_launch_error(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, fault: Exception, message: str
) -> None:
    def refuse(name: str, **given: Any) -> FlowRun:
        raise fault

    serve(monkeypatch, refuse)
    with pytest.raises(LaunchError, match=message):
        start(deployed)


def test_a_deployment_launch_counts_as_sent(deployed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(deployed)
    ledger.record_decision(store, TRAIN, model="churn", at=NOW, now=datetime.now(UTC))
    serve(monkeypatch, Server())
    start(deployed, wait_seconds=0)
    row = outbox.find(store, "churn", TRAIN.id)
    assert row
    assert (row.tries, row.sent_at is not None) == (1, True)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Decisions whose event was sent, at a place where launches are events."""
    sent: list[tuple[str, str]] = []

    def emit(model: str, decision_id: str) -> Emitted:
        sent.append((model, decision_id))
        return Emitted(event_id(model, decision_id), "https://server/events/event/1")

    monkeypatch.setattr(launch, "emit_decision", emit)
    return sent


def by_event(settings: Settings, *, written: timedelta | None = timedelta(0), **over: Any) -> launch.Launched:
    place = settings.model_copy(update={"launch": "event"})
    if written is not None:
        now = datetime.now(UTC) - written
        ledger.record_decision(open_store(place), TRAIN, model="churn", at=NOW, now=now)
    return start(place, **over)


def test_an_event_is_sent_once_and_the_launch_returns_at_once(
    settings: Settings, events: list[tuple[str, str]]
) -> None:
    first, again = by_event(settings), by_event(settings)
    link = "https://server/events/event/1"
    assert first == launch.Launched("event", True, "asked", None, "score fell; twice", link)
    assert (again.started, again.outcome, again.link) == (False, "asked", None)
    assert events == [("churn", "train-1")]


def test_of_ten_threads_that_launch_one_decision_one_sends_its_event(
    settings: Settings, events: list[tuple[str, str]]
) -> None:
    ledger.record_decision(open_store(settings), TRAIN, model="churn", at=NOW, now=datetime.now(UTC))
    with ThreadPoolExecutor(10) as pool:
        every = list(pool.map(lambda _: by_event(settings, written=None), range(10)))
    assert sorted(one.started for one in every) == [False] * 9 + [True]
    assert len(events) == 1


def test_a_decision_nobody_recorded_sends_no_event(settings: Settings, events: list[Any]) -> None:
    with pytest.raises(LaunchError, match="train-1 not on record"):
        by_event(settings, written=None)
    assert events == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"written": timedelta(days=3, minutes=1)}, "decided 3 days ago, a decision stands for 3 days"),
        ({"written": timedelta(minutes=-6)}, "ahead of this clock"),
        ({"as_of": datetime.now(UTC) + timedelta(hours=1)}, "dated .* ahead of this clock"),
    ],
)
def test_a_decision_that_no_longer_stands_sends_no_event(
    settings: Settings, events: list[Any], given: dict[str, Any], reason: str
) -> None:
    launched = by_event(settings, **given)
    assert (launched.started, launched.outcome, events) == (False, "void", [])
    assert re.search(reason, launched.reason)


def test_an_event_that_could_not_be_sent_may_be_sent_again(
    settings: Settings, events: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(launch, "emit_decision", _refusing)
        with pytest.raises(LaunchError, match="not taken"):
            by_event(settings)
    assert by_event(settings).started
    assert events == [("churn", "train-1")]


def _refusing(model: str, decision_id: str) -> Emitted:
    raise LaunchError("event not taken", model=model)
