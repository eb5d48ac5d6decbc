"""Whether probabilities mean what they say; reported with every comparison, deciding none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from tasks.core.evaluation.scoring import Scored, all_labels, encode
from tasks.core.evaluation.verdicts import NAN, CalibrationResult

Floats = NDArray[np.float64]
_BINS = 15  # our choice, as is usual
_CLIP = 1e-6  # a probability of exactly 0 or 1 has no finite logit
_ROUNDS = 25
_STEEPEST = 1e3  # a slope beyond this means that the classes are separated, and has no finite value


def calibration_of(
    challenger: Scored,
    champion: Scored | None,
    *,
    positive: Any = None,  # Any: labels may be of any type
    weights: NDArray[np.float64] | None = None,
) -> CalibrationResult | None:
    """Return error and slope of both models; None when the challenger gives no probabilities.

    Of two classes the positive one's probability is judged; of more, that of the most likely class, and there
    is no slope.
    """
    if challenger.probabilities is None or not challenger.classes or not len(challenger.y_true):
        return None
    mine = _one(challenger, positive, weights)
    theirs = (NAN, NAN) if champion is None else _one(champion, positive, weights)
    return CalibrationResult(*mine, *theirs)


def expected_error(chance: Floats, happened: Floats, weights: Floats | None = None) -> float:
    """Return the mean distance between what was predicted and what happened, over equally filled bins.

    Shapes: one probability in 0..1, one 0 or 1, and one weight per row; NaN without rows. Equal answers stay
    in one bin, so that the order of rows does not matter.
    Source: Nguyen and O'Connor, EMNLP (2015), for the adaptive bins of the expected calibration error.

    Example:
        >>> expected_error(np.array([0.2] * 10), np.array([1.0] * 5 + [0.0] * 5))
        0.3
    """
    if not len(chance):
        return NAN
    each = np.ones(len(chance)) if weights is None else weights
    edges = np.unique(np.quantile(chance, np.linspace(0, 1, _BINS + 1)[1:-1]))
    place = np.searchsorted(edges, chance, side="left")
    size, said, done = (
        np.bincount(place, weights=part, minlength=len(edges) + 1)
        for part in (each, each * chance, each * happened)
    )
    return float(np.abs(said - done).sum() / size.sum())


def recalibration_slope(chance: Floats, happened: Floats, weights: Floats | None = None) -> float:
    """Return b of `logit P(happened) = a + b logit(chance)`: 1 is right, below 1 overconfident.

    NaN where one class is absent, all probabilities are equal, or the probabilities separate the classes.
    Source: Cox, Biometrika 45 (1958); fitted by Newton's method.
    """
    x = logit(np.clip(chance, _CLIP, 1 - _CLIP))
    if len(x) < 2 or np.ptp(x) < 1e-9 or np.ptp(happened) == 0:
        return NAN
    table, each = np.column_stack([np.ones(len(x)), x]), np.ones(len(x)) if weights is None else weights
    fit = np.zeros(2)  # from here, unlike from (0, 1), the first step does not overshoot for sharp chances
    for _ in range(_ROUNDS):
        said = expit(table @ fit)
        curvature = (table * (each * said * (1 - said))[:, None]).T @ table
        try:
            step = np.linalg.solve(curvature, table.T @ (each * (happened - said)))
        except np.linalg.LinAlgError:
            return NAN
        fit = fit + step
        if not np.isfinite(fit).all() or abs(fit[1]) > _STEEPEST:
            return NAN
        if np.abs(step).max() < 1e-8:
            return float(fit[1])
    return NAN


def _one(scored: Scored, positive: Any, weights: Floats | None) -> tuple[float, float]:
    classes = scored.classes
    if scored.probabilities is None or not classes:
        return NAN, NAN
    given = np.asarray(scored.probabilities, dtype=np.float64)
    labels = all_labels([scored])
    truth = encode(scored.y_true, labels)
    if len(classes) == 2 and len(labels) == 2:
        place = classes.index(positive) if positive in classes else 1
        chance, happened = given[:, place], (truth == labels.index(classes[place])).astype(np.float64)
        return expected_error(chance, happened, weights), recalibration_slope(chance, happened, weights)
    best = given.argmax(axis=1)
    places = encode(np.asarray(classes, dtype=object), labels)
    return expected_error(given.max(axis=1), (places[best] == truth).astype(np.float64), weights), NAN
