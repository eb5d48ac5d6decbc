"""Kullback-Leibler divergence of the window from the reference, freed of what chance alone adds to it."""

from __future__ import annotations

import numpy as np

from tasks.core.drift.measures.base import Measure, Pair, Reading, shares


def read(pair: Pair) -> Reading:
    """Return sum q ln(q / p) over the groups, in nats, less its mean without drift, and never below 0.

    Chance adds half of what it adds to PSI, which is this divergence taken both ways. `statistic` is the
    uncorrected sum. Source: Kullback & Leibler, On information and sufficiency, 1951; for the bias: Miller,
    Note on the bias of information estimates, 1955.
    """
    if pair.one_group is not None:
        return pair.one_group
    p, q = shares(pair.groups)
    raw = float(np.sum(q * np.log(q / p)))
    return Reading(max(0.0, raw - pair.chance / 2), statistic=raw)


# Half of PSI's limits: d^2 / 2 for shifts d of 0.32 and 0.45 standard deviations, less the grouping's loss.
KL = Measure("kl", "distribution", ("numeric", "categorical"), 0.05, 0.1, read)
