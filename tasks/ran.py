"""A note of every run that came to an end. For the hooks of every flow.

@flow(on_completion=[note_run], on_failure=[..., note_run], on_crashed=[..., note_run])
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectException
from sqlalchemy.exc import SQLAlchemyError

from tasks.clock import now_or
from tasks.core.errors import WorkflowError
from tasks.core.records.failure import model_name
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.run_state import outcome_of, show_outcome
from tasks.settings import Settings
from tasks.store import flow_runs
from tasks.store.engine import open_store

_LONGEST_NAME = 60


def note_run(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Write down that the run ended, and how; a run never fails for want of this note.

    Runs in the flow's own process, or in the worker's where that process is gone.
    """
    noted(flow.name, flow_run, state)
    show_outcome(flow_run, state)


def noted(
    flow_name: str, flow_run: FlowRun, state: State[Any], *, settings: Settings | None = None
) -> flow_runs.FlowRun | None:
    """Return what was written of the run; None where the store did not take it, or a dry run changed nothing.

    A run without a model of its own, for example of all models, is written under `*`.
    """
    parameters = dict(flow_run.parameters or {})
    if parameters.get("dry_run"):
        return None
    started, seconds = _spent(flow_run, state)
    row = flow_runs.FlowRun(
        model=_model(parameters.get("spec")),
        flow=flow_name,
        run_id=str(flow_run.id),
        as_of=_moment(parameters.get("as_of")) or started,
        started_at=started,
        seconds=seconds,
        outcome=outcome_of(state)[:_LONGEST_NAME],
    )
    try:
        flow_runs.record(open_store(settings), row)
    except (WorkflowError, SQLAlchemyError, OSError) as err:
        task_logger(__name__).warning(
            "%s: run %s of %s is not on record (%s)", row.model, row.run_id, row.flow, type(err).__name__
        )
        return None
    return row


def _model(raw: object) -> str:
    if raw is None:
        return "*"
    return raw.name if isinstance(raw, ModelSpec) else model_name(raw)


def _spent(flow_run: FlowRun, state: State[Any]) -> tuple[datetime, float]:
    """Return when the run began and how many seconds it ran, as far as the API knows.

    The run that a hook is given was read before it began, and so knows neither.
    """
    ended = _aware(state.timestamp)
    known = flow_run if flow_run.start_time else _read(flow_run)
    started = _aware(known.start_time) if known.start_time else ended
    counted = known.total_run_time.total_seconds()
    return started, counted if counted > 0 else max(0.0, (ended - started).total_seconds())


def _read(flow_run: FlowRun) -> FlowRun:
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(flow_run.id)
    except (httpx.HTTPError, PrefectException):
        return flow_run


def _moment(raw: object) -> datetime | None:
    if raw is None:
        return None
    try:
        return _aware(raw)
    except (ValueError, WorkflowError):
        return None


def _aware(raw: object) -> datetime:
    # By way of text, because Prefect's own datetimes lose their zone in arithmetic.
    return now_or(datetime.fromisoformat(raw.isoformat() if isinstance(raw, datetime) else str(raw)))
