"""Total variation distance over the groups: the share of rows that would have to change their group."""

from __future__ import annotations

import numpy as np

from tasks.core.drift.measures.base import Measure, Pair, Reading


def read(pair: Pair) -> Reading:
    """Return half the sum of |p - q| over the groups, from 0 (equal) to 1 (nothing in common).

    What chance makes of it, half the sum of sqrt(2 / pi) standard deviations, is taken off its square;
    `statistic` is the uncorrected distance. Source: Levin, Peres & Wilmer, Markov Chains and Mixing Times,
    2009; mean of |normal|: Geary, The ratio of the mean deviation to the standard deviation, 1935.
    """
    groups = pair.groups
    if pair.one_group is not None:
        return pair.one_group
    n, m = groups.sum(axis=1)
    p, q = groups[0] / n, groups[1] / m
    raw = float(np.abs(p - q).sum()) / 2
    both = groups.sum(axis=0) / (n + m)
    deviation = np.sqrt(both * (1 - both) * (1 / n + 1 / m) * pair.factor("distribution"))
    by_chance = float(np.sqrt(2 / np.pi) * deviation.sum()) / 2
    return Reading(float(np.sqrt(max(0.0, raw**2 - by_chance**2))), statistic=raw)


# Of two normal distributions it is what Kolmogorov-Smirnov's distance is.
TOTAL_VARIATION = Measure("total_variation", "distribution", ("numeric", "categorical"), 0.127, 0.178, read)
