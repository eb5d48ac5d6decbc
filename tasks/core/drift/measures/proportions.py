"""Exact comparison of two shares."""

from __future__ import annotations

from scipy import stats


def more(k_reference: int, n_reference: int, k_current: int, n_current: int) -> float | None:
    """Return the one-sided p-value that the current share is higher (Fisher's exact test).

    None when there is nothing to test: no such row in either sample, or no other.
    """
    k, n = k_reference + k_current, n_reference + n_current
    if k in {0, n}:
        return None
    return min(1.0, float(stats.hypergeom.sf(k_current - 1, n, k, n_current)))


def different(k_reference: int, n_reference: int, k_current: int, n_current: int) -> float | None:
    """Return the two-sided p-value, twice the smaller one-sided; None when there is nothing to test."""
    higher = more(k_reference, n_reference, k_current, n_current)
    lower = more(n_reference - k_reference, n_reference, n_current - k_current, n_current)
    return None if higher is None or lower is None else min(1.0, 2 * min(higher, lower))
