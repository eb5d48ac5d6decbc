"""Monitor: join matured labels to logged predictions and act when the champion breaks its promise."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from tasks.approve import expire_approvals
from tasks.board import write_board
from tasks.cli import run_flow
from tasks.clock import is_present, now_or, window_edge
from tasks.core.evaluation.comparison import ComparedChampions
from tasks.core.form import ABOUT_MODEL, AsOf, DryRun
from tasks.core.policy.approval import SILENCE, approval_cause, approval_id
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.decide import CheckResult, reach_decision, record_check, record_labels, windows_to_judge
from tasks.declared import check_declared
from tasks.deployer import announce_promotion
from tasks.failure import explain_failure
from tasks.fetch import fetch_labels, fetch_window
from tasks.health import health, publish_health
from tasks.heartbeat import beat
from tasks.labels import fetch_label_source, label_health, labels_wanted
from tasks.launch import launch_retraining
from tasks.monitor import gather_evidence, realised_performance
from tasks.notify import announce, deliver_pending, escalate, settle, signal, tell, tell_decided
from tasks.probation import Guarded, guard_files, guard_promise, judge_champion
from tasks.publish import publish_decision, publish_performance
from tasks.ran import note_run
from tasks.reconcile import relaunch_unanswered
from tasks.register import ChampionInfo, champion, served_by
from tasks.rollout import ExposureVerdict, judge_exposure
from tasks.second_opinion import compare_on_labels, follow_second_opinion, is_compared


@flow(
    name="monitor",
    flow_run_name="{spec.name}: monitor",
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def monitor(spec: ModelSpec = ABOUT_MODEL, as_of: AsOf = None, dry_run: DryRun = False) -> State[Any]:
    """Measure realised performance and staleness where labels are known, and launch a retraining when due.

    Args:
        spec: The model, as written under `definitions.models`.
        as_of: The moment to act as if it were; default: now.
        dry_run: Check and show, but record, tell and launch nothing; decides on what was recorded before.
    """
    check_declared(spec)
    moment = now_or(as_of)
    if not dry_run:
        catch_up(spec, moment)
        make_known(spec, guard_files(spec, as_of=moment), moment)
    edge = window_edge(as_of, parse_duration(spec.window.check))
    window = Window.ending(edge - parse_duration(spec.label.maturity), spec.window.check)
    incumbent = champion(spec.name)
    version = incumbent.version if incumbent else None
    change = served_by(spec, incumbent)[1] if incumbent else ""
    # Labels that came late or were corrected count too, as far back as a verdict does or one is missing.
    wanted = labels_wanted(spec, window, as_of=moment)
    fetch = fetch_label_source if spec.label.source else fetch_labels
    fetched = fetch(spec, wanted, moment)
    if not dry_run:
        record_labels(spec, fetched, as_of=moment)
    labels = label_health(spec, window, as_of=moment)
    if not dry_run:
        record_check(spec, "labels", window, labels, version=version, as_of=moment)

    verdict = None
    if incumbent:
        for span in windows_to_judge(spec, window, incumbent.version, as_of=moment):
            verdict = realised_performance(
                spec,
                span,
                incumbent.promise.value,
                incumbent.classes,
                promise_low=incumbent.promise.low,
                learnt_until=incumbent.train_end,
                version=version,
                reference_path=incumbent.reference_path,
                as_of=moment,
            )
            if not dry_run:
                record_check(spec, "performance", span, verdict, version=version, as_of=moment)
        publish_performance(spec, verdict, window)

    compared = compare(spec, window, incumbent, moment, dry_run=dry_run)
    evidence = gather_evidence(
        spec,
        moment,
        window,
        version=version,
        champion_trained=incumbent.manifest.created if incumbent else None,
    )
    # Before a rollback, on the evidence about the version that was judged: recorded, it is carried out once,
    # whatever happens next, and the challenger meets whichever version serves then.
    decision = reach_decision(spec, evidence, dry_run=dry_run)
    # Once it is on record: whatever fails from here on, the next run launches what was decided.
    found = health(spec, window, incumbent, as_of=moment, performance=verdict, dry_run=dry_run)
    publish_health(spec, found, window)
    launched = None
    if not dry_run:
        make_known(spec, hold_to_promise(spec, moment), moment)
        if incumbent:
            follow_second_opinion(spec, compared, incumbent.version, as_of=moment)
        announce(spec, decision, as_of=moment)
        looks = [*found.alarms, *labels.looks(), *(verdict.looks() if verdict else ())]
        signal(spec, looks, look=str(window), as_of=moment)
        if decision.kind == "TRAIN":
            launched = launch_retraining(spec, decision, as_of=moment)
    publish_decision(spec, decision, launched)
    if not dry_run:
        make_exposure_known(spec, judge_exposure(spec, as_of=moment), moment)
        beat(spec, as_of=moment)
        if is_present(as_of):  # a board of the past would take the place of today's
            write_board(spec, as_of=moment)
    outcome = verdict.outcome if verdict else "undecided"
    return CheckResult(
        window, outcome, decision, launched, value=verdict.value if verdict else None, note=change
    ).state()


def compare(
    spec: ModelSpec, window: Window, incumbent: ChampionInfo | None, moment: datetime, *, dry_run: bool
) -> ComparedChampions | None:
    """Measure what the champions lose on the newest labels; once per window and champion."""
    if incumbent is None or is_compared(spec, window, incumbent.version, as_of=moment):
        return None
    spec, _ = served_by(spec, incumbent)
    rows = fetch_window(spec, window, moment)
    compared = compare_on_labels(spec, window, rows, incumbent.version, as_of=moment)
    if compared and not dry_run:
        record_check(spec, "champions", window, compared, version=incumbent.version, as_of=moment)
    return compared


def hold_to_promise(spec: ModelSpec, moment: datetime) -> Guarded:
    """Let the version before serve again where a new champion spent its error budget in its first windows."""
    found = judge_champion(spec, as_of=moment)
    rows = fetch_window(spec, found.span, moment) if found.outcome == "rollback" and found.span else None
    return guard_promise(spec, found, rows, as_of=moment)


def make_known(spec: ModelSpec, guarded: Guarded, moment: datetime) -> None:
    """Tell people and the deployer of a champion that went back by itself, or should have and could not."""
    for cause in guarded.over:
        settle(spec, cause, as_of=moment)
    if guarded.action == "nothing":
        return
    tell(spec, "critical", guarded.cause, guarded.why, as_of=moment)
    if guarded.action == "rolled back" and guarded.version is not None:
        announce_promotion(
            spec,
            version=guarded.version,
            from_version=guarded.from_version,
            action="rolled_back",
            decision_id=guarded.decision_id,
            digest=guarded.digest,
            as_of=moment,
        )


def make_exposure_known(spec: ModelSpec, exposure: ExposureVerdict, moment: datetime) -> None:
    """Tell people of a canary that went back; it is over when that version waits no more."""
    if exposure.outcome == "returned":
        tell(spec, "warning", exposure.cause, exposure.sentence(), as_of=moment)
    elif exposure.version is not None:
        settle(spec, exposure.cause, as_of=moment)


def catch_up(spec: ModelSpec, moment: datetime) -> None:
    """Do what earlier runs and people left undone: messages, approvals, and what was never carried out."""
    deliver_pending(spec)
    escalate(spec, as_of=moment)
    for version in expire_approvals(spec, moment).versions:
        settle(spec, approval_cause(version), as_of=moment)
        why = f"version {version} rejected by {SILENCE}: nobody decided within {spec.gate.approval}"
        tell_decided(spec, approval_id(version), "expired", why, as_of=moment)
    found = relaunch_unanswered(spec)
    if found.stuck:
        tell(spec, "critical", "launch", found.sentence(), as_of=moment)
    elif found.looked:
        settle(spec, "launch", as_of=moment)


if __name__ == "__main__":
    raise SystemExit(run_flow(monitor))
