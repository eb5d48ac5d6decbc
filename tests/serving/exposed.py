"""Versions that wait for a person while another serves, for tests of what they may see."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from tasks.core.model.bundle import MODEL
from tasks.core.model.pipeline import build_pipeline
from tasks.core.spec import ModelSpec
from tasks.register import Version
from tasks.settings import Settings
from tasks.store import ledger, lifecycle
from tasks.store.engine import open_store
from tasks.store.models import save_model
from tasks.versions.filing import filed
from tasks.versions.move import move
from tests.make import make_spec
from tests.versions import LATER, SMALL, Made, a_version

ROW: dict[str, Any] = {"tenure": 12.0, "spend": 30.0, "plan": "basic", "region": "north"}


def exposed_spec(**serving: Any) -> ModelSpec:
    """Return the usual spec whose versions may see live rows."""
    return make_spec(estimator=SMALL, serving=serving)


def other_model(made: Made, folder: Path, rows: int) -> Made:
    """Return the same, with a model that learnt from other rows and so says something else."""
    spec, frame = make_spec(estimator=SMALL), made.frame.head(rows)
    with threadpool_limits(1):
        model = build_pipeline(spec).fit(frame, frame["churned"])
    path = folder / f"other-{rows}-{MODEL}"
    save_model(model, path)
    return replace(made, trained=replace(made.trained, model_path=str(path)))


def promoted(made: Made, place: Settings, attempt: str = "a1", **over: Any) -> Version:
    """Return a version that serves."""
    version = a_version(made, place, attempt, **over)
    serve(version, place, f"d-{attempt}")
    return version


def serve(version: Version, place: Settings, decision: str) -> None:
    """Let a person promote it."""
    spec = make_spec(estimator=SMALL)
    move(spec, version, actor="ann", reason="good", decision_id=decision, as_of=LATER, settings=place)


def waiting(made: Made, place: Settings, attempt: str, *, against: int | None = 1, **serving: Any) -> Version:
    """Return a version that waits, as an attempt to retrain ends under manual promotion."""
    spec = exposed_spec(**serving)
    version = a_version(made, place, attempt, spec=spec)
    engine = open_store(place)
    ledger.record(
        engine, model=spec.name, decision_id=attempt, action="waiting", from_version=against,
        to_version=version.number, actor="retrain", reason="better", evidence={"digest": version.digest},
        at=datetime.now(UTC),
    )  # fmt: skip
    why = lifecycle.Why("retrain", "better", attempt, datetime.now(UTC))
    assert filed(spec.name, version.number, "waiting", why, settings=place) == "STAGING"
    return version


def put_away(version: Version, place: Settings) -> None:
    """Let a person reject it."""
    why = lifecycle.Why("ann", "no", f"reject-{version.number}", datetime.now(UTC))
    assert filed(version.name, version.number, "rejected", why, settings=place) == "ARCHIVED"
