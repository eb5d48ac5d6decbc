"""Pasts of a model, written straight into the store: as many versions as a test wants, in a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.engine import Engine

from tasks.core.evaluation.verdicts import AnchorResult, GateDecision, SliceResult
from tasks.core.model.bundle import REQUIRED, Manifest, Promise, plain
from tasks.core.window import Window
from tasks.store import catalog, checks, ledger
from tasks.store.engine import writing
from tasks.store.schema import promotions
from tasks.store.schema_versions import versions as versions_table
from tasks.store.version import Version

START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
COMMIT = "{:040x}"  # of version n, where a test gives no other


def manifest(number: int, model: str = "churn", **over: Any) -> Manifest:
    """Return the manifest of a version that was trained on day `number`; even ones the gate kept out."""
    created = START + number * DAY
    gate = GateDecision(
        "keep" if number % 2 == 0 else "promote",
        (f"difference {number / 1000:+.3f}", "all the same"),
        0.7 + number / 10_000,
        0.7,
        number / 10_000,
        -0.01,
        0.02,
        200,
        slices=(SliceResult("region", "north", 40, -0.05, -0.09, -0.01, "worse"),),
        metric="roc_auc",
        needed_rows=1700,
        anchor=AnchorResult("ok", 100, 0.8, 0.79, 1, 0.01, 0.0, 0.02, 0.01, sha256="a" * 64),
    )
    known: dict[str, Any] = {
        "model": model,
        "attempt": f"train-{number}",
        "created": created,
        "files": dict.fromkeys(REQUIRED, f"{number:064x}"),
        "promise": Promise("roc_auc", 0.7 + number / 10_000, 0.69, 0.75, 200),
        "train_window": Window(created - 28 * DAY, created),
        "cut": created - 5 * DAY,
        "decision_id": f"train-{number}",
        "snapshot": {"path": f"/rows/{number}.parquet", "sha256": f"{number:064x}", "rows": 1000 + number},
        "code": {"commit": COMMIT.format(number), "dirty": False, "lock_sha256": "b" * 64},
        "decision": {"id": f"train-{number}", "cause": "decay"},
        "gate": plain(gate),
        "training": {
            "params": {"max_iter": 30},
            "metrics": {"roc_auc": 0.7 + number / 10_000, "accuracy": 0.9 - number / 10_000},
            "champion_version": max(number - 1 - number % 2, 1) if number > 1 else None,
            "train_rows": 800,
            "holdout_rows": 200,
            "seconds": 1.5,
            "train_keys_sha256": "c" * 64,
        },
    }
    return Manifest(**{**known, **over})


def version_of(made: Manifest, number: int) -> Version:
    """Return the version of this manifest, as if the registry had it."""
    return Version(made.model, number, f"run-{number}", f"/nowhere/{number}", made.digest)


def noted(engine: Engine, number: int, model: str = "churn", **over: Any) -> catalog.VersionFacts:
    """Note one version."""
    made = manifest(number, model, **over)
    return catalog.note_version(
        engine,
        version_of(made, number),
        made,
        registered_at=made.created + timedelta(minutes=5),
    )


def ended(engine: Engine, number: int, action: ledger.Action, before: int | None, **over: Any) -> None:
    """Write into the ledger how the attempt behind a version ended, a tenth of an hour after it was made."""
    ledger.record(engine, **{**_outcome(manifest(number), number, action, before), **over})


def a_past(engine: Engine, versions: int) -> None:
    """Write a past in which odd versions were promoted, one after the other, and even ones kept out.

    Behind every tenth stands a decision of a check of decay. All versions are written in one transaction, as
    hundreds would take long one by one.
    """
    for number in range(10, versions + 1, 10):
        decided(engine, number)
    rows, outcomes = [], []
    for number in range(1, versions + 1):
        made, is_good = manifest(number), number % 2 == 1
        before = max(number - 1 - is_good, 0) or None
        facts = {
            **catalog._made(version_of(made, number), made),
            "image": None,
            "registered_at": made.created,
        }
        rows.append({**facts, "anchor_sha256": "a" * 64, "anchor_score": 0.8})
        outcomes.append(_outcome(made, number, "promoted" if is_good else "kept", before))
    with writing(engine) as connection:
        connection.execute(versions_table.insert(), rows)
        connection.execute(promotions.insert(), outcomes)


def _outcome(made: Manifest, number: int, action: str, before: int | None) -> dict[str, Any]:
    return {
        "model": made.model,
        "decision_id": f"train-{number}",
        "action": action,
        "from_version": before,
        "to_version": number,
        "actor": "gate",
        "reason": f"because of {number}",
        "at": made.created + timedelta(minutes=6),
        "evidence": {"digest": made.digest, "commit": made.code["commit"], "dirty": False},
    }


def decided(engine: Engine, number: int) -> None:
    """Write the decision behind a version, and the check that was its cause."""
    created = START + number * DAY
    checks.record(
        engine,
        model="churn",
        kind="performance",
        window=Window(created - DAY, created),
        version=number - 1,
        outcome="drift",
        summary={"metric": "roc_auc", "value": 0.66, "reason": "0.66 is below 0.70"},
        run_id=f"check-{number}",
        at=created,
    )
    decision = {"id": f"train-{number}", "kind": "TRAIN", "cause": "decay", "reasons": ["2 of 3 windows bad"]}
    ledger.record_decision(engine, decision, model="churn", at=created, run_id=f"check-{number}")
