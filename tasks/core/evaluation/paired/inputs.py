"""On how many rows two models say something else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.scoring import Scored, encode
from tasks.core.evaluation.weighing import effective_rows

Floats = NDArray[np.float64]


def differing_rows(
    mine: Scored,
    theirs: Scored,
    labels: tuple[Any, ...],
    *,
    by_probability: bool,
    weights: Floats | None = None,
) -> float:
    """Return on how many effective rows the two answers are not the same; no `labels`: they are numbers."""
    differ = _differ(mine, theirs, labels, by_probability=by_probability)
    return effective_rows(None if weights is None else weights[differ], int(differ.sum()))


def _differ(
    mine: Scored, theirs: Scored, labels: tuple[Any, ...], *, by_probability: bool
) -> NDArray[np.bool_]:
    if by_probability and mine.probabilities is not None and theirs.probabilities is not None:
        if mine.classes == theirs.classes:
            return np.asarray((mine.probabilities != theirs.probabilities).any(axis=1))
        return np.ones(len(mine.y_true), dtype=bool)
    said = [encode(one.prediction, labels) if labels else one.prediction for one in (mine, theirs)]
    return np.asarray(np.asarray(said[0]) != np.asarray(said[1]))
