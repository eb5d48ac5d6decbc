"""Wasserstein distance of a numeric feature, in standard deviations of the reference."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tasks.core.drift.bins import STEP, Counts
from tasks.core.drift.measures.base import Measure, Pair, Reading


def read(pair: Pair) -> Reading:
    """Return how far, on average, a value would have to move to turn one sample into the other.

    Every cell's rows are taken to lie at the cell's own mean in each sample, so that a change of unit in
    the outermost cell is seen at its full size.
    """
    if pair.bins.scale == 0:
        return Reading(None, note="the reference is constant: no scale to measure by")
    ours, ours_weight = _atoms(pair.reference)
    theirs, their_weight = _atoms(pair.current)
    return Reading(float(stats.wasserstein_distance(ours, theirs, ours_weight, their_weight)))


def _atoms(counts: Counts) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[int]]:
    pairs = [(total / rows, rows) for total, rows in zip(counts.sums, counts.cells, strict=True) if rows]
    return np.array([place for place, _ in pairs]) * STEP, [rows for _, rows in pairs]


WASSERSTEIN = Measure("wasserstein", "distribution", ("numeric",), 0.32, 0.45, read)
