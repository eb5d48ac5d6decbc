"""How sure a difference is when rows come in clusters: entities with many rows, or neighbours in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.paired.means import Finish, contributions
from tasks.core.evaluation.paired.rows import weighable
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.scoring import Scored, Statistic, all_labels

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Removal = Callable[[Codes, int], Floats]
"""From a code 0 to count - 1 of every row to the difference without each code's rows: one number per code."""

BLOCKS = 12
"""Time blocks: of the 10 to 30 that batch means want (Schmeiser 1982) the few, so that a block is long beside
the memory of the rows. Measured (bench/gate.py): 95 % intervals of 500 rows hold the truth 94 to 97 times of
100 at design effects 1 to 10, with 20 blocks 93 to 96; fewer than 25 effective rows are too few for any."""
FEWEST_CLUSTERS = 5
"""Groups, or moments, below which the variance between them cannot be told; our choice."""
_MOST_REMOVALS = {"means": 1_000, "rows": 100}


@dataclass(frozen=True)
class ClusteredDifference:
    """The difference of two models on the same rows, challenger - champion, with clusters accounted for.

    `standard_error` is that of whole clusters; `degrees_of_freedom` goes with it in Student's distribution,
    and is lower where few clusters hold most rows. `design_effect` is the variance by clusters divided by
    that of independent rows, at least 1: so many rows tell as much as one independent row. All but `clusters`
    are NaN where they cannot be told.
    """

    value: float
    standard_error: float
    degrees_of_freedom: float
    design_effect: float
    clusters: int

    def interval(self, confidence: float) -> Interval:
        """Return the two-sided t interval at this confidence."""
        reach = float(stdtrit(self.degrees_of_freedom, (1 + confidence) / 2)) * self.standard_error
        return Interval(self.value, self.value - reach, self.value + reach)

    @property
    def p_better(self) -> float:
        """The one-sided confidence that the difference is above zero."""
        if self.standard_error == 0:
            return 0.5 + 0.5 * float(np.sign(self.value))
        return float(stdtr(self.degrees_of_freedom, self.value / self.standard_error))


def cluster_codes(times: ArrayLike, groups: ArrayLike | None = None, *, blocks: int = BLOCKS) -> Codes:
    """Return the cluster of every row, as codes from 0 without gaps.

    Rows of one group are one cluster, and a row whose group is missing is a cluster of its own. Without
    groups, or with fewer than five, the clusters are contiguous blocks of time with about as many rows each.
    Rows of the same moment stay together, unless there are fewer than five moments.

    Args:
        times: When each row's event happened, in any order; a missing time comes last.
        groups: The entity of each row (`source.group`), of any type; None where there is none.
        blocks: Most time blocks; never more than there are rows.

    Source: Schmeiser, Operations Research 30 (1982), for the number of blocks ("batch means").

    Example:
        >>> cluster_codes(range(6), blocks=3).tolist()
        [0, 0, 1, 1, 2, 2]
        >>> cluster_codes(range(6), ["a", "b", None, "c", "d", "a"]).tolist()
        [0, 1, 4, 2, 3, 0]
    """
    if groups is not None:
        codes, names = pd.factorize(pd.Series(groups).to_numpy(dtype=object))
        missing = codes < 0
        codes[missing] = len(names) + np.arange(missing.sum())
        if len(names) + missing.sum() >= FEWEST_CLUSTERS:
            return codes.astype(np.intp)
    moments, known = pd.factorize(pd.Series(times), sort=True)
    moments[moments < 0] = len(known)
    if not len(moments):
        return moments.astype(np.intp)
    if len(np.unique(moments)) < FEWEST_CLUSTERS:
        moments = np.argsort(np.argsort(moments, kind="stable"))
    sizes = np.bincount(moments)
    middle = np.cumsum(sizes) - sizes / 2
    block = np.floor(middle * min(blocks, len(moments)) / len(moments)).astype(np.intp)
    return np.asarray(np.unique(block[moments], return_inverse=True)[1], dtype=np.intp)


