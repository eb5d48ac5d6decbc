"""A labelled history in memory: its rows by window, what may be known when, and models fitted on it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.evaluation.metrics import score
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import Predictions, build_pipeline
from tasks.core.model.weighting import fit_weighted, learning_span, limit_rows, row_weights
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration


@dataclass(frozen=True)
class Fitted:
    """A model and how many seconds it took to fit."""

    model: Any  # Any: a fitted pipeline
    seconds: float


Fits = MutableMapping[str, Fitted]
"""Fits by the digest of everything that they depend on, so that none is made twice."""


@dataclass(frozen=True)
class History:
    """The rows by time, and what may be known of them when."""

    frame: pd.DataFrame
    spec: ModelSpec
    windows: tuple[Window, ...]
    threads: int = 1
    fits: Fits = field(default_factory=dict)

    def rows(self, window: Window) -> pd.DataFrame:
        """Return the rows whose event falls into the window."""
        times = self.frame[self.spec.source.timestamp]
        first, last = times.searchsorted([pd.Timestamp(window.start), pd.Timestamp(window.end)])
        return self.frame.iloc[first:last]

    def training_window(self, as_of: datetime) -> Window:
        """Return the training window at this moment: the newest one whose labels are mature."""
        return Window.ending(self.known_until(as_of), self.spec.window.training)

    def learnable(self, as_of: datetime, *, break_at: datetime | None = None) -> pd.DataFrame:
        """Return the rows that may be learnt from at this moment, under the rule of `window.rows`."""
        first = self.frame[self.spec.source.timestamp].iloc[0].to_pydatetime()
        span = learning_span(self.spec, self.known_until(as_of), break_at=break_at, first=first)
        return limit_rows(self.rows(span), self.spec)

    def known_until(self, as_of: datetime) -> datetime:
        """Return up to which event time labels are mature."""
        return as_of - parse_duration(self.spec.label.maturity)

    def fit(self, rows: pd.DataFrame, end: datetime) -> Fitted:
        """Return the model fitted on these rows, weighted by their age at `end`; each is fitted only once."""
        digest = self._digest(rows, end)
        found = self.fits.get(digest)
        if found is None:
            started = time.perf_counter()
            weights = row_weights(rows[self.spec.source.timestamp], self.spec, end)
            model = build_pipeline(self.spec, threads=self.threads)
            fit_weighted(model, rows[self.spec.features.all], labels_of(rows, self.spec), weights)
            found = Fitted(model, time.perf_counter() - started)
            self.fits[digest] = found
        return found

    def score(self, rows: pd.DataFrame, answers: Predictions) -> float | None:
        """Return the metric of these predictions; None where it cannot be computed."""
        if rows.empty:
            return None
        value = score(
            labels_of(rows, self.spec),
            answers.prediction,
            answers.probabilities,
            answers.classes,
            self.spec.metric,
            self.spec.label.positive,
        )
        return float(value) if np.isfinite(value) else None

    @cached_property
    def _recipe(self) -> str:
        spec = self.spec
        parts = (spec.estimator, spec.features, spec.label, spec.window, spec.source.key)
        return json.dumps([part if isinstance(part, str) else part.model_dump(mode="json") for part in parts])

    @cached_property
    def _row_hashes(self) -> np.ndarray[Any, Any]:
        used = [name for name in self.spec.columns if name in self.frame]
        return pd.util.hash_pandas_object(self.frame[used], index=False).to_numpy()

    def _digest(self, rows: pd.DataFrame, end: datetime) -> str:
        digest = hashlib.sha256(f"{self._recipe} {end.isoformat()}".encode())
        digest.update(self._row_hashes[rows.index.to_numpy()].tobytes())
        return digest.hexdigest()
