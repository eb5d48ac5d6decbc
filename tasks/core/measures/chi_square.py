"""Chi-square test that both samples share one distribution over the groups."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tasks.core.measures.base import Measure, Pair, Reading, chance


def read(pair: Pair) -> Reading:
    """Return Cramér's V as it would be for samples of equal size, and the test's p-value.

    V, from 0 to 1, is freed of what chance adds; `statistic` is Pearson's chi-square without continuity
    correction. Source: Cramér, Mathematical Methods of Statistics, 1946.
    """
    groups = pair.groups
    if groups.shape[1] < 2:
        return Reading(0.0, note="one value in both")
    expected = groups.sum(axis=1, keepdims=True) * groups.sum(axis=0) / groups.sum()
    statistic = float(((groups - expected) ** 2 / expected).sum())
    p, q = groups / groups.sum(axis=1, keepdims=True)
    squared = float(np.sum((p - q) ** 2 / (p + q))) / 2 - chance(groups) / 4
    p_value = float(stats.chi2.sf(statistic, groups.shape[1] - 1))
    return Reading(float(np.sqrt(max(0.0, squared))), p_value, statistic)


# PSI = 4 V^2 for small differences: 0.1 and 0.2 of PSI.
CHI_SQUARE = Measure("chi_square", "distribution", ("numeric", "categorical"), 0.158, 0.224, read)
