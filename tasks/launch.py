"""Starting the retraining that a decision asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any, Literal, cast

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from sqlalchemy.engine import Engine

from tasks.clock import now_or
from tasks.core.errors import LaunchError
from tasks.core.form import fit_reason
from tasks.core.policy.decision import Decision
from tasks.core.policy.standing import due, objection
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration, utc
from tasks.launching.deployed import ask, failed, link_to, watch, why_nobody
from tasks.launching.emit import emit_decision
from tasks.log import task_logger
from tasks.run_state import outcome_of, sentence_of
from tasks.settings import Settings
from tasks.store import claims, outbox
from tasks.store.engine import open_store

Mode = Literal["inline", "deployment", "event"]

ENTRYPOINT = "flows.retrain.retrain"
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Launched:
    """What became of a launch.

    `started` says whether this call set a retraining going. `outcome` is how it ended (the name of its final
    state in lower case), or asked (an event was sent, now or a moment ago: whatever listens starts the run),
    running, scheduled (no worker has taken it yet), busy or done (both by another launch), or void (the
    decision no longer stands). `link` is the page of the run or event, where there is one.
    """

    mode: Mode
    started: bool
    outcome: str
    run_id: str | None
    reason: str
    link: str | None = None


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
        as_of: the moment the retraining acts as if it were; by event it is that of the recorded decision.
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
    store, mode = open_store(settings), launch_mode(settings)
    seen = claims.look(store, decision.id, spec.name, now_or(None))
    if not seen.acquired:
        launched = Launched(mode, False, seen.state, None, _why_not(seen))
    elif mode == "inline":
        launched = _inline(spec, decision, utc(as_of), entrypoint)
    elif mode == "deployment":
        launched = _deployment(spec, decision, utc(as_of), store, wait_seconds)
    else:
        launched = _event(spec, decision, utc(as_of), store)
    task_logger(__name__).info(
        "launch of decision %s for %s: %s %s (%s)",
        *(decision.id, spec.name, launched.mode, launched.outcome, launched.reason),
    )
    return launched


def launch_mode(settings: Settings) -> Mode:
    """Return how retraining is started here; a run of a deployment has a server whose automation listens."""
    if settings.launch == "auto":
        return "event" if deployment.id else "inline"
    return settings.launch


def _inline(spec: ModelSpec, decision: Decision, as_of: datetime, entrypoint: str) -> Launched:
    retrain = _resolve(entrypoint)
    reason = _reason(decision)
    arguments = {"as_of": as_of, "reason": reason, "decision_id": decision.id}
    if not isinstance(retrain, Flow):
        result = retrain(spec, **arguments)
        return Launched("inline", True, str(getattr(result, "outcome", result)), None, reason)
    state = cast(Callable[..., State[Any]], retrain)(spec, **arguments, return_state=True)
    run_id = str(state.state_details.flow_run_id or "") or None
    if not state.is_completed():
        raise failed(spec.name, state, run_id)
    return _completed("inline", state, run_id, reason)


def _deployment(
    spec: ModelSpec, decision: Decision, as_of: datetime, store: Engine, wait_seconds: float | None
) -> Launched:
    reason = _reason(decision)
    parameters = {
        "spec": spec.model_dump(mode="json"),
        "as_of": as_of.isoformat(),
        "reason": reason,
        "decision_id": decision.id,
    }
    asked = ask(f"retrain/{spec.name}", parameters, model=spec.name)
    if row := outbox.find(store, spec.name, decision.id):
        outbox.take(store, row, now_or(None))
    state = watch(asked, wait_seconds)
    if state is None:
        todo, link = why_nobody(asked, wait_seconds), link_to(asked.id)
        return Launched("deployment", False, "scheduled", asked.id, todo, link)
    if not state.is_final():
        return Launched("deployment", True, "running", asked.id, reason, link_to(asked.id))
    return _completed("deployment", state, asked.id, reason)


def _event(spec: ModelSpec, decision: Decision, as_of: datetime, store: Engine) -> Launched:
    asked, now = outbox.find(store, spec.name, decision.id), now_or(None)
    if asked is None:
        raise LaunchError(
            f"decision {decision.id} not on record",
            "a decision that was recorded before it is launched",
            "launch what reach_decision returned, without dry_run",
            model=spec.name,
        )
    valid_for = parse_duration(spec.retrain.valid_for)
    why = objection(written_at=asked.written_at, acts_as_of=as_of, valid_for=valid_for, now=now)
    if why:
        return Launched("event", False, "void", None, why)
    if not (due(sent_at=asked.sent_at, now=now) and outbox.take(store, asked, now)):
        return Launched("event", False, "asked", None, "its event was sent a moment ago")
    try:
        emitted = emit_decision(spec.name, decision.id)
    except BaseException:
        outbox.give_back(store, asked)
        raise
    return Launched("event", True, "asked", None, _reason(decision), emitted.link)


def _completed(mode: Mode, state: State[Any], run_id: str | None, reason: str) -> Launched:
    outcome = outcome_of(state).lower()
    return Launched(mode, True, outcome, run_id, sentence_of(state) or reason, link_to(run_id))


def _resolve(entrypoint: str) -> Callable[..., Any]:  # Any: a flow's own signature
    module, _, name = entrypoint.rpartition(".")
    try:
        return cast(Callable[..., Any], getattr(import_module(module), name))
    except (ImportError, AttributeError, ValueError) as err:
        raise LaunchError(
            f"no flow at {entrypoint}", "package.module.flow", "run from the project's folder"
        ) from err


def _reason(decision: Decision) -> str:
    return fit_reason("; ".join(decision.reasons) or decision.cause)


def _why_not(seen: claims.Claim) -> str:
    if seen.state == "done":
        return f"decision already ended: {seen.outcome}"
    return f"decision {seen.decision_id} is being worked on by {seen.holder}"
