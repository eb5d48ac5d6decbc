"""A metric of rows whose labels are known only as probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.scoring import Scored, Statistic, encode, statistic

if TYPE_CHECKING:
    from tasks.core.model.pipeline import Predictions

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expectation:
    """Answers of a classifier, ranked and compared once for every table of label probabilities to come.

    Each row stands there once per class, and the probability of that class is its weight: any metric that
    takes weights then works on uncertain labels, and on drawn ones, whose weights are 0 and 1.
    """

    rows: int
    classes: int
    statistic: Statistic

    def expected(self, table: Floats, times: Floats | None = None) -> float:
        """Return the metric of the expected confusion of labels and answers, NaN where it cannot be told.

        Args:
            table: Probability of each class for each row: rows by classes, each row summing to 1.
            times: How often each row counts; default: once.

        Source: for a binary model, the area under the curve of expected true and false positives, as in
        NannyML's CBPE (https://nannyml.readthedocs.io, "Confidence-based performance estimation").
        """
        weights = table if times is None else table * times[:, None]
        return self.statistic(weights.T.ravel())

    def drawn(self, table: Floats, rng: np.random.Generator) -> float:
        """Return the metric of one draw of labels from these probabilities."""
        chance = rng.random(self.rows)
        if self.classes == 2:
            second = (chance < table[:, 1]).astype(np.float64)
            return self.statistic(np.concatenate([1 - second, second]))
        label = (chance[:, None] >= np.cumsum(table, axis=1)[:, :-1]).sum(axis=1)
        weights = np.zeros((self.classes, self.rows))
        weights[label, np.arange(self.rows)] = 1.0
        return self.statistic(weights.ravel())


@dataclass(frozen=True, eq=False)
class Drawn:
    """What an estimator comes to, before it is set beside the promise.

    `change` is the expected score less that of the holdout, `changes` the same under resampled holdouts and
    windows, `realised` the score less the holdout's under drawn labels.
    """

    change: float
    changes: Floats
    realised: Floats
    rows: int
    beyond: float


def expect(
    said: Predictions,
    probabilities: Floats,
    metric: str,
    *,
    positive: Any = None,  # Any: labels may be of any type
) -> Expectation:
    """Return the metric of these answers as a function of label probabilities.

    Raises:
        ValueError: when the metric has no meaning for the model's classes, or the model has none.
    """
    names = said.classes or ()
    count, rows = len(names), len(probabilities)
    if count < 2:
        raise ValueError("a model of one class, which nothing can be compared with")
    places = np.arange(count)
    scored = Scored(
        y_true=np.repeat(places, rows),
        prediction=np.tile(encode(said.prediction, names), count),
        probabilities=np.tile(probabilities, (count, 1)),
        classes=tuple(places.tolist()),
    )
    found = statistic(scored, metric, positive=_place(names, positive), labels=tuple(places.tolist()))
    return Expectation(rows, count, found)


def _place(classes: Sequence[Any], positive: Any) -> int | None:  # Any: labels may be of any type
    """Return where the positive class of the spec stands; a file may write "1" for the class 1."""
    if positive is None:
        return None
    texts = [str(name) for name in classes]
    if positive in classes:
        return list(classes).index(positive)
    return texts.index(str(positive)) if str(positive) in texts else None
