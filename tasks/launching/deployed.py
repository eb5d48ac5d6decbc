"""Runs of deployments: created once per set of parameters, watched for a while, and never mistaken."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.utilities.urls import url_for

from tasks.core.errors import LaunchError
from tasks.store.schema import dump_json

_MAX_FAILED = 5  # earlier failed runs of the same launch that are stepped over


@dataclass(frozen=True)
class AskedRun:
    """A run of a deployment that was asked for: the same again for the same name and parameters."""

    model: str
    name: str
    parameters: dict[str, Any]  # Any: JSON
    key: str
    run: FlowRun

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.run.id)


def ask(name: str, parameters: dict[str, Any], *, model: str) -> AskedRun:  # Any: JSON
    """Return the run of deployment `name` (`flow/deployment`) with these parameters: a new one, or that of
    an equal call before. Earlier runs of it that failed are left behind.

    Raises:
        LaunchError: when there is no such deployment, it refuses the parameters, no server answers, or the
            same call has failed five times.
    """
    # A repeated key returns the first run and ignores new parameters, so the key covers them all.
    key = hashlib.sha256(dump_json([name, parameters]).encode()).hexdigest()
    for _ in range(_MAX_FAILED):
        run = _call(name, model, parameters=parameters, idempotency_key=key, timeout=0)
        if not _gone_wrong(run.state):
            return AskedRun(model, name, parameters, key, run)
        key = hashlib.sha256(f"{key}:{run.id}".encode()).hexdigest()  # it failed long ago: try anew
    raise LaunchError(
        f"{_MAX_FAILED} failed runs of {name} for the same decision",
        "a retraining that ends",
        f"read the log of run {run.id}, then start the deployment by hand",
        model=model,
    )


def watch(asked: AskedRun, seconds: float | None) -> State[Any] | None:
    """Return the run's state once it has ended or the time is over; None as for a run nobody has taken.

    Args:
        asked: the run.
        seconds: how long to wait; None: until it ends.

    Raises:
        LaunchError: when it failed, crashed or was cancelled: a failed child never looks like success.
    """
    state = asked.run.state
    if seconds != 0 and not (state and state.is_final()):
        # The same key returns the same run; only the waiting is new.
        waiting = {"timeout": seconds, "poll_interval": min(1.0, seconds or 1.0), "as_subflow": False}
        given = {"parameters": asked.parameters, "idempotency_key": asked.key, **waiting}
        state = _call(asked.name, asked.model, **given).state
    if state is None or state.is_scheduled():
        return None
    if _gone_wrong(state):
        raise failed(asked.model, state, asked.id)
    return state


def failed(model: str, state: State[Any], run_id: str | None) -> LaunchError:
    """Return the error that says how a retraining ended, and where to read why.

    The state's message stays where it is: it quotes errors of other packages, which may hold values of rows.
    """
    run = f"run {run_id}" if run_id else "its run"
    return LaunchError(
        f"retraining {run_id or 'without a run id'} ended {state.name}",
        "a completed run",
        f"open {run} and read why; the claim is free again once its process is gone",
        model=model,
    )


def why_nobody(asked: AskedRun, seconds: float | None) -> str:
    """Return why no worker has taken the run yet, as far as the server can tell, and what to do."""
    waited = "for ever" if seconds is None else f"for {seconds:g} s" if seconds else "yet"
    pool = asked.run.work_pool_name
    if not pool:
        return f"no worker took run {asked.id} {waited}: its deployment has no work pool"
    online = workers_online(pool)
    if online is None:
        found = "start one on it"
    elif online:
        found = f"{len(online)} online ({', '.join(online[:3])}), perhaps busy or over a limit"
    else:
        found = f"none is online: prefect worker start --pool {pool}"
    return f"no worker of pool {pool!r} took run {asked.id} {waited}: {found}"


def workers_online(pool: str) -> list[str] | None:
    """Return the names of the pool's workers that have been heard of lately; None where nobody answers."""
    try:
        with get_client(sync_client=True) as client:
            workers = client.read_workers_for_work_pool(pool)
    except (ObjectNotFound, PrefectHTTPStatusError, httpx.HTTPError):
        return None  # an extra for the message: the launch itself was answered
    return [worker.name for worker in workers if worker.status == WorkerStatus.ONLINE]


def link_to(run_id: str | None) -> str | None:
    """Return the address of a run's page, where the server has pages."""
    return (url_for("flow-run", obj_id=run_id) or None) if run_id else None


def form_of(name: str) -> str:
    """Return the address of the form that starts deployment `flow/name`; empty where there is none."""
    if not PREFECT_API_URL.value():
        return ""
    try:
        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(name)
    except (ObjectNotFound, PrefectHTTPStatusError, httpx.HTTPError):
        return ""  # an extra for a message
    page = url_for("deployment", obj_id=found.id)
    return f"{page}/run" if page else ""


def _gone_wrong(state: State[Any] | None) -> bool:
    return state is not None and (state.is_failed() or state.is_crashed() or state.is_cancelled())


def _call(name: str, model: str, **arguments: Any) -> FlowRun:  # Any: those of run_deployment
    try:
        return cast(FlowRun, run_deployment(name, **arguments))  # called from a flow's own, plain thread
    except ObjectNotFound as err:
        raise LaunchError(
            f"no deployment {name}", "one per model", "run `prefect deploy --all`", model=model
        ) from err
    except PrefectHTTPStatusError as err:
        raise LaunchError(
            f"the Prefect API answering {err.response.status_code} to a run of {name}",
            "parameters this deployment takes",
            "deploy again, so that the deployment and this code agree",
            model=model,
        ) from err
    except httpx.TransportError as err:
        raise LaunchError(
            f"no answer from the Prefect API ({type(err).__name__})",
            "a reachable server",
            "check PREFECT_API_URL; the decision is kept and may be launched again",
            model=model,
        ) from err
