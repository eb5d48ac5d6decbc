"""How sure a realised score is: the interval that fits its metric, exact or closed-form where possible."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri
from scipy.stats import rankdata

from tasks.core.evaluation.bootstrap import RESAMPLES, Interval, score_interval
from tasks.core.evaluation.scoring import Scored, all_labels, encode

Floats = NDArray[np.float64]
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))
_RESAMPLED_VALUES = 50_000_000
"""Rows times resamples, at most: a million rows get 100 resamples, which takes seconds, not minutes."""
_LEAST_RESAMPLES = 100


def realised_interval(
    scored: Scored,
    metric: str,
    *,
    confidence: float,
    seed: int = 0,
    positive: Any = None,  # Any: labels may be of any type
) -> Interval:
    """Return the metric of these rows with the two-sided interval that suits it.

    Accuracy is exact (Clopper-Pearson), a binary AUC is DeLong's on the logit scale, everything else a seeded
    percentile bootstrap. Rows are taken as independent: where one customer has many rows it is too narrow.
    NaN throughout means that it cannot be told.
    """
    if metric == "accuracy":
        right = _agreements(scored)
        return share_interval(int(right.sum()), len(right), confidence)
    if metric.startswith("roc_auc") and len(scored.classes or ()) == 2:
        return _binary_auc(scored, confidence)
    resamples = int(np.clip(_RESAMPLED_VALUES // max(len(scored.y_true), 1), _LEAST_RESAMPLES, RESAMPLES))
    found = score_interval(
        scored, metric, confidence=confidence, seed=seed, positive=positive, resamples=resamples
    )
    return _widened(found, scored, confidence) if scored.classes else found


def share_interval(hits: int, rows: int, confidence: float) -> Interval:
    """Return a share with its exact interval, which covers the truth at least as often as promised.

    Source: Clopper and Pearson, Biometrika 26 (1934).

    Example:
        >>> found = share_interval(8, 10, 0.95)
        >>> f"{found.value} {found.low:.4f} {found.high:.4f}"
        '0.8 0.4439 0.9748'
    """
    if rows <= 0:
        return _UNKNOWN
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, rows - hits + 1, tail))
    high = 1.0 if hits == rows else float(betaincinv(hits + 1, rows - hits, 1 - tail))
    return Interval(hits / rows, low, high)


def auc_interval(positive: Floats, negative: Floats, confidence: float) -> Interval:
    """Return the area under the ROC curve of these two groups of scores with its interval.

    The variance is DeLong's, the interval symmetric on the logit scale, so that it stays within 0..1 and
    covers well near 1. A perfect order, which has no variance, gets the exact bound of that many hits in a
    row.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); ranks as in Sun and Xu, IEEE Signal
    Processing Letters 21 (2014); logit scale: Pepe, The Statistical Evaluation of Medical Tests (2003), 5.2.
    """
    many, few = len(positive), len(negative)
    if min(many, few) < 2:
        return _UNKNOWN
    above, below = placements(positive, negative)
    value = float(above.mean())
    error = math.sqrt(above.var(ddof=1) / many + below.var(ddof=1) / few)
    if error == 0 or not 0 < value < 1:
        return without_exception(value, min(many, few), confidence)
    centre = math.log(value / (1 - value))
    reach = float(ndtri((1 + confidence) / 2)) * error / (value * (1 - value))
    return Interval(value, _expit(centre - reach), _expit(centre + reach))


def placements(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Return the share of negatives below each positive, and of positives above each negative; ties half."""
    many, few = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:many] - rankdata(positive)) / few
    below = 1 - (ranks[many:] - rankdata(negative)) / many
    return np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def without_exception(value: float, rows: float, confidence: float, lowest: float = 0.0) -> Interval:
    """Return the interval of a score that never varied: as wide as `rows` equal outcomes allow."""
    reach = 1 - ((1 - confidence) / 2) ** (1 / rows)
    return Interval(value, max(lowest, value - reach), min(1.0, value + reach))


def _widened(found: Interval, scored: Scored, confidence: float) -> Interval:
    """Return the interval, made honest where every resample agreed because a class has only a few rows.

    F1 is 0 on every resample of five missed positives, and yet the true F1 may well be 0.5.
    """
    if not found.is_known or found.high > found.low or not 0 <= found.value <= 1:
        return found
    labels = all_labels([scored])
    counts = np.bincount(encode(scored.y_true, labels) + 1, minlength=len(labels) + 1)[1:]
    return without_exception(found.value, int(counts[counts > 0].min()), confidence)


def _agreements(scored: Scored) -> NDArray[np.bool_]:
    labels = all_labels([scored])
    same: NDArray[np.bool_] = encode(scored.y_true, labels) == encode(scored.prediction, labels)
    return same


def _binary_auc(scored: Scored, confidence: float) -> Interval:
    """Return the AUC of two classes; it is the same number whichever of them is called positive."""
    given = np.asarray(scored.probabilities, dtype=np.float64)[:, 1]
    codes = encode(scored.y_true, scored.classes or ())
    if (codes < 0).any() or not np.isfinite(given).all():
        return _UNKNOWN
    return auc_interval(given[codes == 1], given[codes == 0], confidence)
