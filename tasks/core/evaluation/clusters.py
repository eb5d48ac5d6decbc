"""How sure a difference is when rows come in clusters: entities with many rows, or neighbours in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

from tasks.core.evaluation.bootstrap import Interval, score_interval
from tasks.core.evaluation.paired.means import Finish, contributions
from tasks.core.evaluation.paired.rows import weighable
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.scoring import Scored, Statistic, all_labels, is_share

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Removal = Callable[[Codes, int], Floats]
"""From each row's code, 0 to count - 1, to the metrics without each code's rows: models by codes."""

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

    def lengthen(
        self,
        interval: Interval,
        confidence: float,
        *,
        limits: tuple[float, float] = (-math.inf, math.inf),
    ) -> Interval:
        """Return an interval of independent rows as long as rows in these clusters make it, within limits.

        An effect of 1, or one that cannot be told, leaves it as it is.
        """
        if not (interval.is_known and self.design_effect > 1):
            return interval
        tail = (1 + confidence) / 2
        longer = float(stdtrit(self.degrees_of_freedom, tail) / ndtri(tail)) * math.sqrt(self.design_effect)
        low, high = (
            interval.value + longer * (end - interval.value) for end in (interval.low, interval.high)
        )
        return Interval(interval.value, max(limits[0], low), min(limits[1], high))

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
    return clustered_scores([challenger, champion], metric, codes, positive=positive, weights=weights)[-1]


def clustered_scores(
    models: Sequence[Scored],
    metric: str,
    codes: NDArray[Any],  # Any: integers of any width
    *,
    positive: Any = None,  # Any: labels may be of any type
    weights: NDArray[np.float64] | None = None,
) -> tuple[ClusteredDifference, ...]:
    """Return each model's metric with its error by clusters, as a difference to nothing; of two, theirs too.

    Raises:
        ValueError: when the rows and codes differ in number, or the metric has no meaning for these answers.
    """
    if any(len(scored.y_true) != len(codes) for scored in models):
        raise ValueError("models and clusters must have one entry per row")
    labels = () if metric in REGRESSION else all_labels(models)
    base = np.ones(len(codes)) if weights is None else np.asarray(weights, dtype=np.float64)
    each = [
        weighable(scored, metric, positive=positive, labels=labels, weighted=weights is not None)
        for scored in models
    ]
    means = [contributions(scored, metric, labels) for scored in models] if len(codes) else []
    known = [part for part in means if part is not None]
    without, most = _by_rows(each, base), _MOST_REMOVALS["rows"]
    if len(known) == len(models):
        without, most = _by_means(known, base), _MOST_REMOVALS["means"]
    given = np.unique(codes, return_inverse=True)[1].astype(np.intp)
    clusters = int(given.max(initial=-1)) + 1
    values = _with_difference(np.array([[of(weights)] for of in each]))[:, 0].tolist()
    if clusters < 2:
        return tuple(ClusteredDifference(value, math.nan, math.nan, math.nan, clusters) for value in values)
    freedom = min(_effective(given, base), float(min(clusters, most))) - 1
    errors = _jackknife(_with_difference(without(*_pooled(given, most))))
    unclustered = _jackknife(_with_difference(without(*_pooled(np.arange(len(given)), most))))
    # A ratio below 1 is taken as chance: what makes rows less alike than independent ones is very rare.
    return tuple(
        ClusteredDifference(value, max(error, alone), freedom, _effect(error, alone), clusters)
        for value, error, alone in zip(values, errors, unclustered, strict=True)
    )


def clustered_interval(
    scored: Scored,
    metric: str,
    codes: NDArray[Any],  # Any: integers of any width
    *,
    confidence: float,
    seed: int = 0,
    positive: Any = None,  # Any: labels may be of any type
) -> Interval:
    """Return the metric of these rows with its bootstrap interval, as long as the clusters make it.

    Raises:
        ValueError: when the rows and codes differ in number, or the metric has no meaning for these answers.
    """
    interval = score_interval(scored, metric, confidence=confidence, seed=seed, positive=positive)
    (part,) = clustered_scores([scored], metric, codes, positive=positive)
    limits = (0.0, 1.0) if is_share(metric) else (-math.inf, math.inf)
    return part.lengthen(interval, confidence, limits=limits)


def _effect(error: float, alone: float) -> float:
    if not math.isfinite(error + alone):
        return math.nan
    return max(1.0, (error / alone) ** 2) if alone > 0 else 1.0


def _with_difference(values: Floats) -> Floats:
    """Return models by removals, and below two models their difference."""
    return np.vstack([values, values[0] - values[1]]) if len(values) == 2 else values


def _by_rows(models: list[Statistic], base: Floats) -> Removal:
    """Return the metrics without each code's rows, taken anew every time."""

    def without(codes: Codes, count: int) -> Floats:
        values = np.full((len(models), count), math.nan)
        for code in range(count):
            rest = np.where(codes == code, 0.0, base)
            if rest.any():
                values[:, code] = [of(rest) for of in models]
        return values

    return without


def _by_means(models: list[tuple[Floats, Finish]], base: Floats) -> Removal:
    """Return the same for metrics that means give: the sums less those of each code's rows."""

    def without(codes: Codes, count: int) -> Floats:
        rest = base.sum() - np.bincount(codes, weights=base, minlength=count)
        values = []
        for table, finish in models:
            sums = [np.bincount(codes, weights=base * column, minlength=count) for column in table.T]
            left = np.column_stack([total.sum() - total for total in sums])
            with np.errstate(divide="ignore", invalid="ignore"):
                values.append(finish(left / rest[:, None]))
        return np.vstack(values)

    return without


def _pooled(codes: Codes, most: int) -> tuple[Codes, int]:
    """Return the codes, put together at random (the same way every time) where there are more than `most`."""
    count = int(codes.max()) + 1
    if count <= most:
        return codes, count
    place = np.random.default_rng(0).permutation(count) % most
    return place[codes].astype(np.intp), most


def _jackknife(values: Floats) -> list[float]:
    """Return each line's standard error from its values without each cluster; NaN where one of them is."""
    count = values.shape[1]
    spread = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return [float(error) for error in np.sqrt((count - 1) / count * spread)]


def _effective(codes: Codes, base: Floats) -> float:
    """Return how many clusters of equal size would tell as much (Kish, as for weights)."""
    sizes = np.bincount(codes, weights=base)
    return float(sizes.sum() ** 2 / (sizes**2).sum())
