"""How much a model leans on each feature: what its score loses when the feature is shuffled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.drift.counting.sample import Sample, pick
from tasks.core.evaluation.metrics import score
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.spec import ModelSpec

ROWS = 2_000
REPEATS = 3
WORK = 100_000_000
"""Cells given to the model, at most, a question counting as `QUESTION` rows more: about ten seconds, measured
with 25 to 2,000 features on a busy machine, mostly spent on telling columns apart."""
QUESTION = 3_000
_LEAST_ROWS = 300


def importances(
    model: Any,  # Any: a fitted pipeline
    rows: pd.DataFrame,
    truth: NDArray[Any],  # Any: labels may be of any type
    spec: ModelSpec,
    *,
    seed: int,
    sample: Sample | None = None,
) -> dict[str, float]:
    """Return by feature the mean drop, at least 0, of `spec.metric` when it is shuffled among the rows.

    At most 2,000 seeded rows and three shuffles, fewer where there are many features. Where even one shuffle
    of 300 rows each would be too much, only the features that go along most with the model's answers are
    tried and the others have no entry. No entry at all where the metric cannot be told on the rows.

    Args:
        model: Takes the frame and answers.
        rows: Rows the model was not fitted on, with all features.
        truth: Their labels.
        spec: The model's spec.
        seed: Of rows and shuffles.
        sample: The same rows as cell numbers, to find those features by.

    Source: Breiman, Random forests, Machine Learning 45, 2001, section 10.
    """
    names, (most, repeats, tried) = spec.features.all, _plan(len(spec.features.all))
    chosen = pick(len(rows), most, seed)
    frame, labels = rows[names].iloc[chosen].reset_index(drop=True), truth[chosen]
    whole = _score(predict(model, frame), labels, spec, 1)
    if not len(frame) or not np.isfinite(whole).all():
        return {}
    if tried < len(names):
        answers = _numbers(predict(model, frame))
        names = _going_along(names, sample.codes[chosen], answers, tried) if sample else names[:tried]
    rng = np.random.default_rng(seed)
    found = {}
    for name in names:
        shuffled = np.concatenate([rng.permutation(len(frame)) for _ in range(repeats)])
        copies = frame.iloc[np.tile(np.arange(len(frame)), repeats)].reset_index(drop=True)
        copies[name] = frame[name].iloc[shuffled].array
        drops = whole - _score(predict(model, copies), labels, spec, repeats)
        found[name] = float(max(0.0, drops.mean())) if np.isfinite(drops).all() else 0.0
    return found


def _plan(features: int) -> tuple[int, int, int]:
    """Return rows, repeats and features to try, so that the work stays below the bound."""
    for rows, repeats in ((ROWS, REPEATS), (ROWS, 1), (_LEAST_ROWS, 1)):
        if features**2 * (rows * repeats + QUESTION) <= WORK:
            return rows, repeats, features
    return _LEAST_ROWS, 1, max(1, WORK // (features * (_LEAST_ROWS + QUESTION)))


def _score(said: Predictions, labels: NDArray[Any], spec: ModelSpec, repeats: int) -> NDArray[np.float64]:
    """Return the metric of each repeat, which follow one another."""
    rows = len(labels)
    values = []
    for start in range(0, rows * repeats, max(rows, 1)):
        part = slice(start, start + rows)
        table = None if said.probabilities is None else said.probabilities[part]
        values.append(
            score(labels, said.prediction[part], table, said.classes, spec.metric, spec.label.positive)
        )
    return np.array(values)


def _numbers(said: Predictions) -> NDArray[np.float64]:
    if said.probabilities is not None:
        return np.asarray(said.probabilities[:, -1], dtype=np.float64)
    if said.classes is not None:
        return np.asarray(said.prediction == said.classes[-1], dtype=np.float64)
    return np.asarray(said.prediction, dtype=np.float64)


def _going_along(names: list[str], codes: NDArray[Any], answers: NDArray[np.float64], most: int) -> list[str]:
    """Return the features whose cells go along most with the answers, in the order of the spec."""
    cells = codes.astype(np.float64) - codes.mean(axis=0)
    spread = cells.std(axis=0)
    along = np.abs((answers - answers.mean()) @ cells) / np.where(spread > 0, spread, np.inf)
    kept = set(np.argsort(-along, kind="stable")[:most].tolist())
    return [name for place, name in enumerate(names) if place in kept]
