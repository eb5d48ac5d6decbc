"""Seeded bootstrap of metrics: the same resampled rows for every statistic, so differences are paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.scoring import Scored, Statistic, statistic

RESAMPLES = 1000
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True)
class Interval:
    """A value with its two-sided confidence interval; all NaN when it cannot be told."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether all three numbers are finite."""
        return bool(np.isfinite([self.value, self.low, self.high]).all())


def resample(
    statistics: Sequence[Statistic], rows: int, *, seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Return the statistics on rows drawn with replacement: one line per resample, one column per statistic.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    rng = np.random.default_rng(seed)
    values = np.empty((resamples, len(statistics)))
    for line in range(resamples):
        weights = np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float64)
        values[line] = [one(weights) for one in statistics]
    return values


def percentile_interval(value: float, draws: NDArray[np.float64], confidence: float) -> Interval:
    """Return the central interval of the draws around the value.

    A resample may lack a class and so have no value; a few such are left out, but when more than one in
    twenty has none the interval would describe the lucky ones only, and is unknown.
    """
    defined = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(defined) < (1 - _MOST_UNDEFINED) * len(draws):
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def score_interval(
    scored: Scored,
    metric: str,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    positive: Any = None,  # Any: labels may be of any type
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the metric of these rows with its percentile bootstrap interval."""
    one = statistic(scored, metric, positive=positive)
    rows = len(scored.y_true)
    if rows == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    draws = resample([one], rows, seed=seed, resamples=resamples)
    return percentile_interval(one(None), draws[:, 0], confidence)
