"""Wasserstein distance of a numeric feature, in standard deviations of the reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.counting.bins import STEP
from tasks.core.drift.measures.base import Measure, Pair, Reading

Floats = NDArray[np.float64]


def read(pair: Pair) -> Reading:
    """Return how far, on average, a value would have to move to turn one sample into the other.

    Every cell's rows are taken to lie at the cell's own mean in each sample, so that a change of unit in
    the outermost cell is seen at its full size. Where windows differ more than independent rows would, it is
    also a test: cells know no distance, and where a window counts as a few rows they cannot tell it from an
    odd one.

    Source: Vallender, Calculation of the Wasserstein distance between probability distributions on the line,
    1974: the area between the distribution functions.
    """
    if pair.bins.scale == 0:
        return Reading(None, note="the reference is constant: no scale to measure by")
    cells = np.array([pair.reference.cells, pair.current.cells], dtype=np.float64)
    sums = np.array([pair.reference.sums, pair.current.sums], dtype=np.float64)
    found = float(distance(cells[None], sums[None])[0])
    dispersion = pair.dispersion("distribution")
    if not dispersion.apart:
        return Reading(found)
    return Reading(found, float(p_of(found, pair.current.values, dispersion)), found)


def distance(cells: Floats, sums: Floats) -> Floats:
    """Return the distance of pairs of samples, [pairs], from cells and their sums, [pairs, 2, cells]."""
    weight = cells / np.maximum(cells.sum(axis=2, keepdims=True), 1)
    signed = np.stack([weight[:, 0], -weight[:, 1]], axis=1).reshape(len(cells), -1)
    place = (sums / np.maximum(cells, 1)).reshape(len(cells), -1)
    order = np.argsort(place, axis=1, kind="stable")
    ahead = np.abs(np.cumsum(np.take_along_axis(signed, order, axis=1), axis=1))[:, :-1]
    steps = np.diff(np.take_along_axis(place, order, axis=1), axis=1)
    found: Floats = (ahead * steps).sum(axis=1) * STEP
    return found


def p_of(distance: ArrayLike, m: ArrayLike, dispersion: Dispersion) -> Floats:
    """Return the chance of at least this distance, by those of the reference's blocks from their others.

    Its square over their mean square is taken as F distributed: a window is then a normal draw from windows
    that differ by their mean. A window with fewer rows than a block may lie further out.
    """
    larger = np.maximum(dispersion.rows / np.maximum(np.asarray(m, dtype=np.float64), 1), 1)
    ratio = (np.asarray(distance) / dispersion.apart) ** 2 / larger
    return np.asarray(special.fdtrc(1.0, dispersion.apart_dof, ratio), dtype=np.float64)


WASSERSTEIN = Measure("wasserstein", "distribution", ("numeric",), 0.32, 0.45, read)
