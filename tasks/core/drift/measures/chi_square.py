"""Chi-square test that both samples share one distribution over the groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.chance.groups import Table, large_enough, used
from tasks.core.drift.measures.base import Measure, Pair, Reading
from tasks.core.drift.measures.proportions import tails

Floats = NDArray[np.float64]


def read(pair: Pair) -> Reading:
    """Return Cramér's V as it would be for samples of equal size, and the test's p-value.

    V, from 0 to 1, is freed of what chance adds; `statistic` is Pearson's chi-square without continuity
    correction. Where a group is too small for the chi-square distribution, the p-value is that of the most
    telling group's exact test, times the number of groups.

    Source: Cramér, Mathematical Methods of Statistics, 1946.
    """
    groups = pair.groups
    if pair.one_group is not None:
        return pair.one_group
    p, q = groups / groups.sum(axis=1, keepdims=True)
    squared = float(np.sum((p - q) ** 2 / (p + q))) / 2 - pair.chance / 4
    p_value = float(p_values(groups, pair.dispersion("distribution")))
    return Reading(float(np.sqrt(max(0.0, squared))), p_value, float(pearson(groups)))


def pearson(groups: Table) -> Floats:
    """Return Pearson's statistic of tables [..., 2, groups]; an empty group adds nothing."""
    expected = groups.sum(axis=-1, keepdims=True) * groups.sum(axis=-2, keepdims=True)
    expected = expected / np.maximum(groups.sum(axis=(-2, -1), keepdims=True), 1)
    found: Floats = ((groups - expected) ** 2 / np.where(expected > 0, expected, 1)).sum(axis=(-2, -1))
    return found


def p_values(groups: Table, dispersion: Dispersion = INDEPENDENT, *, least: float = 0.0) -> Floats:
    """Return the p-value of tables [..., 2, groups]; `least` as in `tails`, where exact tests are needed."""
    n, m = groups.sum(axis=-1)[..., 0], groups.sum(axis=-1)[..., 1]
    factor = 1.0 if dispersion.independent else dispersion.between(n, m)
    found = np.array(dispersion.chi_square(pearson(groups), used(groups) - 1, factor))
    small = ~large_enough(groups)
    if small.any():
        rare = np.ones_like(found)
        rare[small] = _exact(groups[small], dispersion, least)
        found = np.where(small, rare if dispersion.independent else np.maximum(found, rare), found)
    return found


def _exact(groups: Table, dispersion: Dispersion, least: float) -> Floats:
    totals = groups.sum(axis=-1, keepdims=True)
    k, now = groups[..., 0, :], groups[..., 1, :]
    n, m = (np.broadcast_to(totals[..., side, :], k.shape) for side in (0, 1))
    each = np.ones(k.shape)
    there = (k + now > 0) & (k + now < n + m)
    each[there] = tails(k[there], n[there], now[there], m[there], dispersion, sides=2, least=least)
    return np.asarray(np.minimum(1.0, used(groups) * each.min(axis=-1)))


# PSI = 4 V^2 for small differences: 0.1 and 0.2 of PSI.
CHI_SQUARE = Measure("chi_square", "distribution", ("numeric", "categorical"), 0.158, 0.224, read)
