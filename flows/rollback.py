"""Rollback: what served before serves again, after it was loaded and has answered its golden rows."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import State

from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.core.form import ABOUT_MODEL, Actor, AsOf, BeforeCommit, DryRun, Reason, Version
from tasks.core.spec import ModelSpec
from tasks.declared import check_declared
from tasks.deployer import announce_promotion
from tasks.failure import explain_failure
from tasks.notify import tell_decided
from tasks.publish import publish_decision
from tasks.ran import note_run
from tasks.rollback import only_planned, plan_rollback, roll_back


def _run_name() -> str:
    given = flow_run.parameters
    where = f"to version {given['to_version']}" if given.get("to_version") else "to the one before"
    if given.get("before_commit"):
        where = f"to before commit {given['before_commit'][:12]}"
    return f"{given['spec'].name}: rollback {where}" + (" (dry)" if given["dry_run"] else "")


@flow(
    name="rollback",
    flow_run_name=_run_name,
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def rollback(
    spec: ModelSpec = ABOUT_MODEL,
    to_version: Version = None,
    before_commit: BeforeCommit = "",
    reason: Reason = "",
    actor: Actor = "",
    dry_run: DryRun = True,
    as_of: AsOf = None,
) -> State[Any]:
    """Let an earlier version serve again; a dry run, the default, only says what would change.

    Args:
        spec: The model, as written under `definitions.models`.
        to_version: Which version, alone; default: what served before the last move, so that a second
            opinion that came or left last is undone first, and else the last version that served before
            the present one and was not itself rolled back.
        before_commit: Instead of a version: the last that served and was made before this commit of the
            project, because that commit was a mistake.
        reason: Why; kept in the ledger. Needed unless it is a dry run.
        actor: Who decides; kept in the ledger. Needed unless it is a dry run.
        dry_run: Load and check the version and say what would change, but move nothing.
        as_of: The moment to act as if it were, not before the newest row of the ledger; default: now.
    """
    check_declared(spec)
    moment = now_or(as_of)
    plan = plan_rollback(
        spec,
        to_version,
        as_of=moment,
        actor=actor,
        reason=reason,
        before_commit=before_commit,
        dry_run=dry_run,
    )
    ended = only_planned(plan) if dry_run else roll_back(spec, plan, actor=actor, reason=reason, as_of=moment)
    if ended.has_moved_champion:
        announce_promotion(
            spec,
            version=ended.version,
            from_version=ended.from_version,
            action="rolled_back",
            decision_id=ended.attempt,
            digest=ended.digest,
            as_of=moment,
        )
        why = f"version {ended.version} serves again by {actor}: {reason}"
        tell_decided(spec, ended.attempt, "rolled back", why, as_of=moment)
    publish_decision(spec, ended)
    return ended.state()


if __name__ == "__main__":
    raise SystemExit(run_flow(rollback))
