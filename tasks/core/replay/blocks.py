"""Means over windows that hang together, resampled in blocks of consecutive windows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from tasks.core.evaluation.bootstrap import Interval

Floats = NDArray[np.float64]
LEAST_BLOCKS = 4  # fewer say nothing about how much a mean may move


def block_length(windows: int, training_windows: float) -> int:
    """Return how many consecutive windows make a block; 0 when there are too few windows for any.

    A model carries the luck of its training rows into every window it serves, so neighbouring windows hang
    together for about a training window; n^(1/3), the order that keeps the error of a mean's variance least,
    is the lower bound. Never so long that fewer than four blocks remain.
    Source: Künsch, Annals of Statistics 17 (1989), section 3, for the order; the rest is our choice.

    Example:
        >>> block_length(125, 8), block_length(125, 1), block_length(20, 8), block_length(3, 8)
        (8, 5, 5, 0)
    """
    if windows < LEAST_BLOCKS:
        return 0
    wanted: int = max(math.ceil(round(windows ** (1 / 3), 9)), math.ceil(training_windows))
    return min(wanted, windows // LEAST_BLOCKS)


def resampled_means(values: Floats, block: int, *, resamples: int, seed: int) -> Floats:
    """Return the column means of resampled windows: `resamples` by columns, the windows shared by columns.

    Blocks of consecutive windows are drawn with replacement from the history closed to a circle, so that
    every window is drawn equally often. A missing value (NaN) is left out of its mean.
    Source: Politis and Romano, "A circular block-resampling procedure for stationary data" (1992).

    Args:
        values: One row per window, one column per policy.
        block: Windows per block, at least 1.
        resamples: How many histories to draw.
        seed: Seed of the draws.
    """
    rng, count = np.random.default_rng(seed), len(values)
    starts = rng.integers(0, count, (resamples, -(-count // block), 1))
    drawn = ((starts + np.arange(block)) % count).reshape(resamples, -1)[:, :count]
    times = np.zeros((resamples, count))
    np.add.at(times, (np.arange(resamples)[:, None], drawn), 1)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):  # a column without a value in any drawn window has no mean
        means: Floats = (times @ np.where(known, values, 0.0)) / (times @ known.astype(np.float64))
    return means


def block_interval(
    value: float, means: Floats, *, windows: int, block: int, confidence: float = 0.95
) -> Interval:
    """Return the two-sided interval of a mean from its resampled means, all NaN when they are too few.

    Quantiles of the resampled deviations, widened for the few blocks there are: by √(n/(n−b)), because a
    resample varies about a mean of the same windows, and from the normal to Student's t with n/b − 1 degrees
    of freedom. Measured with independent windows it covers 95 to 99 %; with an autocorrelation of 0.4 and
    blocks of eight, 93 to 97 %; with 0.7, which reaches beyond such blocks, 88 to 94 %. Plain quantiles
    cover 83 to 94 %, 80 to 91 % and 70 to 84 %.
    """
    means = means[np.isfinite(means)]
    if not np.isfinite(value) or len(means) == 0 or block < 1 or windows <= block:
        return Interval(value, math.nan, math.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means - means.mean(), [tail, 1 - tail])
    wider = math.sqrt(windows / (windows - block)) * float(stdtrit(windows / block - 1, tail) / ndtri(tail))
    return Interval(value, value + wider * float(low), value + wider * float(high))
