"""The difference of two models on the same rows, with the interval that suits the metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import RESAMPLES, Interval, percentile_interval, resample
from tasks.core.evaluation.scoring import Scored, all_labels, statistic
from tasks.core.evaluation.verdicts import McNemar


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows: each one's score, and the difference mine - theirs.

    `p_better` is the confidence with which mine is better (one-sided; a bootstrap gives the share of resamples
    it wins). `method` names how the interval was made. `needed_rows` is how many rows it would take, at this
    difference and this disagreement, to show mine to be better; None where no number of rows would.
    """

    mine: Interval
    theirs: Interval
    difference: Interval
    p_better: float
    method: str = "bootstrap"
    needed_rows: int | None = None
    mcnemar: McNemar | None = None

    @property
    def is_known(self) -> bool:
        """Whether scores and interval are numbers."""
        return self.mine.is_known and self.difference.is_known


def compare(
    mine: Scored,
    theirs: Scored,
    metric: str,
    *,
    confidence: float,
    seed: int = 0,
    positive: Any = None,  # Any: labels may be of any type
    resamples: int = RESAMPLES,
    weights: NDArray[np.float64] | None = None,
) -> Comparison:
    """Return how much better mine is than theirs on the same rows, two-sided at `confidence`.

    NaN throughout means that it cannot be told.
    """
    del weights
    labels = all_labels([mine, theirs])
    pair = [statistic(one, metric, positive=positive, labels=labels) for one in (mine, theirs)]
    own, other, nan = pair[0](None), pair[1](None), float("nan")
    if not np.isfinite([own, other]).all():
        return Comparison(Interval(own, nan, nan), Interval(other, nan, nan), Interval(nan, nan, nan), nan)
    draws = resample(pair, len(theirs.y_true), seed=seed, resamples=resamples)
    gains = draws[:, 0] - draws[:, 1]
    return Comparison(
        percentile_interval(own, draws[:, 0], confidence),
        percentile_interval(other, draws[:, 1], confidence),
        percentile_interval(own - other, gains, confidence),
        float((gains > 0).mean()),
    )
