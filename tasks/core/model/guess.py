"""What a model without features would say: the least that a challenger has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.metrics import score
from tasks.core.evaluation.scoring import Scored, all_labels, statistic
from tasks.core.model.labels import labels_of
from tasks.core.spec import ModelSpec

Guess = Sequence[tuple[Any, float]]  # Any: labels may be of any type
_QUANTILES = 1001  # our choice: a distribution known to a tenth of a percent, and still small


def learn_guess(
    spec: ModelSpec, train: pd.DataFrame, weights: NDArray[np.float64] | None = None
) -> tuple[tuple[Any, float], ...]:
    """Return each class with its share of the training rows by their weights, or their mean and median."""
    labels = labels_of(train, spec)
    if spec.task == "regression":
        median = np.median(labels) if weights is None else _quantiles(labels, np.array([0.5]), weights)[0]
        return (("mean", float(np.average(labels, weights=weights))), ("median", float(median)))
    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(codes, weights=weights)
    return tuple(zip(classes.tolist(), (counts / counts.sum()).tolist(), strict=True))


def label_quantiles(
    spec: ModelSpec, train: pd.DataFrame, weights: NDArray[np.float64] | None = None
) -> tuple[float, ...]:
    """Return evenly spaced quantiles of a regression's training labels, lowest to highest; else none."""
    if spec.task != "regression":
        return ()
    levels, labels = np.linspace(0, 1, _QUANTILES), labels_of(train, spec)
    found = np.quantile(labels, levels) if weights is None else _quantiles(labels, levels, weights)
    return tuple(found.tolist())


def _quantiles(
    labels: NDArray[Any], levels: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the least label at which the weights up to it reach each level of their sum."""
    order = np.argsort(labels, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, levels * reached[-1], side="left")
    chosen: NDArray[np.float64] = labels[order][np.minimum(places, len(labels) - 1)].astype(np.float64)
    return chosen


def guessed(spec: ModelSpec, guess: Guess, scored: Scored) -> Scored:
    """Return what the guess says of these rows; of mean and median the one that scores better."""
    rows = len(scored.y_true)
    if spec.task == "regression":
        candidates = [Scored(scored.y_true, np.full(rows, value)) for _, value in guess]
        return max(candidates, key=lambda one: np.nan_to_num(score_of(spec, one), nan=-np.inf))
    classes = tuple(label for label, _ in guess)
    shares = np.array([share for _, share in guess])
    likeliest = np.full(rows, shares.argmax())
    labels = np.array(classes, dtype=object)  # the type of the answers would cut longer texts short
    return Scored(scored.y_true, labels[likeliest], np.tile(shares, (rows, 1)), classes)


def score_of(spec: ModelSpec, scored: Scored, metric: str = "") -> float:
    """Return the spec's metric, or another, of these answers; NaN where it cannot be told."""
    return score(
        scored.y_true,
        scored.prediction,
        scored.probabilities,
        scored.classes,
        metric or spec.metric,
        spec.label.positive,
    )


def weighted_score(spec: ModelSpec, scored: Scored, weights: NDArray[np.float64] | None) -> float:
    """Return the spec's metric of rows that count by their weights, as the gate has it; NaN if unknown."""
    labels = all_labels([scored])
    return statistic(scored, spec.metric, positive=spec.label.positive, labels=labels)(weights)
