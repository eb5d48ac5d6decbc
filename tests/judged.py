"""A room in which tests train two models and judge them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core.dataset import Dataset
from tasks.core.model.bundle import ChampionRef
from tasks.core.results import AnchorRef, Evaluated, Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.evaluate import evaluate_pair
from tasks.settings import Settings
from tasks.train import train_challenger
from tests.make import START, make_spec

WINDOW = Window(START, START + timedelta(days=28))
FIXED = datetime(2026, 2, 1, tzinfo=UTC)
LOGISTIC = {"class": "sklearn.linear_model.LogisticRegression"}
# Champions of an upside-down world disagree with any challenger, and only a test of that should say so.
FREELY = {"max_disagreement": None}
LINEAR = make_spec(estimator=LOGISTIC, gate=FREELY)


class Room:
    """Trains and evaluates in one folder."""

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self.settings, self.count = folder, settings, 0

    def dataset(self, frame: pd.DataFrame) -> Dataset:
        self.count += 1
        path = self.folder / f"rows{self.count}.parquet"
        frame.to_parquet(path, index=False)
        return Dataset(str(path), len(frame), hashlib.sha256(path.read_bytes()).hexdigest(), WINDOW)

    def train(self, spec: ModelSpec, frame: pd.DataFrame, **more: Any) -> Trained:
        dataset = self.dataset(frame)
        return train_challenger.fn(spec, dataset, f"a{self.count}", settings=self.settings, **more)

    def champion(self, spec: ModelSpec, frame: pd.DataFrame, train_end=START) -> ChampionRef:
        return ChampionRef(self.train(spec, frame).model_path, 3, train_end)

    def evaluate(
        self, spec: ModelSpec, trained: Trained, champion: ChampionRef | None, **more: Any
    ) -> Evaluated:
        return evaluate_pair.fn(spec, trained, champion, settings=self.settings, **more)


def anchored(room: Room, frame: pd.DataFrame, keeper: ChampionRef | None = None, **over: Any) -> AnchorRef:
    """Return the rows as a fixed anchor."""
    path = room.folder / "anchor.parquet"
    frame.to_parquet(path, index=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    version = keeper.version if keeper else None
    return replace(AnchorRef(str(path), digest, len(frame), 1, FIXED, 1, keeper, version), **over)


def upside_down(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(churned=1 - frame["churned"])
