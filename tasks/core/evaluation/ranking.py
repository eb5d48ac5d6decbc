"""How well scores rank the positives above the rest, for many row weights after one sorting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def auc(scores: Floats, positive: NDArray[np.bool_]) -> Callable[[Floats | None], float]:
    """Return the share of (positive, negative) pairs in the right order, ties one half."""
    good, bad = np.flatnonzero(positive), np.flatnonzero(~positive)
    bad = bad[np.argsort(scores[bad], kind="stable")]
    below = np.searchsorted(scores[bad], scores[good], "left")
    up_to = np.searchsorted(scores[bad], scores[good], "right")

    def value(weights: Floats | None) -> float:
        mine = np.ones(len(good)) if weights is None else weights.take(good)
        theirs = np.zeros(len(bad) + 1)
        np.cumsum(np.ones(len(bad)) if weights is None else weights.take(bad), out=theirs[1:])
        pairs = float(mine.sum() * theirs[-1])
        wins = float(mine @ (theirs.take(below) + theirs.take(up_to))) / 2
        return wins / pairs if pairs > 0 else float("nan")

    return value


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> Callable[[Floats | None], float]:
    """Return the mean precision over the positives, rows of equal score counted as one step."""
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    good = order[positive[order]]
    end = np.searchsorted(falling, -scores[good], "right") - 1
    good_end = np.searchsorted(-scores[good], -scores[good], "right") - 1

    def value(weights: Floats | None) -> float:
        mine = np.ones(len(good)) if weights is None else weights.take(good)
        seen = np.cumsum(np.ones(len(order)) if weights is None else weights.take(order)).take(end)
        precision = np.cumsum(mine).take(good_end) / np.maximum(seen, 0.5)  # seen 0: weight 0 too
        total = float(mine.sum())
        return float(mine @ precision) / total if total > 0 else float("nan")

    return value
