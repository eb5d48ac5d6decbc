"""Jensen-Shannon distance over the groups."""

from __future__ import annotations

import numpy as np

from tasks.core.drift.measures.base import Measure, Pair, Reading


def read(pair: Pair) -> Reading:
    """Return the square root of the divergence in bits, from 0 (equal) to 1 (nothing in common).

    What chance adds to the divergence, an eighth of PSI's share in nats, is taken off; `statistic` is the
    uncorrected distance. Source: Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    groups = pair.groups
    if pair.one_group is not None:
        return pair.one_group
    p, q = groups / groups.sum(axis=1, keepdims=True)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p / middle), 0) + np.where(q > 0, q * np.log2(q / middle), 0)
    raw = max(0.0, float(terms.sum()) / 2)
    corrected = max(0.0, raw - pair.chance / 8 / np.log(2))
    return Reading(float(np.sqrt(corrected)), statistic=float(np.sqrt(raw)))


# PSI = 8 ln 2 JS for small differences: 0.1 and 0.2 of PSI.
JENSEN_SHANNON = Measure("jensen_shannon", "distribution", ("numeric", "categorical"), 0.134, 0.19, read)
