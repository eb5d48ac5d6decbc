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
from prefect.states import Completed, State
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tasks.clock import now_or
from tasks.core.errors import LaunchError, WorkflowError
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import claims, ledger
from tasks.store.engine import open_store

Action = ledger.Action | Literal["dry run"]


@dataclass(frozen=True)
class Conclusion:
    """How an attempt ended, as the ledger has it."""

    model: str
    attempt: str
    action: Action
    why: str
    from_version: int | None = None
    to_version: int | None = None

    @property
    def outcome(self) -> str:
        """How it ended, in one word."""
        return self.action

    def sentence(self) -> str:
        """Return the end of the attempt as one line."""
        version = f" version {self.to_version}" if self.to_version else ""
        return f"{self.action}{version}: {self.why}"

    def state(self) -> State[Any]:
        """Return a completed state whose name says what happened."""
        return Completed(name=self.action.capitalize(), message=self.sentence()[:400], data=self)


@dataclass(frozen=True)
class Attempt:
    """What this run may do: `acquired` says whether the decision is ours to carry out, else `why` not."""

    id: str
    acquired: bool
    why: str
    owner: str
    as_of: datetime
    reason: str
    decision: dict[str, Any] = field(default_factory=dict)  # Any: JSON, the recorded decision


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def begin_attempt(
    spec: ModelSpec,
    as_of: datetime,
    *,
    reason: str,
    decision_id: str = "",
    settings: Settings | None = None,
) -> Attempt:
    """Return the attempt, acquired unless its decision was or is being carried out.

    Without a decision id the attempt is named by model, reason and moment: the same call is the same attempt.
    """
    engine = open_store(settings)
    (settings or Settings()).sweep_work(now_or(None).timestamp())
    given = decision_id or f"{reason}-{spec.name}-{as_of:%Y%m%dT%H%M%S}"
    identity = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in given)[:120]
    if not decision_id:
        identity = _untried(engine, spec.name, identity)
    # The run's own id: a repeated call of this task is the same owner.
    owner = claims.this_process(str(flow_run.id) if flow_run.id else None)
    claim = claims.claim(
        engine, identity, spec.name, owner, now_or(None)
    )  # leases are about processes, not history
    decided = next((row for row in ledger.decisions(engine, spec.name) if row.decision_id == identity), None)
    decision = {
        "id": identity,
        "kind": decided.kind if decided else "TRAIN",
        "cause": decided.cause if decided else reason,
        "reasons": list(decided.reasons) if decided else [f"asked for: {reason}"],
    }
    task_logger(__name__).info("%s: attempt %s is %s", spec.name, identity, claim.state)
    why = _why(claim.state, claim.holder)
    return Attempt(identity, claim.acquired, why, owner, as_of, reason, decision)


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
    dry_run: bool = False,
    settings: Settings | None = None,
) -> Conclusion:
    """Return the conclusion after writing it to the ledger; a dry run and a claim not ours leave no row."""
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
            evidence=attempt.decision,
            at=attempt.as_of,
        )
    task_logger(__name__).info("%s: attempt %s %s: %s", spec.name, attempt.id, action, why)
    return Conclusion(spec.name, attempt.id, action, why, from_version, to_version)


def still_ours(spec: ModelSpec, attempt: Attempt) -> None:
    """Return nothing while this run holds its claim.

    Raises:
        LaunchError: when the claim was lost, so that this run must leave nothing behind.
    """
    if not claims.renew(open_store(None), attempt.id, attempt.owner, now_or(None)):
        raise LaunchError(
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


def too_few_rows(spec: ModelSpec, new_rows: int) -> str:
    """Return why a retraining has to wait for more rows, or nothing when it need not."""
    least = spec.retrain.min_new_rows
    return "" if new_rows >= least else f"{new_rows} new labelled rows, retrain.min_new_rows is {least}"


def _why(state: str, holder: str) -> str:
    if state == "done":
        return "this decision was already carried out"
    return f"another run is training this model ({holder})" if state == "busy" else ""
