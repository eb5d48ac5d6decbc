"""Promote: a person looks at what waits, approves or rejects it by name, or freezes new trusted rows."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import State

from tasks.approve import approve, reject
from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.core.form import ABOUT_MODEL, Actor, AsOf, Reason, Version
from tasks.core.policy.approval import approval_cause
from tasks.core.spec import ModelSpec
from tasks.declared import check_declared
from tasks.deployer import announce_promotion
from tasks.failure import explain_failure
from tasks.notify import settle, tell_decided
from tasks.publish import publish_decision
from tasks.ran import note_run
from tasks.renewal import renew_anchor, renewed
from tasks.waiting import as_state, look_at_waiting, publish_waiting


def _run_name() -> str:
    given = flow_run.parameters
    which = f"version {given['version']}" if given.get("version") else "the newest"
    return f"{given['spec'].name}: {given['verdict']} {which}"


@flow(
    name="promote",
    flow_run_name=_run_name,
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def promote(
    spec: ModelSpec = ABOUT_MODEL,
    verdict: Literal["look", "approve", "reject", "renew_anchor"] = "look",
    version: Version = None,
    reason: Reason = "",
    actor: Actor = "",
    as_of: AsOf = None,
) -> State[Any]:
    """Show what waits for approval, approve or reject a version, or freeze new trusted rows.

    Only approving moves the champion.

    Args:
        spec: The model, as written under `definitions.models`.
        verdict: `look` changes nothing; `approve` lets the version serve; `reject` ends its waiting;
            `renew_anchor` freezes rows that the version has not learnt from as the trusted ones.
        version: Which version. A look takes the newest that waits where none is given, a renewal the
            champion; to approve and to reject it is needed. Approving takes any registered one.
        reason: Why; kept in the ledger. Needed but for a look.
        actor: Who decides; kept in the ledger. Needed but for a look.
        as_of: The moment to act as if it were, not before the newest row of the ledger; default: now.
    """
    check_declared(spec)
    moment = now_or(as_of)
    if verdict == "look":
        shelf = look_at_waiting(spec, version)
        publish_waiting(spec, shelf)
        return as_state(shelf)
    if verdict == "renew_anchor":
        return renewed(spec, renew_anchor(spec, version, actor=actor, reason=reason, as_of=moment))
    rule = approve if verdict == "approve" else reject
    ruling = rule(spec, version, actor=actor, reason=reason, as_of=moment)
    if ruling.action == "promoted":
        announce_promotion(
            spec,
            version=ruling.version,
            from_version=ruling.from_version,
            action="promoted",
            decision_id=ruling.attempt,
            digest=ruling.digest,
            as_of=moment,
        )
    tell_decided(spec, ruling.attempt, ruling.action, ruling.sentence(), as_of=moment)
    if ruling.version not in ruling.left:
        settle(spec, approval_cause(ruling.version), as_of=moment)
    publish_decision(spec, ruling)
    return ruling.state()


if __name__ == "__main__":
    raise SystemExit(run_flow(promote))
