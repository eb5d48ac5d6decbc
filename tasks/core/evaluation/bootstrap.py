"""Seeded bootstrap of metrics: the same resampled rows for every statistic, so differences are paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

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
    statistics: Sequence[Statistic],
    rows: int,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the statistics on rows drawn with replacement: one line per resample, one column per statistic.

    A row with a weight keeps it as often as it is drawn. A resample whose weights are all zero has no value.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    rng = np.random.default_rng(seed)
    values = np.empty((resamples, len(statistics)))
    for line in range(resamples):
        counts = np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float64)
        if weights is not None:
            counts *= weights
        values[line] = [one(counts) for one in statistics] if counts.any() else np.nan
    return values


def percentile_interval(
    value: float, draws: NDArray[np.float64], confidence: float, *, rows: float | None = None
) -> Interval:
    """Return the central interval of the draws around the value.

    The quantiles leave as much beyond them as they should on average, however few the draws. Where `rows`
    says of how many rows the draws were made, the interval is wider by what Student's distribution adds for
    so few, since resampled values vary a little too little.

    A resample may lack a class and so have no value; a few such are left out, but when more than one in
    twenty has none the interval would describe the lucky ones only, and is unknown.

    Source: Hesterberg, The American Statistician 69 (2015), section 5.3, "expanded percentile interval".
    """
    defined = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(defined) < (1 - _MOST_UNDEFINED) * len(draws):
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    if rows is not None and rows > 2:
        tail = float(ndtr(stdtrit(rows - 1, tail) * math.sqrt(rows / (rows - 1))))
    low, high = np.quantile(defined, [tail, 1 - tail], method="weibull")
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
    return percentile_interval(one(None), draws[:, 0], confidence, rows=rows)
