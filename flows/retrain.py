"""Retrain: one decision becomes at most one version, and a champion only where the gate agrees."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from tasks.attempt import begin_attempt, carrying_out, conclude, too_few_rows
from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.core.spec import ModelSpec
from tasks.drift import profile_reference
from tasks.evaluate import evaluate_pair
from tasks.fetch import commit_watermark, fetch_training
from tasks.publish import publish_comparison, publish_decision, publish_validation
from tasks.register import champion, move_champion, register_version, save_snapshot
from tasks.train import train_challenger
from tasks.validate import infer_contract_from_source, validate


@flow(name="retrain", flow_run_name="{spec.name}: retrain ({reason})", persist_result=False)
def retrain(
    spec: ModelSpec,
    as_of: datetime | None = None,
    reason: str = "manual",
    decision_id: str = "",
    dry_run: bool = False,
    force: bool = False,
) -> State[Any]:
    """Train a challenger on the newest labelled rows and let the gate decide whether it becomes champion.

    Args:
        spec: The model, as written under `definitions.models`.
        as_of: The moment to act as if it were; default: now.
        reason: Why this retraining was started; kept in the ledger.
        decision_id: The decision that asked for it; the same id never trains twice.
        dry_run: Train and compare, but register and promote nothing.
        force: Train even if there are fewer new rows than retrain.min_new_rows.
    """
    moment = now_or(as_of)
    attempt = begin_attempt(spec, moment, reason=reason, decision_id=decision_id)
    if not attempt.acquired:
        return conclude(spec, attempt, "skipped", attempt.why).state()
    with carrying_out(spec, attempt):
        incumbent = champion(spec.name)
        fetched = fetch_training(spec, moment)
        if attempt.ended:  # an earlier run died after the outcome was recorded: what is left is the watermark
            if attempt.ended.trained:
                commit_watermark(spec, fetched, attempt.id)
            return attempt.ended.state()
        if incumbent and not force and (why := too_few_rows(spec, fetched.new_rows)):
            return conclude(spec, attempt, "skipped", why).state()

        checked = validate(spec, fetched.dataset, attempt=attempt.id)
        publish_validation(spec, checked.report, fetched.dataset.window)
        if checked.report.outcome == "block":
            return conclude(spec, attempt, "blocked", checked.report.sentence()).state()

        snapshot = save_snapshot(checked.dataset, spec)
        trained = train_challenger(
            spec,
            checked.dataset,
            attempt.id,
            champion_model=incumbent.model_path if incumbent else None,
            champion_train_end=incumbent.train_end if incumbent else None,
        )
        evaluated = evaluate_pair(spec, trained, incumbent.ref if incumbent else None)
        publish_comparison(spec, evaluated, trained.train_window)
        why = evaluated.decision.sentence()
        if dry_run:
            return conclude(spec, attempt, "dry run", why).state()

        reference = profile_reference(spec, trained, rows_path=checked.dataset.path)
        version = register_version(
            spec, attempt.id, trained, evaluated, reference, snapshot, attempt.decision, as_of=moment
        )
        before = incumbent.version if incumbent else None
        promoted = evaluated.decision.outcome == "promote" and spec.gate.promotion == "auto"
        if promoted:
            move_champion(
                spec,
                version,
                actor="gate",
                reason=why,
                decision_id=attempt.id,
                as_of=moment,
                expected=before,
            )
        ended = conclude(
            spec,
            attempt,
            "promoted" if promoted else "kept",
            why,
            from_version=before,
            to_version=version.number,
        )
        # Last, so that an attempt that dies before its end is recorded fetches the same rows again.
        commit_watermark(spec, fetched, attempt.id)
    publish_decision(spec, ended)
    return ended.state()


if __name__ == "__main__":
    raise SystemExit(run_flow(retrain, infer_contract=infer_contract_from_source))
