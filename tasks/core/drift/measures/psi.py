"""Population stability index, freed of what chance alone adds to it."""

from __future__ import annotations

import numpy as np

from tasks.core.drift.measures.base import Measure, Pair, Reading, shares


def read(pair: Pair) -> Reading:
    """Return sum (p - q) ln(p / q) over the groups, less its mean without drift, and never below 0.

    `statistic` is the uncorrected sum. Source: Siddiqi, Credit Risk Scorecards, 2006.
    """
    if pair.one_group is not None:
        return pair.one_group
    p, q = shares(pair.groups)
    raw = float(np.sum((q - p) * np.log(q / p)))
    return Reading(max(0.0, raw - pair.chance), statistic=raw)


# The usual limits; for a normal feature a shift of its mean by 0.32 and 0.45 standard deviations. The other
# distribution measures take the values that the same two shifts give in their own units.
PSI = Measure("psi", "distribution", ("numeric", "categorical"), 0.1, 0.2, read)
