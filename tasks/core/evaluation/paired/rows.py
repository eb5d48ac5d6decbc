"""Any metric of two models on resampled rows, one resample at a time; ranks and losses are made only once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import resample
from tasks.core.evaluation.scoring import Scored, Statistic, statistic

Floats = NDArray[np.float64]
_MOST_ROWS = 25_000_000  # rows times resamples: 100,000 rows get 250 resamples, which take about a second
_LEAST_RESAMPLES = 200
_OF_SORTED_ERRORS = ("neg_median_absolute_error", "neg_max_error", "d2_absolute_error_score")


def resampled_rows(
    pair: tuple[Statistic, Statistic],
    rows: int,
    *,
    seed: int,
    resamples: int,
    weights: Floats | None = None,
) -> Floats:
    """Return both models' metric on rows drawn with replacement: one line per resample, mine and theirs.

    Of more than 25,000 rows fewer resamples are drawn, and never fewer than 200 unless fewer were asked for:
    their interval's ends are then less certain, by about a tenth of its width.
    """
    lines = min(resamples, max(_LEAST_RESAMPLES, _MOST_ROWS // max(rows, 1)))
    return resample(pair, rows, seed=seed, resamples=lines, weights=weights)


def weighable(
    scored: Scored,
    metric: str,
    *,
    positive: Any,  # Any: labels may be of any type
    labels: tuple[Any, ...],
    weighted: bool,
) -> Statistic:
    """Return the metric as a function of row weights, which need not be whole numbers when `weighted`."""
    if weighted and metric in _OF_SORTED_ERRORS and len(scored.y_true):
        return _of_sorted_errors(scored, metric)
    return statistic(scored, metric, positive=positive, labels=labels)


def _of_sorted_errors(scored: Scored, metric: str) -> Statistic:
    real = np.asarray(scored.y_true, dtype=np.float64)
    error = np.abs(real - np.asarray(scored.prediction, dtype=np.float64))
    if not np.isfinite(error).all():
        return lambda _: float("nan")

    def value(weights: Floats | None) -> float:
        given = np.ones(len(error)) if weights is None else weights
        if metric == "neg_max_error":
            return -float(error[given > 0].max())
        if metric == "neg_median_absolute_error":
            return -middle(given)
        spread = float(given @ np.abs(real - middle(given)))
        return 1 - float(given @ error) / spread if spread > 0 else float("nan")

    middle = _weighted_median(real if metric == "d2_absolute_error_score" else error)
    return value


def _weighted_median(values: Floats) -> Callable[[Floats], float]:
    """Return the value with half of the weight on either side, by weights; the middle of two if both have."""
    order = np.argsort(values, kind="stable")
    rising = values[order]

    def middle(weights: Floats) -> float:
        given = weights.take(order)
        reached = np.cumsum(given)
        half = reached[-1] / 2
        first = int(np.searchsorted(reached, half * (1 - 1e-12)))
        after = first
        if reached[first] <= half * (1 + 1e-12):  # the next one that counts for anything
            after = int(np.searchsorted(reached, reached[first], "right"))
        return float(rising[first] + rising[min(after, len(rising) - 1)]) / 2

    return middle
