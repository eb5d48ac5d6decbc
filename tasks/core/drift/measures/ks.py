"""Two-sample Kolmogorov-Smirnov test on the cells."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tasks.core.drift.measures.base import Measure, Pair, Reading

_MANY = 50_000  # beyond it the limiting distribution agrees to four digits and costs a thousandth


def read(pair: Pair) -> Reading:
    """Return the largest distance of the two distribution functions at the cells' edges, and its p-value.

    Exact for columns with a cell per value; otherwise a hair below the distance of the raw values, so the
    p-value is never too small. Source: Hodges, The significance probability of the Smirnov test, 1958.
    """
    both = np.array([pair.reference.cells, pair.current.cells], dtype=np.float64)
    n, m = both.sum(axis=1)
    first, second = np.cumsum(both, axis=1) / [[n], [m]]
    distance = float(np.abs(first - second).max())
    return Reading(distance, p_of(distance, int(n), int(m)), distance)


def p_of(distance: float, n: int, m: int) -> float:
    """Return the chance of at least this distance without drift, as scipy's `method="asymp"` does."""
    size = n * m / (n + m)
    if size > _MANY:
        return float(stats.kstwobign.sf(np.sqrt(size) * distance))
    return float(stats.kstwo.sf(distance, np.round(size)))


# 2 Phi(d / 2) - 1 for shifts d of 0.32 and 0.45 standard deviations.
KS = Measure("ks", "distribution", ("numeric",), 0.127, 0.178, read)
