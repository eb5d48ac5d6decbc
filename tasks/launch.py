"""Starting the retraining that a decision asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any, cast

import httpx
from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from tasks.core.errors import LaunchError
from tasks.core.policy.decision import Decision
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import claims
from tasks.store.engine import open_store
from tasks.store.schema import dump_json

ENTRYPOINT = "flows.retrain.retrain"
WAIT_SECONDS = 60.0
_MAX_FAILED = 5  # earlier failed runs of the same launch that are stepped over


@dataclass(frozen=True)
class Launched:
    """What became of a launch.

    `started` says whether this call set a retraining going. `outcome` is how it ended (the name of its final
    state in lower case), or running, scheduled (no worker has taken it yet), busy or done (both by another
    launch).
    """

    mode: str
    started: bool
    outcome: str
    run_id: str | None
    reason: str


def launch_retraining(
    spec: ModelSpec,
    decision: Decision,
    *,
    as_of: datetime,
    settings: Settings | None = None,
    entrypoint: str = ENTRYPOINT,
    wait_seconds: float | None = WAIT_SECONDS,
) -> Launched:
    """Return what became of the retraining that `decision` asks for.

    However often one decision is launched, the claim inside the flow lets one retraining run.

    Args:
        spec: the model.
        decision: a decision of kind TRAIN.
        as_of: the moment the retraining acts as if it were.
        settings: this place; its `launch` chooses the mode.
        entrypoint: the flow an inline launch calls, found at run time since tasks never import flows.
        wait_seconds: how long a deployment launch watches its run; None: until it ends.

    Raises:
        LaunchError: when the decision is not TRAIN, the retraining cannot be started, or it failed.
    """
    settings = settings or Settings()
    if decision.kind != "TRAIN":
        raise LaunchError(
            f"decision {decision.id} to {decision.kind}",
            "a decision to TRAIN",
            "launch nothing",
            model=spec.name,
        )
    seen = claims.look(open_store(settings), decision.id, spec.name, utc(as_of))
    if not seen.acquired:
        launched = Launched(settings.launch, False, seen.state, None, _why_not(seen))
    elif settings.launch == "inline":
        launched = _inline(spec, decision, utc(as_of), entrypoint)
    elif settings.launch == "deployment":
        launched = _deployment(spec, decision, utc(as_of), wait_seconds)
    else:
        raise LaunchError(
            f"launch mode {settings.launch!r}",
            "inline or deployment",
            "set EVERGREEN_LAUNCH: events are not wired up yet",
            model=spec.name,
        )
    task_logger(__name__).info(
        "launch of decision %s for %s: %s %s (%s)",
        *(decision.id, spec.name, launched.mode, launched.outcome, launched.reason),
    )
    return launched


def _inline(spec: ModelSpec, decision: Decision, as_of: datetime, entrypoint: str) -> Launched:
    retrain = _resolve(entrypoint)
    reason = _reason(decision)
    arguments = {"as_of": as_of, "reason": reason, "decision_id": decision.id}
    if not isinstance(retrain, Flow):
        result = retrain(spec, **arguments)
        return Launched("inline", True, str(getattr(result, "outcome", result)), None, reason)
    state = cast(Callable[..., State[Any]], retrain)(spec, **arguments, return_state=True)
    return _ended(spec, "inline", state, str(state.state_details.flow_run_id or "") or None, reason)


def _deployment(spec: ModelSpec, decision: Decision, as_of: datetime, wait_seconds: float | None) -> Launched:
    name = f"retrain/{spec.name}"
    reason = _reason(decision)
    parameters = {
        "spec": spec.model_dump(mode="json"),
        "as_of": as_of.isoformat(),
        "reason": reason,
        "decision_id": decision.id,
    }
    run = _watched(spec, name, parameters, wait_seconds)
    state = run.state
    if state is None or state.is_scheduled():
        waited = "for ever" if wait_seconds is None else f"for {wait_seconds:g} s"
        todo = f"no worker took run {run.id} {waited}: start one on the deployment's work pool"
        return Launched("deployment", False, "scheduled", str(run.id), todo)
    if not state.is_final():
        return Launched("deployment", True, "running", str(run.id), reason)
    return _ended(spec, "deployment", state, str(run.id), reason)


def _created(spec: ModelSpec, name: str, parameters: dict[str, Any]) -> tuple[FlowRun, str]:  # Any: JSON
    """Return the run of these parameters and its key: a new one, or that of an equal launch before."""
    # A repeated key returns the first run and ignores new parameters, so the key covers them all.
    key = hashlib.sha256(dump_json([name, parameters]).encode()).hexdigest()
    for _ in range(_MAX_FAILED):
        run = _call(spec, name, parameters=parameters, idempotency_key=key, timeout=0)
        if run.state is None or not (
            run.state.is_failed() or run.state.is_crashed() or run.state.is_cancelled()
        ):
            return run, key
        key = hashlib.sha256(f"{key}:{run.id}".encode()).hexdigest()  # it failed long ago: try anew
    raise LaunchError(
        f"{_MAX_FAILED} failed runs of {name} for the same decision",
        "a retraining that ends",
        f"read the log of run {run.id}, then start the deployment by hand",
        model=spec.name,
    )


def _watched(
    spec: ModelSpec, name: str, parameters: dict[str, Any], wait_seconds: float | None
) -> FlowRun:  # Any: JSON
    run, key = _created(spec, name, parameters)
    if wait_seconds == 0 or (run.state and run.state.is_final()):
        return run
    # The same key returns the same run; only the waiting is new.
    waiting = {"timeout": wait_seconds, "poll_interval": min(1.0, wait_seconds or 1.0), "as_subflow": False}
    return _call(spec, name, parameters=parameters, idempotency_key=key, **waiting)


def _call(spec: ModelSpec, name: str, **arguments: Any) -> FlowRun:  # Any: those of run_deployment
    try:
        return cast(FlowRun, run_deployment(name, **arguments))  # called from a flow's own, plain thread
    except ObjectNotFound as err:
        raise LaunchError(
            f"no deployment {name}", "one per model", "run `prefect deploy --all`", model=spec.name
        ) from err
    except PrefectHTTPStatusError as err:
        raise LaunchError(
            f"the Prefect API answering {err.response.status_code} to a run of {name}",
            "parameters this deployment takes",
            "deploy again, so that the deployment and this code agree",
            model=spec.name,
        ) from err
    except httpx.TransportError as err:
        raise LaunchError(
            f"no answer from the Prefect API ({type(err).__name__})",
            "a reachable server",
            "check PREFECT_API_URL; the decision is kept and may be launched again",
            model=spec.name,
        ) from err


def _ended(spec: ModelSpec, mode: str, state: State[Any], run_id: str | None, reason: str) -> Launched:
    if state.is_completed():
        return Launched(mode, True, (state.name or "completed").lower(), run_id, state.message or reason)
    raise LaunchError(
        f"retraining {run_id or ''} ended {state.name}: {(state.message or 'no message')[:200]}",
        "a completed run",
        "read its log; the claim is free again once its process is gone",
        model=spec.name,
    )


def _resolve(entrypoint: str) -> Callable[..., Any]:  # Any: a flow's own signature
    module, _, name = entrypoint.rpartition(".")
    try:
        return cast(Callable[..., Any], getattr(import_module(module), name))
    except (ImportError, AttributeError, ValueError) as err:
        raise LaunchError(
            f"no flow at {entrypoint}", "package.module.flow", "run from the project's folder"
        ) from err


def _reason(decision: Decision) -> str:
    return "; ".join(decision.reasons) or decision.cause


def _why_not(seen: claims.Claim) -> str:
    if seen.state == "done":
        return f"decision already ended: {seen.outcome}"
    return f"decision {seen.decision_id} is being worked on by {seen.holder}"
