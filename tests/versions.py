"""Registered versions for tests: made quickly, in a place whose registry stands already."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tasks import register
from tasks.core.dataset import Dataset
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.model.bundle import MODEL, digest_of
from tasks.core.model.pipeline import build_pipeline
from tasks.core.results import Evaluated, Trained
from tasks.core.window import Window
from tasks.register import Version
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.mlflow_client import open_client
from tasks.store.models import save_model
from tests.make import START, make_frame, make_spec

WINDOW = Window(START, START + timedelta(days=28))
CUT = START + timedelta(days=22)
LATER = WINDOW.end + timedelta(days=2)


@dataclass(frozen=True)
class Made:
    """A trained model and everything that registering it takes."""

    trained: Trained
    evaluated: Evaluated
    snapshot: Dataset
    frame: pd.DataFrame


SMALL = {"class": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 3}}
SPEC_ = make_spec(estimator=SMALL)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    frame = make_frame(300)
    frame.loc[::9, "tenure"] = np.nan
    with threadpool_limits(1):
        model = build_pipeline(SPEC_).fit(frame.head(240), frame["churned"].head(240))
    save_model(model, folder / MODEL)
    frame.tail(60).to_parquet(folder / "holdout.parquet")
    frame.to_parquet(folder / "rows.parquet")
    data = (folder / "rows.parquet").read_bytes()
    return Made(
        Trained(
            model_path=str(folder / MODEL),
            train_rows=240,
            holdout_path=str(folder / "holdout.parquet"),
            holdout_rows=60,
            cut=CUT,
            train_window=WINDOW,
            params={"max_iter": 3},
            seconds=0.5,
            train_keys_sha256="k" * 64,
            guess=((0, 0.7), (1, 0.3)),
        ),
        Evaluated(
            decision=GateDecision("promote", ("no champion",), 0.8, float("nan"), 0.3, 0.1, 0.4, 60),
            metrics={"roc_auc": 0.8, "accuracy": 0.7, "odd": float("nan")},
            champion_metrics={},
            baseline=0.5,
            holdout_rows=60,
            promise=0.8,
            promise_low=0.7,
            promise_high=float("nan"),
        ),
        Dataset(str(folder / "rows.parquet"), 300, digest_of(data), WINDOW),
        frame,
    )


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty but set-up place, to be copied: MLflow needs seconds to make its database."""
    place = Settings(state_dir=tmp_path_factory.mktemp("fresh") / "state")
    open_client(place)
    open_store(place).dispose()
    return place.root


@pytest.fixture
def place(settings: Settings, fresh: Path) -> Settings:
    return set_up(settings, fresh)


def set_up(settings: Settings, fresh: Path) -> Settings:
    """Return the place after its databases were copied from one that is set up."""
    for name in ("mlflow.db", "store.db"):
        with sqlite3.connect(fresh / name) as source, sqlite3.connect(settings.root / name) as target:
            source.backup(target)
    return settings


def a_version(made: Made, place: Settings, attempt: str = "a1", **over: Any) -> Version:
    known: dict[str, Any] = {
        "reference": {"rows": 240, "features": {}},
        "decision": {"id": f"decision-{attempt}", "cause": "first"},
        "snapshot": made.snapshot,
        "trained": made.trained,
        "evaluated": made.evaluated,
        "spec": SPEC_,
    }
    known.update(over)
    return register.register_version.fn(
        known["spec"],
        attempt,
        known["trained"],
        known["evaluated"],
        known["reference"],
        known["snapshot"],
        known["decision"],
        as_of=LATER,
        settings=place,
    )


def moved(version: Version, place: Settings, decision_id: str = "d1", **over: Any) -> register.Promotion:
    known: dict[str, Any] = {"actor": "gate", "reason": "better", "as_of": LATER, "settings": place, **over}
    return register.move_champion.fn(SPEC_, version, decision_id=decision_id, **known)


def files_of(version: Version) -> Path:
    return Path(version.source.removeprefix("file://"))
