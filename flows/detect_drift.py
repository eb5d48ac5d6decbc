"""Detect drift: compare the newest window with the champion's reference, and act on it when due."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State

from tasks.cli import run_flow
from tasks.clock import now_or, window_edge
from tasks.core.form import ABOUT_MODEL, AsOf, DryRun
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.decide import CheckResult, reach_decision, record_check
from tasks.declared import check_declared
from tasks.drift import check_drift, count_window
from tasks.failure import explain_failure
from tasks.fetch import fetch_window
from tasks.health import row_volume
from tasks.launch import launch_retraining
from tasks.monitor import gather_evidence
from tasks.notify import announce, deliver_pending, signal
from tasks.publish import publish_decision, publish_drift, publish_validation
from tasks.ran import note_run
from tasks.register import champion, served_by
from tasks.reports import publish_drift_report
from tasks.served import fetch_served, served_reference
from tasks.validate import validate


@flow(
    name="detect_drift",
    flow_run_name="{spec.name}: detect drift",
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def detect_drift(spec: ModelSpec = ABOUT_MODEL, as_of: AsOf = None, dry_run: DryRun = False) -> State[Any]:
    """Compare the newest check window with the champion's reference and launch a retraining when due.

    Args:
        spec: The model, as written under `definitions.models`.
        as_of: The moment to act as if it were; default: now.
        dry_run: Check and show, but record, tell and launch nothing; decides on what was recorded before.
    """
    check_declared(spec)
    moment = now_or(as_of)
    if not dry_run:
        deliver_pending(spec)
    window = Window.ending(window_edge(as_of, parse_duration(spec.window.check)), spec.window.check)
    incumbent = champion(spec.name)
    version = incumbent.version if incumbent else None
    change = ""
    if incumbent:
        spec, change = served_by(spec, incumbent)
    checked = validate(spec, fetch_window(spec, window, moment), with_label=False)
    publish_validation(spec, checked.report, window)
    if not dry_run:
        record_check(spec, "data", window, checked.report, version=version, as_of=moment)
        if checked.report.rows:  # none at all blocks, which is told as such
            volume = row_volume(spec, window, checked.report.rows, incumbent, as_of=moment)
            signal(spec, volume.looks(), look=str(window), as_of=moment)

    verdict = None
    if incumbent and checked.report.outcome != "block":
        rows, reference, model_path = checked.dataset, incumbent.reference_path, incumbent.model_path
        if spec.drift.rows == "log":
            rows = fetch_served(spec, window, moment)
            reference = served_reference(spec, reference)
            model_path = None if spec.features.sensitive else model_path  # hashed inputs cannot be scored
        counted = count_window(spec, rows, reference, model_path)
        verdict = check_drift(
            spec,
            rows,
            reference,
            profile=counted,
            model_path=model_path,
            version=version,
            keep=not dry_run,
        )
        if not dry_run:
            record_check(spec, "drift", window, verdict, version=version, as_of=moment)
        page = publish_drift_report(spec, verdict, window, classes=incumbent.classes)
        publish_drift(spec, verdict, window, report=page, classes=incumbent.classes)

    evidence = gather_evidence(
        spec,
        moment,
        window,
        version=version,
        champion_trained=incumbent.manifest.created if incumbent else None,
        data_ok=checked.report.outcome != "block",
        data_reason="; ".join(filter(None, (checked.report.sentence(), change))),
    )
    decision = reach_decision(spec, evidence, dry_run=dry_run)
    launched = None
    if not dry_run:
        announce(spec, decision, as_of=moment)
        if decision.kind == "TRAIN":
            launched = launch_retraining(spec, decision, as_of=moment)
    publish_decision(spec, decision, launched)
    outcome = verdict.outcome if verdict else "undecided"
    drifted = verdict.drifted if verdict else ()
    return CheckResult(window, outcome, decision, launched, drifted=drifted, note=change).state()


if __name__ == "__main__":
    raise SystemExit(run_flow(detect_drift))
