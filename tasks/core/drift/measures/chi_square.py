"""Chi-square test that both samples share one distribution over the groups."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tasks.core.drift.measures.base import Measure, Pair, Reading, Table, chance
from tasks.core.drift.measures.proportions import different


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
    expected = groups.sum(axis=1, keepdims=True) * groups.sum(axis=0) / groups.sum()
    statistic = float(((groups - expected) ** 2 / expected).sum())
    p, q = groups / groups.sum(axis=1, keepdims=True)
    squared = float(np.sum((p - q) ** 2 / (p + q))) / 2 - chance(groups) / 4
    p_value = float(stats.chi2.sf(statistic, groups.shape[1] - 1)) if pair.fits_chi_square else _exact(groups)
    return Reading(float(np.sqrt(max(0.0, squared))), p_value, statistic)


def _exact(groups: Table) -> float:
    n, m = (int(total) for total in groups.sum(axis=1))
    found = [different(int(k), n, int(now), m) for k, now in groups.T]
    return min(1.0, groups.shape[1] * min(p for p in found if p is not None))


# PSI = 4 V^2 for small differences: 0.1 and 0.2 of PSI.
CHI_SQUARE = Measure("chi_square", "distribution", ("numeric", "categorical"), 0.158, 0.224, read)
