"""The challenger beside models that cost nothing: a guess without features, and a linear model."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.paired.compare import Comparison, compare
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.verdicts import BaselineResult, Verdict

_RESAMPLES = 200  # these intervals are shown, and decide nothing while there is a champion


def against_baseline(
    name: Literal["dummy", "linear"],
    challenger: Scored,
    baseline: Scored | None,
    metric: str,
    *,
    confidence: float,
    seed: int,
    positive: Any,  # Any: labels may be of any type
    resamples: int,
    weights: NDArray[np.float64] | None,
    codes: NDArray[Any] | None = None,  # Any: integers of any width
) -> BaselineResult | None:
    """Return how much better than this baseline the challenger is; None when there is none to compare with.

    Where the metric has no value for the baseline, such as a precision of a class that it never predicts, or
    probabilities that it does not give, everything but its outcome `undecided` is NaN.
    """
    if baseline is None:
        return None
    try:
        found = compare(
            challenger,
            baseline,
            metric,
            confidence=confidence,
            seed=seed,
            positive=positive,
            resamples=min(resamples, _RESAMPLES),
            weights=weights,
            codes=codes,
        )
    except ValueError:  # the metric needs what this baseline does not have
        nan = float("nan")
        return BaselineResult(name, nan, nan, nan, nan, "undecided")
    return as_baseline(name, found, confidence)


def as_baseline(name: Literal["dummy", "linear"], found: Comparison, confidence: float) -> BaselineResult:
    """Return a comparison with a baseline as the gate tells it."""
    gap = found.difference
    is_shown = found.is_known and found.p_better >= confidence
    outcome: Verdict = "worse" if gap.value <= 0 else "ok" if is_shown else "undecided"
    return BaselineResult(name, found.theirs.value, gap.value, gap.low, gap.high, outcome)
