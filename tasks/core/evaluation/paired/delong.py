"""Two areas under the ROC curve on the same rows, in closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.intervals import auc_interval, placements, without_exception
from tasks.core.evaluation.paired.result import Comparison, needed_rows, unknown

Floats = NDArray[np.float64]
METHOD = "DeLong"


def compare_areas(mine: Floats, theirs: Floats, positive: NDArray[np.bool_], confidence: float) -> Comparison:
    """Return the comparison of two rankings of the same rows.

    Where a class has few rows the two variances are estimated from little, so Student's distribution with
    Welch's degrees of freedom takes the place of the normal one, as Brunner and Munzel do for one area. Fewer
    than two rows of a class cannot tell; two rankings that place every row alike get the bound of that many
    equal outcomes in a row.

    Args:
        mine: Score of each row, larger for the positive class.
        theirs: The other model's, of the same rows.
        positive: Whether a row is of the positive class.
        confidence: Of the two-sided intervals.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); by ranks: Sun and Xu, IEEE Signal
    Processing Letters 21 (2014); degrees of freedom: Brunner and Munzel, Biometrical Journal 42 (2000).
    """
    many = int(positive.sum())
    few = len(positive) - many
    if min(many, few) == 0:
        return unknown(method=METHOD)
    places = [placements(scores[positive], scores[~positive]) for scores in (mine, theirs)]
    own, other = (float(above.mean()) for above, _ in places)
    if min(many, few) < 2:
        return unknown(own, other, METHOD)
    parts = np.array(
        [
            (places[0][0] - places[1][0]).var(ddof=1) / many,
            (places[0][1] - places[1][1]).var(ddof=1) / few,
        ]
    )
    gap, p_better = _concluded(own - other, parts, (many, few), confidence)
    intervals = [auc_interval(scores[positive], scores[~positive], confidence) for scores in (mine, theirs)]
    deviation = math.sqrt(float(parts.sum()) * len(positive))
    return Comparison(
        *(intervals[0], intervals[1], gap),
        p_better=p_better,
        method=METHOD,
        needed_rows=needed_rows(gap.value, deviation, confidence),
    )


def _concluded(
    value: float, parts: Floats, sizes: tuple[int, int], confidence: float
) -> tuple[Interval, float]:
    """Return the difference with its interval, and how sure it is that it is above zero."""
    variance = float(parts.sum())
    if variance <= 0:
        sure = 0.5 if value == 0 else 1 - 0.5 ** min(sizes)
        found = without_exception(value, min(sizes), confidence, -1.0)
        return found, sure if value >= 0 else 1 - sure
    freedom = variance**2 / float((parts**2 / (np.array(sizes) - 1)).sum())
    error = math.sqrt(variance)
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    found = Interval(value, max(-1.0, value - reach), min(1.0, value + reach))
    return found, float(stdtr(freedom, value / error))
