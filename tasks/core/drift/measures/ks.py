"""Two-sample Kolmogorov-Smirnov test on the cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.chance.groups import Table
from tasks.core.drift.chance.tails import kolmogorov_smirnov
from tasks.core.drift.measures.base import Measure, Pair, Reading

Floats = NDArray[np.float64]


def read(pair: Pair) -> Reading:
    """Return the largest distance of the two distribution functions at the cells' edges, and its p-value.

    Exact for columns with a cell per value; otherwise a hair below the distance of the raw values, so the
    p-value is never too small. Source: Hodges, The significance probability of the Smirnov test, 1958.
    """
    both = np.array([pair.reference.cells, pair.current.cells], dtype=np.float64)
    found = float(distance(both))
    n, m = both.sum(axis=1)
    p_value = float(p_of(found, n, m, pair.dispersion("distribution")))
    return Reading(found, p_value, found)


def distance(both: Table) -> Floats:
    """Return the largest distance of tables [..., 2, cells]."""
    first = np.cumsum(both, axis=-1) / np.maximum(both.sum(axis=-1, keepdims=True), 1)
    found: Floats = np.abs(first[..., 0, :] - first[..., 1, :]).max(axis=-1)
    return found


def p_of(distance: ArrayLike, n: ArrayLike, m: ArrayLike, dispersion: Dispersion = INDEPENDENT) -> Floats:
    """Return the chance of at least this distance without drift, as scipy's `method="asymp"` does.

    Where rows are no independent ones it is the bound 2 exp(-2 s d^2), for the number s of rows that they
    are worth where they vary most, averaged over what the blocks leave open about that number.
    """
    n, m = np.asarray(n, dtype=np.float64), np.asarray(m, dtype=np.float64)
    size = n * m / np.maximum(n + m, 1)
    if dispersion.independent:
        return kolmogorov_smirnov(distance, size)
    worth = size / dispersion.between(np.maximum(n, 1), np.maximum(m, 1), top=True)
    squared = 4 * worth * np.asarray(distance) ** 2 / dispersion.dof
    return np.asarray(np.minimum(1.0, 2 * (1 + squared) ** (-dispersion.dof / 2)))


# 2 Phi(d / 2) - 1 for shifts d of 0.32 and 0.45 standard deviations.
KS = Measure("ks", "distribution", ("numeric",), 0.127, 0.178, read)
