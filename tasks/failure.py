"""A page on every failed run: why, and what now. For `on_failure` and `on_crashed` of every flow.

@flow(on_failure=[explain_failure], on_crashed=[explain_failure])
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.exceptions import PrefectException
from sqlalchemy.exc import SQLAlchemyError

from tasks.clock import now_or
from tasks.core.errors import WorkflowError
from tasks.core.policy.partners import pair_after
from tasks.core.policy.served import SERVING
from tasks.core.records.again import command_again
from tasks.core.records.failure import (
    Cause,
    Failure,
    cause_of_crash,
    cause_of_error,
    described_source,
    failure_markdown,
    model_name,
)
from tasks.core.records.text import artifact_key
from tasks.core.spec import ModelSpec, parse_spec
from tasks.core.window import Window, parse_duration
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import ledger
from tasks.store.engine import open_store


def explain_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Keep an artifact `<model>-failure` on the run: which data, which step, which cause, what now.

    Runs in the flow's own process, or in the worker's where that process is gone.
    """
    explain(flow.name, flow_run, state)


def explain(
    flow_name: str, flow_run: FlowRun, state: State[Any], *, settings: Settings | None = None
) -> Failure:
    """Return what the artifact just kept says about the run that ended in this state."""
    parameters = dict(flow_run.parameters or {})
    raw = parameters.get("spec")
    spec = _spec(raw)
    model = spec.name if spec else model_name(raw)
    cause = _cause(flow_run.id, state)
    failure = Failure(
        model=model,
        flow=flow_name,
        ended=str(state.name or state.type.value).lower(),
        cause=cause,
        source=described_source(spec) if spec else "",
        span=f"window {cause.window}" if cause.window else (_span(flow_name, spec, flow_run) if spec else ""),
        serving=_serving(model, settings),
        command=command_again(flow_name, model, parameters, deployed=flow_run.deployment_id is not None),
    )
    _keep(failure, flow_run.id)
    task_logger(__name__).info("%s: why it failed stands in %s", model, artifact_key(model, "failure"))
    return failure


def _spec(raw: object) -> ModelSpec | None:
    if isinstance(raw, ModelSpec):
        return raw
    try:
        return parse_spec(raw)
    except WorkflowError:
        return None


def _cause(run_id: UUID, state: State[Any]) -> Cause:
    held = getattr(state.data, "result", state.data)  # a record of the result, or the error itself
    if isinstance(held, BaseException) and not state.is_crashed():
        return cause_of_error(held)
    return cause_of_crash(str(state.message or ""), step=_last_step(run_id))


def _last_step(run_id: UUID) -> str:
    """Return the task that was at work when the process ended, as far as the API knows."""
    one = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    try:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=one, limit=200)
    except (httpx.HTTPError, PrefectException):
        return ""
    begun = [run for run in runs if run.start_time is not None]
    unfinished = [run for run in begun if run.state is None or not run.state.is_completed()]
    last = max(unfinished or begun, key=_began, default=None)
    return last.name.rpartition("-")[0] or last.name if last else ""


def _began(run: TaskRun) -> datetime:
    return run.start_time or now_or(None)


def _span(flow_name: str, spec: ModelSpec, flow_run: FlowRun) -> str:
    """Return the window the run was about, as its parameters say it; empty where they do not."""
    parameters = flow_run.parameters or {}
    try:
        asked = parameters.get("as_of")
        # As text, because Prefect's own datetimes lose their zone in arithmetic.
        text = asked or (flow_run.start_time.isoformat() if flow_run.start_time else "")
        moment = now_or(datetime.fromisoformat(str(text)) if text else None).replace(second=0, microsecond=0)
        if not asked and parameters.get("decision_id"):
            return f"the training window of decision {parameters['decision_id']}"
        if flow_name == "retrain":
            return (
                f"window {Window.ending(moment - parse_duration(spec.label.maturity), spec.window.training)}"
            )
        if flow_name == "monitor":
            return f"window {Window.ending(moment - parse_duration(spec.label.maturity), spec.window.check)}"
        return f"window {Window.ending(moment, spec.window.check)}" if flow_name == "detect_drift" else ""
    except (ValueError, OverflowError, WorkflowError):
        return ""


def _serving(model: str, settings: Settings | None) -> str:
    """Return which version serves by the ledger: a failed run has moved nothing."""
    try:
        rows = ledger.history(open_store(settings), model)
    except (WorkflowError, SQLAlchemyError, OSError) as err:
        return f"not known: the store does not answer ({type(err).__name__})"
    served = [row for row in rows if row.action in SERVING]
    if not served:
        return "no version: this model has no champion yet"
    last = served[-1]
    verb = last.action.replace("_", " ")
    return f"{pair_after(rows)}, {verb} by {last.actor} on {last.at:%Y-%m-%d %H:%M} UTC"


def _keep(failure: Failure, run_id: UUID) -> None:
    # Not `create_markdown_artifact`: no run is in its context any more.
    artifact = ArtifactCreate(
        key=artifact_key(failure.model, "failure"),
        type="markdown",
        description=f"{failure.flow} {failure.ended}: {failure.cause.found}"[:1000],
        data=failure_markdown(failure),
        flow_run_id=run_id,
    )
    with get_client(sync_client=True) as client:
        client.create_artifact(artifact)
