"""Exact comparison of two shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.chance.tails import hypergeometric

Floats = NDArray[np.float64]


def more(
    k_reference: int,
    n_reference: int,
    k_current: int,
    n_current: int,
    dispersion: Dispersion = INDEPENDENT,
) -> float | None:
    """Return the one-sided p-value that the current share is higher (Fisher's exact test).

    None when there is nothing to test: no such row in either sample, or no other. Where rows are no
    independent ones it is the larger of the test of as many rows as they are worth and of a t test.
    """
    if k_reference + k_current in {0, n_reference + n_current}:
        return None
    return float(tails(k_reference, n_reference, k_current, n_current, dispersion, sides=1))


def different(
    k_reference: int,
    n_reference: int,
    k_current: int,
    n_current: int,
    dispersion: Dispersion = INDEPENDENT,
) -> float | None:
    """Return the two-sided p-value, twice the smaller one-sided; None when there is nothing to test."""
    if k_reference + k_current in {0, n_reference + n_current}:
        return None
    return float(tails(k_reference, n_reference, k_current, n_current, dispersion, sides=2))


def tails(
    k_reference: ArrayLike,
    n_reference: ArrayLike,
    k_current: ArrayLike,
    n_current: ArrayLike,
    dispersion: Dispersion = INDEPENDENT,
    *,
    sides: int,
    least: float = 0.0,
) -> Floats:
    """Return p-values of many comparisons; where the shares are equal beyond doubt, 1.

    `least` is the number of standard deviations below which a difference is not looked at, and its p-value
    given as 1.
    """
    k, n, now, m = (
        np.asarray(x, dtype=np.float64)
        for x in np.broadcast_arrays(k_reference, n_reference, k_current, n_current)
    )
    shared = (k + now) / (n + m)
    factor_k, factor_m = dispersion.factor, dispersion.at(m)
    deviation = np.sqrt(shared * (1 - shared) * (factor_k / n + factor_m / m))
    z = (now / m - k / n) / np.where(deviation > 0, deviation, 1)
    z = np.abs(z) if sides == 2 else z
    looked = z >= least if least else np.ones(np.shape(z), dtype=bool)
    found = np.ones(np.shape(z))
    whole = _rounded((k, n, now, m), factor_k, factor_m)
    found[looked] = sides * _fisher(*(np.broadcast_to(x, np.shape(z))[looked] for x in whole), sides=sides)
    if not dispersion.independent:
        found = np.maximum(found, sides * dispersion.normal(z))
    return np.minimum(found, 1.0)


def _rounded(counts: tuple[Floats, ...], factor_k: float, factor_m: float | Floats) -> tuple[Floats, ...]:
    """Return the counts as those of the independent rows that they are worth."""
    k, n, now, m = counts
    fewer, least = np.maximum(np.round(n / factor_k), 1), np.maximum(np.round(m / factor_m), 1)
    return np.round(k / n * fewer), fewer, np.round(now / m * least), least


def _fisher(k: Floats, n: Floats, now: Floats, m: Floats, *, sides: int) -> Floats:
    """Return the chance of at least `now`; of two sides, of the one that the current share lies on."""
    lower = (now * n < k * m) if sides == 2 else np.zeros(np.shape(k), dtype=bool)
    count = np.where(lower, m - now, now)
    marked = np.where(lower, n + m - k - now, k + now)
    return np.asarray(hypergeometric(count, n + m, marked, m))
