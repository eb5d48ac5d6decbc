"""A note of every run that ended: who, when, how long, how; and never a run that fails for want of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from prefect import flow
from prefect.client.schemas.objects import FlowRun as PrefectRun
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, Failed
from pydantic import SecretStr

from tasks import ran
from tasks.core.spec import ModelSpec
from tasks.ran import note_run, noted
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import flow_runs
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.stores import BOTH, fresh_store

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path):
    with fresh_store(request.param, request, tmp_path) as found:
        yield found


def run(parameters: dict[str, Any], *, seconds: float = 90.0) -> PrefectRun:
    return PrefectRun(
        id=uuid4(), flow_id=uuid4(), name="r", parameters=parameters, start_time=AT,
        total_run_time=timedelta(seconds=seconds),
    )  # fmt: skip


def row(hours: float, outcome: str = "Ok: SKIP", *, flow: str = "monitor") -> flow_runs.FlowRun:
    moment = AT + hours * HOUR
    return flow_runs.FlowRun("churn", flow, f"{flow}-{hours}", moment, moment, 60.0, outcome)


def test_a_run_is_noted_once_with_model_moment_seconds_and_outcome(settings: Settings) -> None:
    given = run({"spec": make_spec().model_dump(mode="json"), "as_of": "2025-12-24T00:00:00+00:00"})
    for _ in range(2):
        noted("monitor", given, completed("Ok: SKIP", "nothing calls for training", None), settings=settings)
    (kept,) = flow_runs.read(open_store(settings), "churn")
    assert kept == flow_runs.FlowRun(
        "churn", "monitor", str(given.id), datetime(2025, 12, 24, tzinfo=UTC), AT, 90.0, "Ok: SKIP"
    )


@pytest.mark.parametrize(("state", "outcome"), [(Failed(), "Failed"), (Crashed(), "Crashed")])
def test_a_run_that_failed_is_noted_too_and_acts_at_its_start_without_an_as_of(
    settings: Settings, state: State[Any], outcome: str
) -> None:
    found = noted("score", run({"spec": make_spec()}), state, settings=settings)
    assert found is not None
    assert (found.outcome, found.as_of, found.started_at) == (outcome, AT, AT)


def test_a_dry_run_and_one_of_a_broken_spec_do_no_harm(settings: Settings) -> None:
    assert (
        noted("monitor", run({"spec": make_spec(), "dry_run": True}), Completed(), settings=settings) is None
    )
    broken = noted(
        "monitor", run({"spec": {"name": "odd", "task": 7}, "as_of": "soon"}), Failed(), settings=settings
    )
    assert broken is not None
    assert (broken.model, broken.as_of) == ("odd", AT)
    fleet = noted("scorecard", run({}), Completed(), settings=settings)
    assert fleet is not None
    assert fleet.model == "*"


def test_a_store_that_is_away_fails_no_run(tmp_path: Path) -> None:
    away = Settings(
        state_dir=tmp_path, store=SecretStr("postgresql://nobody:x@127.0.0.1:9/none?connect_timeout=1")
    )
    assert noted("monitor", run({"spec": make_spec()}), Completed(), settings=away) is None


def test_a_real_run_says_how_long_it_took(
    prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))

    @flow(name="naps", persist_result=False, on_completion=[note_run], on_failure=[note_run])
    def naps(spec: ModelSpec, as_of: datetime | None = None, fails: bool = False) -> State[Any]:
        time.sleep(0.3)
        if fails:
            raise RuntimeError("bad night")
        return Completed(name="Rested")

    naps(make_spec(), as_of=AT, return_state=True)
    naps(make_spec(), fails=True, return_state=True)
    rested, failed = flow_runs.read(open_store(Settings()), "churn")
    assert (rested.flow, rested.outcome, rested.as_of) == ("naps", "Rested", AT)
    assert 0.2 < rested.seconds < 20
    assert abs(datetime.now(UTC) - rested.started_at) < timedelta(minutes=5)
    assert (failed.outcome, failed.as_of) == ("Failed", failed.started_at)


def test_an_api_that_does_not_answer_leaves_the_state_to_tell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ran, "_read", lambda given: given)
    bare = PrefectRun(id=uuid4(), flow_id=uuid4(), name="r", parameters={"spec": make_spec()})
    state: State[Any] = Completed()
    found = noted("monitor", bare, state, settings=settings)
    assert found is not None
    assert (found.started_at, found.seconds) == (state.timestamp, 0.0)


def test_runs_are_read_by_the_moment_they_acted_for(engine: sa.Engine) -> None:
    for hours in (3, 1, 2):
        assert flow_runs.record(engine, row(hours))
    assert not flow_runs.record(engine, row(1))
    assert [one.as_of for one in flow_runs.read(engine, "churn")] == [AT + n * HOUR for n in (1, 2, 3)]
    some = flow_runs.read(engine, "churn", since=AT + 2 * HOUR, until=AT + 2 * HOUR)
    assert [one.as_of for one in some] == [AT + 2 * HOUR]
    assert flow_runs.read(engine, "other") == []


def test_the_rhythm_of_a_flow_is_its_good_runs_and_what_failed_since(engine: sa.Engine) -> None:
    for hours in range(20):
        flow_runs.record(engine, row(hours, "Failed" if hours in (5, 18, 19) else "Ok: SKIP"))
    flow_runs.record(engine, row(1, "Crashed", flow="score"))
    ask: dict[str, Any] = {"as_of": AT + 30 * HOUR, "within": timedelta(days=9)}
    monitor, score = flow_runs.rhythms(engine, "churn", ("monitor", "detect_drift", "score"), **ask)
    assert monitor.succeeded == tuple(AT + hours * HOUR for hours in range(6, 18))
    assert monitor.failed_since == 2
    assert (score.succeeded, score.failed_since) == ((), 1)
    then = flow_runs.rhythms(engine, "churn", ("monitor",), AT + 4 * HOUR, within=timedelta(days=9))
    assert len(then[0].succeeded) == 5, "what came later is not seen"
    assert flow_runs.rhythms(engine, "churn", ("monitor",), AT + 99 * HOUR, within=HOUR) == []
