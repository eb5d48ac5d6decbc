"""A page on every failed run that says why, also where the process is gone or the store is away."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed, Failed

from tasks import failure
from tasks.core.errors import ContractError, FetchError
from tasks.core.records.failure import Failure
from tasks.core.spec import ModelSpec
from tasks.failure import explain, explain_failure
from tasks.settings import Settings
from tasks.store import ledger
from tasks.store.engine import open_store
from tests.make import make_spec

CANARY = "jane@example.org"
AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Failure]:
    """Pages that would have been sent to the Prefect API."""
    pages: list[Failure] = []
    monkeypatch.setattr(failure, "_keep", lambda page, run_id: pages.append(page))
    monkeypatch.setattr(failure, "_last_step", lambda run_id: "train_challenger")
    return pages


def run(parameters: dict[str, Any], **over: Any) -> FlowRun:
    return FlowRun(id=uuid4(), flow_id=uuid4(), name="r", parameters=parameters, start_time=AT, **over)


def params(**over: Any) -> dict[str, Any]:
    return {"spec": make_spec().model_dump(mode="json"), **over}


def test_a_typed_error_gives_data_step_cause_and_what_now(kept: list[Failure], settings: Settings) -> None:
    err = FetchError("no table events", "the table of the spec", "correct source.table", window="w1")
    said = explain("retrain", run(params()), Failed(data=err, message="x"), settings=settings)
    assert kept == [said]
    assert (said.model, said.ended) == ("churn", "failed")
    assert said.source == "source sqlite:///customers.db, table customer_events"
    assert said.span == "window w1"
    assert said.cause.found == "no table events"
    assert said.cause.todo == "correct source.table"
    assert said.serving == "no version: this model has no champion yet"
    assert said.command == "python flows/retrain.py --model churn"


def test_the_champion_that_still_serves_is_the_last_one_promoted_or_rolled_back_to(
    kept: list[Failure], settings: Settings
) -> None:
    engine = open_store(settings)
    served: list[tuple[str, ledger.Action, int]] = [
        ("a", "promoted", 1),
        ("b", "promoted", 2),
        ("c", "rolled_back", 1),
    ]
    for decision, action, version in served:
        ledger.record(
            engine, model="churn", decision_id=decision, action=action, from_version=None, to_version=version,
            actor="jo", reason="x", at=AT,
        )  # fmt: skip
    ledger.record(
        engine, model="churn", decision_id="d", action="kept", from_version=1, to_version=3, actor="gate",
        reason="x", at=AT,
    )  # fmt: skip
    said = explain("monitor", run(params()), Failed(data=ContractError("x")), settings=settings)
    assert said.serving == "version 1, rolled back by jo on 2026-01-05 10:00 UTC"


def test_a_store_that_is_away_hides_nothing_else(kept: list[Failure], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "store.db").write_text("this is no database")
    said = explain(
        "retrain",
        run(params()),
        Failed(data=FetchError("no rows")),
        settings=Settings(state_dir=tmp_path / "state"),
    )
    assert said.serving.startswith("not known: the store does not answer (")
    assert said.cause.found == "no rows"


def test_a_run_whose_process_is_gone_names_the_step_at_work_and_says_to_run_again(
    kept: list[Failure], settings: Settings
) -> None:
    state: State[Any] = Crashed(message="Flow run process exited with non-zero status code -9.")
    said = explain("retrain", run(params(), deployment_id=uuid4()), state, settings=settings)
    assert said.ended == "crashed"
    assert "status -9 (killed" in said.cause.found
    assert said.cause.step == "train_challenger"
    assert said.span == "window 2025-12-06T10:00Z..2026-01-03T10:00Z", "labels mature in 2 days"
    assert said.command == "prefect deployment run 'retrain/churn'"


def test_the_command_carries_the_decision_and_the_moment_and_never_the_spec(
    kept: list[Failure], settings: Settings
) -> None:
    asked = params(
        decision_id="train-decay-1", as_of="2026-01-12T00:00:00Z", reason="score fell", force=False
    )
    failed: State[Any] = Failed(data=FetchError("x"))
    said = explain("retrain", run(asked), failed, settings=settings)
    assert said.command == (
        "python flows/retrain.py --model churn --decision-id train-decay-1"
        " --as-of 2026-01-12T00:00:00+00:00 --reason 'score fell'"
    )
    said = explain("retrain", run(asked, deployment_id=uuid4()), failed, settings=settings)
    assert said.command == (
        "prefect deployment run 'retrain/churn' --param decision_id=train-decay-1"
        " --param as_of=2026-01-12T00:00:00+00:00 --param 'reason=score fell'"
    )
    said = explain("monitor", run(asked), failed, settings=settings)
    assert said.command == "python flows/monitor.py --model churn --as-of 2026-01-12T00:00:00+00:00"


@pytest.mark.parametrize("spec", [None, "x", {"name": "churn"}, {"name": "a b"}, 7])
def test_parameters_that_are_no_model_still_get_a_page(
    kept: list[Failure], settings: Settings, spec: object
) -> None:
    said = explain("retrain", run({"spec": spec}), Failed(data=ValueError(CANARY)), settings=settings)
    assert said.model == ("churn" if spec == {"name": "churn"} else "unknown")
    assert said.source == ""
    assert CANARY not in str(said)


@pytest.mark.parametrize(
    ("flow_name", "asked", "span"),
    [
        ("detect_drift", {"as_of": "2026-01-12T00:00:00Z"}, "window 2026-01-05T00:00Z..2026-01-12T00:00Z"),
        ("monitor", {"as_of": "2026-01-12T00:00:00+00:00"}, "window 2026-01-03T00:00Z..2026-01-10T00:00Z"),
        ("retrain", {"decision_id": "train-age-1"}, "the training window of decision train-age-1"),
        ("detect_drift", {"as_of": "soon"}, ""),
        ("detect_drift", {"as_of": "2026-01-12T00:00:00"}, ""),
        ("promote", {}, ""),
    ],
)
def test_the_window_is_that_of_the_run_s_own_parameters(
    kept: list[Failure], settings: Settings, flow_name: str, asked: dict[str, str], span: str
) -> None:
    said = explain(flow_name, run(params(**asked)), Failed(data=FetchError("x")), settings=settings)
    assert said.span == span


@task(retries=0, timeout_seconds=60, cache_policy=NO_CACHE)
def read_rows(text: str) -> None:
    """Fail as pandas does, with a value in the message."""
    raise ValueError(f"could not convert {text!r}")


@flow(name="retrain", on_failure=[explain_failure], on_crashed=[explain_failure], persist_result=False)
def failing(spec: ModelSpec) -> None:
    """Read rows that cannot be read."""
    read_rows(CANARY)


@pytest.mark.engine
def test_a_failed_run_has_one_page_on_the_server_without_a_value_of_any_row(
    prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    state = failing(make_spec(), return_state=True)
    assert state.is_failed()
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=mine)
    found = [artifact for artifact in found if artifact.key]  # the flow's own result has none
    assert [artifact.key for artifact in found] == ["churn-failure"]
    page = str(found[0].data)
    assert "ValueError: an error of another package" in page
    assert "no version: this model has no champion yet" in page
    assert CANARY not in page + str(found[0].description)