def clustered_difference(
    challenger: Scored,
    champion: Scored,
    metric: str,
    codes: NDArray[Any],  # Any: integers of any width
    *,
    positive: Any = None,  # Any: labels may be of any type
    weights: NDArray[np.float64] | None = None,
) -> ClusteredDifference:
    """Return how far apart two models are on the same rows, its error by leaving out one cluster at a time.

    Of metrics that are means over rows, or follow from such means, up to 1,000 clusters are left out one by
    one, of any other metric 100; more clusters than that are first put together at random. NaN where there
    are fewer than two clusters, or the metric has no value without one of them.

    Args:
        challenger: One model's answers.
        champion: The other's, to the same rows in the same order.
        metric: A scikit-learn scorer name; an error is negated, so that larger is better.
        codes: The cluster of each row; see `cluster_codes`.
        positive: Positive class of a binary label; default: the larger one.
        weights: What each row counts for; default: all the same.

    Raises:
        ValueError: when the rows and codes differ in number, or the metric has no meaning for these answers.

    Source: delete-a-group jackknife: Kott, Journal of Official Statistics 17 (2001); design effect: Kish,
    Survey Sampling (1965), section 8.2.
    """
    if not len(challenger.y_true) == len(champion.y_true) == len(codes):
        raise ValueError("challenger, champion and clusters must have one entry per row")
    labels = () if metric in REGRESSION else all_labels([challenger, champion])
    parts = [contributions(scored, metric, labels) for scored in (challenger, champion)] if len(codes) else []
    own, other = (
        weighable(scored, metric, positive=positive, labels=labels, weighted=weights is not None)
        for scored in (challenger, champion)
    )
    value = own(weights) - other(weights)
    base = np.ones(len(codes)) if weights is None else np.asarray(weights, dtype=np.float64)
    without, most = _by_rows((own, other), base), _MOST_REMOVALS["rows"]
    if len(parts) == 2 and parts[0] is not None and parts[1] is not None:
        without, most = _by_means(parts[0], parts[1], base), _MOST_REMOVALS["means"]
    given = np.unique(codes, return_inverse=True)[1].astype(np.intp)
    clusters = int(given.max(initial=-1)) + 1
    if clusters < 2 or not math.isfinite(value):
        return ClusteredDifference(value, math.nan, math.nan, math.nan, clusters)
    error = _jackknife(without(*_pooled(given, most)))
    unclustered = _jackknife(without(*_pooled(np.arange(len(given)), most)))
    ratio = (error / unclustered) ** 2 if unclustered > 0 else 1.0
    freedom = min(_effective(given, base), float(min(clusters, most))) - 1
    # A ratio below 1 is taken as chance: what makes rows less alike than independent ones is very rare.
    return ClusteredDifference(value, max(error, unclustered), freedom, max(1.0, ratio), clusters)


def _by_rows(pair: tuple[Statistic, Statistic], base: Floats) -> Removal:
    """Return the difference without each code's rows, the metric taken anew every time."""

    def without(codes: Codes, count: int) -> Floats:
        values = np.full(count, math.nan)
        for code in range(count):
            rest = np.where(codes == code, 0.0, base)
            if rest.any():
                values[code] = pair[0](rest) - pair[1](rest)
        return values

    return without


def _by_means(challenger: tuple[Floats, Finish], champion: tuple[Floats, Finish], base: Floats) -> Removal:
    """Return the same for metrics that means give: the sums less those of each code's rows."""

    def without(codes: Codes, count: int) -> Floats:
        sizes = np.bincount(codes, weights=base, minlength=count)
        rest = base.sum() - sizes
        values = []
        for table, finish in (challenger, champion):
            sums = [np.bincount(codes, weights=base * column, minlength=count) for column in table.T]
            left = np.column_stack([total.sum() - total for total in sums])
            with np.errstate(divide="ignore", invalid="ignore"):
                values.append(finish(left / rest[:, None]))
        return np.asarray(values[0] - values[1])

    return without


def _pooled(codes: Codes, most: int) -> tuple[Codes, int]:
    """Return the codes, put together at random (the same way every time) where there are more than `most`."""
    count = int(codes.max()) + 1
    if count <= most:
        return codes, count
    place = np.random.default_rng(0).permutation(count) % most
    return place[codes].astype(np.intp), most


def _jackknife(values: Floats) -> float:
    """Return the standard error from the values without each cluster; NaN where one of them is NaN."""
    count = len(values)
    return math.sqrt((count - 1) / count * float(((values - values.mean()) ** 2).sum()))


def _effective(codes: Codes, base: Floats) -> float:
    """Return how many clusters of equal size would tell as much (Kish, as for weights)."""
    sizes = np.bincount(codes, weights=base)
    return float(sizes.sum() ** 2 / (sizes**2).sum())
