"""Retrain: one decision becomes at most one version, and a champion only where the gate agrees."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import State

from tasks.anchor import current_anchor, fix_anchor
from tasks.attempt import (
    Action,
    Attempt,
    begin_attempt,
    carrying_out,
    conclude,
    outcome_on_record,
    still_ours,
    too_few_rows,
)
from tasks.cli import run_flow
from tasks.core.errors import Overtaken, PromotionRefused, WorkflowError
from tasks.core.form import ABOUT_MODEL, AsOf, DecisionId, DryRun, Force, Reason
from tasks.core.policy.approval import approval_cause
from tasks.core.results import Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc
from tasks.declared import check_declared
from tasks.deployer import announce_promotion
from tasks.evaluate import evaluate_pair
from tasks.failure import explain_failure
from tasks.fetch import Fetched, commit_watermark, fetch_training
from tasks.launching.deployed import form_of
from tasks.notify import settle, signal, tell, tell_decided
from tasks.publish import publish_comparison, publish_decision, publish_validation
from tasks.ran import note_run
from tasks.reference import profile_reference
from tasks.refit import refit_challenger
from tasks.register import (
    ChampionInfo,
    Registered,
    champion,
    file_version,
    find_registered,
    move_champion,
    note_registered,
    reading_both,
    register_version,
    save_snapshot,
    served_by,
    unseen_rows,
)
from tasks.run_state import completed
from tasks.selftest import run_self_test
from tasks.train import train_challenger
from tasks.validate import infer_contract_from_source, set_suspects_aside, validate


def _run_name() -> str:
    given = flow_run.parameters
    reason = given["reason"] if len(given["reason"]) <= 60 else f"{given['reason'][:59]}…"
    return f"{given['spec'].name}: retrain ({reason})" + (" (dry)" if given["dry_run"] else "")


@flow(
    name="retrain",
    flow_run_name=_run_name,
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def retrain(
    spec: ModelSpec = ABOUT_MODEL,
    as_of: AsOf = None,
    reason: Reason = "manual",
    decision_id: DecisionId = "",
    dry_run: DryRun = False,
    force: Force = False,
) -> State[Any]:
    """Train a challenger on the newest labelled rows and let the gate decide whether it becomes champion.

    Args:
        spec: The model, as written under `definitions.models`.
        as_of: The moment to act as if it were; default: that of the decision, or now.
        reason: Why this retraining was started; kept in the ledger.
        decision_id: The decision that asked for it; the same id never trains twice.
        dry_run: Train and compare, but register and promote nothing.
        force: Train even if there are fewer new rows than retrain.min_new_rows.
    """
    check_declared(spec)
    attempt = begin_attempt(spec, as_of, reason=reason, decision_id=decision_id)
    if not attempt.acquired:
        return end(spec, attempt, "skipped", attempt.why)
    try:
        with carrying_out(spec, attempt):
            return carry_out(spec, attempt, dry_run=dry_run, force=force)
    except Overtaken as err:  # the other run ends it, and tells what comes of it
        return completed("Overtaken", err.found, None)
    except Exception as err:
        # The text of an error that is not ours may hold what nobody should read: its kind is told.
        why = str(err) if isinstance(err, WorkflowError) else f"{type(err).__name__}, see the failed run"
        tell(spec, "critical", "retraining", f"retraining failed: {why}", as_of=attempt.at)
        raise


def carry_out(spec: ModelSpec, attempt: Attempt, *, dry_run: bool, force: bool) -> State[Any]:
    """Fetch, check, train, compare, refit what passed, and end the attempt as the gate says."""
    incumbent = champion(spec.name)
    earlier = find_registered(spec, attempt.id)
    if earlier:  # a run of this decision died after its version was registered: end it as that run would have
        if dry_run:
            why = f"version {earlier.version.number} of an earlier run is still to be ended: {earlier.why}"
            return end(spec, attempt, "dry run", why, dry_run=True)
        complete(spec, attempt, earlier, incumbent)
        return finish(spec, attempt, earlier, fetch_training(spec, earlier.as_of))

    spec = reading_both(spec, incumbent)
    fetched = fetch_training(spec, attempt.as_of)
    spec = reading_both(spec, incumbent, fetched.dataset.columns)
    if incumbent and not force and (why := too_few_rows(spec, fetched.new_rows, fetched.window_rows)):
        return end(spec, attempt, "skipped", why, dry_run=dry_run)

    checked = validate(spec, fetched.dataset, attempt=attempt.id)
    publish_validation(spec, checked.report, fetched.dataset.window)
    if checked.report.outcome == "block":
        why = checked.report.sentence()
        if not dry_run:
            tell(spec, "critical", "training data", f"retraining blocked: {why}", as_of=attempt.at)
        return end(spec, attempt, "blocked", why, dry_run=dry_run)

    rows = set_suspects_aside(spec, checked.dataset, as_of=attempt.as_of, attempt=attempt.id)
    snapshot = save_snapshot(rows, spec)
    anchor = current_anchor(spec)
    known = {
        "champion_model": incumbent.model_path if incumbent else None,
        "champion_train_end": incumbent.train_end if incumbent else None,
        "anchor_path": anchor.path if anchor else None,
    }
    trained = train_challenger(spec, rows, attempt.id, **known)
    evaluated = evaluate_pair(
        spec,
        trained,
        incumbent.ref if incumbent else None,
        anchor=anchor,
        champion_snapshot=incumbent.manifest.snapshot if incumbent else None,
        notes=[served_by(spec, incumbent)[1]] if incumbent else (),
    )
    publish_comparison(spec, evaluated, trained.train_window)
    if dry_run:
        return end(spec, attempt, "dry run", evaluated.decision.sentence(), dry_run=True)
    signal(spec, evaluated.looks(), look=attempt.id, as_of=attempt.at)

    window = Window.ending(trained.train_window.end, spec.window.training)
    reference = profile_reference(spec, trained, rows_path=rows.path, since=window.start)
    final = refit_challenger(spec, rows, trained, evaluated, **known)
    still_ours(spec, attempt)
    register_version(
        spec, attempt.id, final, evaluated, reference, snapshot, attempt.decision, as_of=attempt.as_of
    )
    made = find_registered(spec, attempt.id)
    if anchor is None and made.promote:  # never from rows that the gate itself doubts
        fix_first_anchor(spec, attempt, made, final, incumbent)
    return finish(spec, attempt, made, fetched)


def complete(spec: ModelSpec, attempt: Attempt, earlier: Registered, incumbent: ChampionInfo | None) -> None:
    """Do what the run that registered this version had yet to do before its end, where it did not."""
    note_registered(spec, earlier.version)
    # Once another champion serves, nobody knows here which of the rows that one has learnt from.
    is_as_then = earlier.champion_version == (incumbent.version if incumbent else None)
    if not is_as_then or not earlier.promote or current_anchor(spec) is not None:
        return
    if trained := unseen_rows(spec, earlier.version):
        fix_first_anchor(spec, attempt, earlier, trained, incumbent)


def fix_first_anchor(
    spec: ModelSpec, attempt: Attempt, made: Registered, trained: Trained, incumbent: ChampionInfo | None
) -> None:
    """Freeze rows that neither this version nor the one it was compared with has learnt from."""
    fix_anchor(
        spec,
        trained,
        version=made.version.number,
        actor="retrain",
        reason="the first rows no version has learnt from",
        as_of=attempt.at,
        champion=incumbent.ref if incumbent else None,
    )


def finish(spec: ModelSpec, attempt: Attempt, made: Registered, fetched: Fetched) -> State[Any]:
    """Promote or keep the registered version, record it, and move the watermark last."""
    for cause in ("training data", "retraining"):
        settle(spec, cause, as_of=attempt.at)
    action: Action = "kept"
    why, asked = made.why, {"asked_for": attempt.decision, "caused_by": attempt.decision.get("caused_by")}
    if recorded := outcome_on_record(
        spec, attempt
    ):  # an earlier run came so far; people may have acted since
        action, why = recorded
    elif made.promote and spec.gate.promotion == "auto":
        try:
            move_champion(
                spec,
                made.version,
                actor="gate",
                reason=why,
                decision_id=attempt.id,
                as_of=attempt.at,
                expected=made.champion_version,
                note=asked,
            )
            action = "promoted"
        except PromotionRefused as err:  # another version serves by now, or this one cannot be served
            action, why = "refused", str(err)
    elif waits_for_a_person(spec, made):
        action = "waiting"
        message = approval_opened(spec, made, attempt)
        cause, form = approval_cause(made.version.number), form_of(f"promote/{spec.name}")
        tell(spec, "warning", cause, message, as_of=attempt.at, link=form)
    ended = conclude(
        spec,
        attempt,
        action,
        why,
        from_version=made.champion_version,
        to_version=made.version.number,
        digest=made.version.digest,
    )
    if action != "waiting":
        told = f"version {made.version.number} {action}"
        told += f" ({spec.metric} {made.compared})" if made.compared else ""
        tell_decided(spec, attempt.id, action, f"{told}: {why}", as_of=attempt.at)
    file_version(
        spec,
        made.version.number,
        action,
        actor="gate",
        reason=why,
        decision_id=attempt.id,
        as_of=attempt.at,
    )
    if action == "promoted":
        announce_promotion(
            spec,
            version=made.version.number,
            from_version=made.champion_version,
            action="promoted",
            decision_id=attempt.id,
            digest=made.version.digest,
            as_of=attempt.at,
        )
    # Last, so that an attempt that dies before its end is recorded fetches the same rows again.
    commit_watermark(spec, fetched, attempt.id)
    publish_decision(spec, ended, because=attempt.decision)
    return ended.state()


def approval_opened(spec: ModelSpec, made: Registered, attempt: Attempt) -> str:
    """Return what a person has to know to rule on it: until when, both scores, and the gate's words."""
    until = utc(attempt.at) + parse_duration(spec.gate.approval)
    scores = f"; {spec.metric} {made.compared}" if made.compared else ""
    until_when = f"version {made.version.number} waits for approval until {until:%Y-%m-%d %H:%M} UTC"
    return f"{until_when}{scores}: {made.why}"


def waits_for_a_person(spec: ModelSpec, made: Registered) -> bool:
    """Tell whether a person decides: the spec says so, or something speaks against a better challenger."""
    if spec.gate.promotion == "dry_run":
        return False
    return made.ask or (made.promote and spec.gate.promotion == "manual")


def end(spec: ModelSpec, attempt: Attempt, action: Action, why: str, *, dry_run: bool = False) -> State[Any]:
    """Record and show the end of an attempt that registered no version."""
    ended = conclude(spec, attempt, action, why, dry_run=dry_run)
    publish_decision(spec, ended, because=attempt.decision)
    return ended.state()


if __name__ == "__main__":
    raise SystemExit(
        run_flow(retrain, infer_contract=infer_contract_from_source, gate_self_test=run_self_test)
    )
