"""Whether the probabilities that were served mean what they say, now that the labels are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.drift.matters.label_mix import label_text
from tasks.core.evaluation.guards.calibration import Floats, expected_error, recalibration_slope
from tasks.core.spec import ModelSpec

_DRAWS = 199
MOST_ROWS = 20_000  # of a window; more make the error no clearer


@dataclass(frozen=True)
class Chances:
    """Calibration of served probabilities.

    Attributes:
        rows: Labelled predictions with probabilities.
        error: Mean distance between what was said and what happened, from 0 to 1.
        usual: What right probabilities would give on average with so few rows.
        p_value: Chance that right probabilities give such an error or a larger one.
        slope: 1 is right, below 1 overconfident; None where it cannot be told, as with many classes.
    """

    rows: int
    error: float
    usual: float
    p_value: float
    slope: float | None

    def sentence(self) -> str:
        """Return the calibration in one sentence."""
        shown = f"probabilities are off by {self.error:.3f} on average, {self.usual:.3f} by chance alone"
        return f"{shown} (p {self.p_value:.3g})"


def served_chances(
    labels: Sequence[Any], scores: Sequence[Any], classes: Sequence[Any] | None, spec: ModelSpec
) -> Chances | None:
    """Return the calibration of these rows; None without probabilities or on too few rows.

    Right probabilities have an error too, as rows are few; `usual` and `p_value` are of draws from them.

    Args:
        labels: Known labels.
        scores: For each its probability per class, None where none was kept.
        classes: The champion's classes in the order of the scores.
        spec: The model's; of two classes the probability of `label.positive` is judged.
    """
    chance, happened = _pairs(labels, scores, list(classes or ()), spec)
    if len(chance) < spec.performance.min_rows:
        return None
    chance, happened = chance[:MOST_ROWS], happened[:MOST_ROWS]
    error = expected_error(chance, happened)
    rng = np.random.default_rng(spec.estimator.seed)
    drawn = np.array(
        [expected_error(chance, (rng.random(len(chance)) < chance).astype(np.float64)) for _ in range(_DRAWS)]
    )
    p_value = (1 + int((drawn >= error).sum())) / (_DRAWS + 1)
    slope = recalibration_slope(chance, happened) if len(classes or ()) == 2 else math.nan
    return Chances(len(chance), error, float(drawn.mean()), p_value, slope if math.isfinite(slope) else None)


def _pairs(
    labels: Sequence[Any], scores: Sequence[Any], classes: list[Any], spec: ModelSpec
) -> tuple[Floats, Floats]:
    """Return what was said of one class, or of the likeliest one, and whether it happened."""
    place = {label_text(name): index for index, name in enumerate(classes)}
    kept = [
        (place[label_text(label)], row)
        for label, row in zip(labels, scores, strict=True)
        if isinstance(row, list | tuple)
        and len(row) == len(classes)
        and not pd.isna(label)
        and label_text(label) in place
    ]
    if not kept:
        return np.empty(0), np.empty(0)
    truth = np.array([index for index, _ in kept])
    table = np.array([row for _, row in kept], dtype=np.float64)
    fine = np.isfinite(table).all(axis=1)
    truth, table = truth[fine], table[fine]
    if len(classes) == 2:
        named = None if spec.label.positive is None else place.get(label_text(spec.label.positive))
        positive = 1 if named is None else named
        return table[:, positive], (truth == positive).astype(np.float64)
    return table.max(axis=1), (table.argmax(axis=1) == truth).astype(np.float64)
