"""The answers of two versions taken together: the mean of their probabilities, or of their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.core.model.pipeline import Predictions


@dataclass(frozen=True)
class Answering:
    """What a version takes and gives: features by kind, classes (None: a regressor), probabilities."""

    numeric: frozenset[str]
    categorical: frozenset[str]
    classes: tuple[Any, ...] | None  # Any: labels may be text, whole numbers or booleans
    has_probabilities: bool


def can_combine(first: Predictions, second: Predictions) -> bool:
    """Return whether the two answers have a mean: both are numbers, or probabilities of the same classes."""
    if first.classes is None and second.classes is None:
        return True
    both = first.probabilities is not None and second.probabilities is not None
    return both and first.classes == second.classes


def why_no_mean(champion: Answering, partner: Answering) -> str:
    """Return why the answers of these two versions to the same rows have no mean; empty: they have one.

    The partner is asked with the rows that were checked for the champion, so it may know fewer features than
    the champion, not others.
    """
    if champion.classes != partner.classes:
        return "other classes than the champion, or the same in another order"
    if champion.classes is not None and not (champion.has_probabilities and partner.has_probabilities):
        return "a classifier without probabilities on either side"
    unknown = sorted({*(partner.numeric - champion.numeric), *(partner.categorical - champion.categorical)})
    return f"features that the champion does not have as such: {', '.join(unknown[:5])}" if unknown else ""


def combine(champion: Predictions, partner: Predictions) -> Predictions:
    """Return the mean of both answers to the same rows, each with half the vote.

    The label is the class with the larger mean probability, of equal ones the first, as scikit-learn's own
    classifiers choose it; a regression's number is the mean of both.

    Raises:
        ValueError: when the two cannot be combined (see `can_combine`) or differ in the number of rows.

    Example:
        >>> classes = ("no", "yes")
        >>> one = Predictions(np.array(["no"]), np.array([[0.6, 0.4]]), classes)
        >>> other = Predictions(np.array(["yes"]), np.array([[0.1, 0.9]]), classes)
        >>> combine(one, other).prediction.tolist(), combine(one, other).probabilities.round(2).tolist()
        (['yes'], [[0.35, 0.65]])
    """
    if not can_combine(champion, partner):
        raise ValueError("two answers without probabilities of the same classes have no mean")
    if len(champion.prediction) != len(partner.prediction):
        raise ValueError("the two versions answered different numbers of rows")
    if champion.classes is None or champion.probabilities is None or partner.probabilities is None:
        numbers = (np.asarray(champion.prediction, float) + np.asarray(partner.prediction, float)) / 2
        return Predictions(numbers, None, champion.classes)
    mean = (champion.probabilities + partner.probabilities) / 2
    kind = champion.prediction.dtype
    labels: Any = np.asarray(champion.classes, dtype=kind if kind.kind != "U" else None)  # Any: of any type
    return Predictions(labels[mean.argmax(axis=1)], mean, champion.classes)
