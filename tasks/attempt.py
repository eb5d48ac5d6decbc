"""One attempt at retraining: claimed under its decision, ended in the ledger, released when it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import State
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tasks.clock import now_or
from tasks.core.errors import Overtaken, WorkflowError
from tasks.core.model.new_rows import default_min_new_rows
from tasks.core.policy.standing import objection, overtaken
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration
from tasks.log import task_logger
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import claims, ledger, outbox
from tasks.store.engine import open_store

Action = ledger.Action | Literal["dry run"]
BY_EVENT = "event"  # the reason an automation gives: anybody can emit an event, so its decision must be ours


@dataclass(frozen=True)
class Conclusion:
    """How an attempt ended, as the ledger has it; `caused_by` is the id of the check run behind it."""

    model: str
    attempt: str
    action: Action
    why: str
    from_version: int | None = None
    to_version: int | None = None
    caused_by: str | None = None

    @property
    def outcome(self) -> str:
        """How it ended, in one word."""
        return self.action

    def sentence(self) -> str:
        """Return the end of the attempt as one line."""
        version = f" version {self.to_version}" if self.to_version else ""
        return f"{self.action}{version}: {self.why}"

    def state(self) -> State[Any]:
        """Return a completed state that says what happened."""
        return completed(self.action.capitalize(), self.sentence(), self)


@dataclass(frozen=True)
class Attempt:
    """What this run may do: `acquired` says whether the decision is ours to carry out, else `why` not.

    `as_of` is the moment up to which it looks at data. `at` is when it counts as done: by the clock, unless
    somebody said which moment to act as of; where the check itself acted as of another time, by that time
    going on. `decision` is the recorded decision as JSON: id, kind, cause,
    reasons, `decided_at` and `caused_by`, the id of the check run that decided (None where not on record).
    """

    id: str
    acquired: bool
    why: str
    owner: str
    as_of: datetime
    at: datetime
    reason: str
    decision: dict[str, Any] = field(default_factory=dict)  # Any: JSON


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def begin_attempt(
    spec: ModelSpec,
    as_of: datetime | None,
    *,
    reason: str,
    decision_id: str = "",
    settings: Settings | None = None,
) -> Attempt:
    """Return the attempt, acquired unless its decision was or is being carried out or no longer stands.

    Without a decision id the attempt is named by model, reason and moment: the same call is the same attempt.
    Without `as_of` it acts as of the moment of its decision, or of now where that is not on record.
    """
    engine = open_store(settings)
    (settings or Settings()).sweep_work(now_or(None).timestamp())
    decided = ledger.decided(engine, spec.name, _identity(decision_id)) if decision_id else None
    moment = now_or(as_of or (decided.at if decided else None))
    identity = _identity(decision_id or f"{reason}-{spec.name}-{moment:%Y%m%dT%H%M%S}")
    if not decision_id:
        identity = _untried(engine, spec.name, identity)
        decided = ledger.decided(engine, spec.name, identity)
    # The run's own id: a repeated call of this task is the same owner.
    owner = claims.this_process(str(flow_run.id) if flow_run.id else None)
    decision = _decision(identity, decided, reason)
    asked = outbox.find(engine, spec.name, identity)
    at = moment if as_of else _counts_as(moment, decided, asked)
    why = _void(spec, identity, asked, reason=reason, acts_as_of=None if as_of else moment)
    if decided and not why:
        why = overtaken(ledger.history(engine, spec.name), identity, decided.at)
    if why:
        task_logger(__name__).info("%s: attempt %s starts nothing: %s", spec.name, identity, why)
        return Attempt(identity, False, why, owner, moment, at, reason, decision)
    # Leases are about processes, not history: they go by the clock.
    claim = claims.claim(engine, identity, spec.name, owner, now_or(None))
    task_logger(__name__).info("%s: attempt %s is %s", spec.name, identity, claim.state)
    why = _why(claim.state, claim.holder)
    if claim.acquired and (ended := _ended_without_version(engine, spec.name, identity)):
        claims.finish(engine, identity, owner, ended)  # its run died between the ledger and its end
        return Attempt(identity, False, _why("done", ""), owner, moment, at, reason, decision)
    return Attempt(identity, claim.acquired, why, owner, moment, at, reason, decision)


@contextmanager
def carrying_out(spec: ModelSpec, attempt: Attempt) -> Iterator[None]:
    """Hold the claim while the attempt runs: finished at the end, given back when anything fails.

    A run that is killed gives nothing back; the claim is then taken over because its process is gone. The
    lease is renewed while the attempt runs, however long a training takes.
    """
    engine = open_store(None)
    over = threading.Event()

    def renewed() -> None:
        while not over.wait(claims.LEASE.total_seconds() / 4):
            with suppress(WorkflowError, SQLAlchemyError):  # a lease outlasts three failures
                claims.renew(engine, attempt.id, attempt.owner, now_or(None))

    threading.Thread(target=renewed, daemon=True).start()
    try:
        yield
    except BaseException:
        claims.release(engine, attempt.id, attempt.owner)
        raise
    finally:
        over.set()
    row = ledger.find(engine, spec.name, attempt.id)
    if row:
        claims.finish(engine, attempt.id, attempt.owner, row.action)
    else:  # a dry run: the decision may still be carried out
        claims.release(engine, attempt.id, attempt.owner)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def conclude(
    spec: ModelSpec,
    attempt: Attempt,
    action: Action,
    why: str,
    *,
    to_version: int | None = None,
    from_version: int | None = None,
    digest: str = "",
    dry_run: bool = False,
    settings: Settings | None = None,
) -> Conclusion:
    """Return the conclusion after writing it to the ledger; a dry run and a claim not ours leave no row.

    `digest` is that of the version it is about: what a person approves later must be what was compared now.
    """
    if attempt.acquired and not dry_run and action != "dry run":
        ledger.record(
            open_store(settings),
            model=spec.name,
            decision_id=attempt.id,
            action=action,
            from_version=from_version,
            to_version=to_version,
            actor="retrain",
            reason=why,
            evidence={**attempt.decision, **({"digest": digest} if digest else {})},
            at=attempt.at,
        )
    task_logger(__name__).info("%s: attempt %s %s: %s", spec.name, attempt.id, action, why)
    caused_by = attempt.decision.get("caused_by")
    return Conclusion(spec.name, attempt.id, action, why, from_version, to_version, caused_by)


def outcome_on_record(spec: ModelSpec, attempt: Attempt) -> tuple[Action, str] | None:
    """Return how the ledger says this attempt ended, and why; None while it has no row."""
    row = ledger.find(open_store(None), spec.name, attempt.id)
    return (row.action, row.reason) if row else None


def still_ours(spec: ModelSpec, attempt: Attempt) -> None:
    """Return nothing while this run holds its claim.

    Raises:
        Overtaken: when the claim was lost, so that this run must leave nothing behind.
    """
    if not claims.renew(open_store(None), attempt.id, attempt.owner, now_or(None)):
        raise Overtaken(
            f"attempt {attempt.id} taken over by another run",
            "a claim that holds until the end",
            "nothing: the other run carries it out",
            model=spec.name,
        )


def _untried(engine: Engine, model: str, identity: str) -> str:
    """Return the name of a call made by hand: what was only skipped or blocked before may be tried again."""
    name, count = identity, 1
    while (row := ledger.find(engine, model, name)) and row.action in {"skipped", "blocked"}:
        count += 1
        name = f"{identity}-{count}"
    return name


def too_few_rows(spec: ModelSpec, new_rows: int, window_rows: int) -> str:
    """Return why a retraining has to wait for more rows, or nothing when it need not.

    `window_rows` are the labelled rows of the training window, of which new ones must be a certain share.
    """
    least = default_min_new_rows(spec, window_rows)
    return "" if new_rows >= least else f"{new_rows} new labelled rows, retrain.min_new_rows is {least}"


def _identity(given: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in given)[:120]


def _decision(identity: str, decided: ledger.DecisionRow | None, reason: str) -> dict[str, Any]:  # Any: JSON
    return {
        "id": identity,
        "kind": decided.kind if decided else "TRAIN",
        "cause": decided.cause if decided else reason,
        "reasons": list(decided.reasons) if decided else [f"asked for: {reason}"],
        "decided_at": decided.at.isoformat() if decided else None,
        "caused_by": decided.run_id if decided else None,
    }


def _counts_as(moment: datetime, decided: ledger.DecisionRow | None, asked: outbox.Asked | None) -> datetime:
    """Return when what is done now counts as done, in the time that the decision was made in."""
    if decided is None or asked is None:
        return moment
    return max(moment, decided.at + (now_or(None) - asked.written_at))


def _ended_without_version(engine: Engine, model: str, identity: str) -> str:
    """Return how this attempt has ended already, where there is nothing left to do after it."""
    row = ledger.find(engine, model, identity)
    return row.action if row and row.to_version is None else ""


def _void(
    spec: ModelSpec,
    identity: str,
    asked: outbox.Asked | None,
    *,
    reason: str,
    acts_as_of: datetime | None,
) -> str:
    """Return why the decision may start nothing, or nothing when it may."""
    if asked is None:
        return f"no decision {identity} to train on record" if reason == BY_EVENT else ""
    valid_for = parse_duration(spec.retrain.valid_for)
    return objection(
        written_at=asked.written_at, acts_as_of=acts_as_of, valid_for=valid_for, now=now_or(None)
    )


def _why(state: str, holder: str) -> str:
    if state == "done":
        return "this decision was already carried out"
    return f"another run is training this model ({holder})" if state == "busy" else ""
