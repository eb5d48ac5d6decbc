"""A labelled history in memory: its rows by window, what may be known when, and models fitted on it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.evaluation.metrics import score
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import Predictions, build_pipeline
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration


@dataclass(frozen=True)
class Fitted:
    """A model, when it was asked for, and what it cost."""

    model: Any  # Any: a fitted pipeline
    at: datetime
    seconds: float


@dataclass(frozen=True)
class History:
    """The rows by time, and what may be known of them when."""

    frame: pd.DataFrame
    spec: ModelSpec
    windows: tuple[Window, ...]
    threads: int = 1

    def rows(self, window: Window) -> pd.DataFrame:
        """Return the rows whose event falls into the window."""
        times = self.frame[self.spec.source.timestamp]
        first, last = times.searchsorted([pd.Timestamp(window.start), pd.Timestamp(window.end)])
        return self.frame.iloc[first:last]

    def training_window(self, as_of: datetime) -> Window:
        """Return the training window at this moment: the newest one whose labels are mature."""
        return Window.ending(self.known_until(as_of), self.spec.window.training)

    def known_until(self, as_of: datetime) -> datetime:
        """Return up to which event time labels are mature."""
        return as_of - parse_duration(self.spec.label.maturity)

    def fit(self, rows: pd.DataFrame, as_of: datetime) -> Fitted:
        """Return the model of this spec fitted on these rows."""
        started = time.perf_counter()
        model = build_pipeline(self.spec, threads=self.threads)
        model.fit(rows[self.spec.features.all], labels_of(rows, self.spec))
        return Fitted(model, as_of, time.perf_counter() - started)

    def score(self, rows: pd.DataFrame, said: Predictions) -> float | None:
        """Return the metric of these predictions; None where it cannot be told."""
        if rows.empty:
            return None
        value = score(
            labels_of(rows, self.spec),
            said.prediction,
            said.probabilities,
            said.classes,
            self.spec.metric,
            self.spec.label.positive,
        )
        return float(value) if np.isfinite(value) else None
