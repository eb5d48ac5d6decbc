"""The difference of two models on the same rows, with the interval that suits the metric.

| metric | how |
|---|---|
| accuracy | score interval of the discordant rows, mid-p McNemar (`shares`) |
| AUC of two classes | DeLong, paired (`delong`) |
| other metrics of labels | bootstrap of the counts of (truth, mine, theirs) (`cells`) |
| means over rows, and what follows from them | bootstrap of the means (`means`) |
| everything else | bootstrap of the rows (`rows`) |

With row weights everything is a bootstrap of weighted rows. Rows are taken as independent unless their
clusters are given: then the jackknife over clusters says how much longer the intervals are (`clusters`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import RESAMPLES
from tasks.core.evaluation.clusters import clustered_scores
from tasks.core.evaluation.metrics import needs_probabilities
from tasks.core.evaluation.paired.cells import resampled_labels
from tasks.core.evaluation.paired.delong import compare_areas
from tasks.core.evaluation.paired.inputs import differing_rows
from tasks.core.evaluation.paired.means import contributions, resampled_means
from tasks.core.evaluation.paired.result import Comparison, concluded, unknown, with_clusters
from tasks.core.evaluation.paired.rows import resampled_rows, weighable
from tasks.core.evaluation.paired.shares import compare_shares, mcnemar
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.scoring import (
    Scored,
    Statistic,
    aligned,
    all_labels,
    encode,
    is_share,
    positive_place,
)
from tasks.core.evaluation.verdicts import McNemar
from tasks.core.evaluation.weighing import effective_rows

__all__ = ["Comparison", "compare"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


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
    codes: NDArray[Any] | None = None,  # Any: integers of any width
) -> Comparison:
    """Return how much better mine is than theirs on the same rows, two-sided at `confidence`.

    NaN throughout means that it cannot be told: no rows, one class where two are compared, a value that is
    not a number, weights of which one is negative or none is above zero.

    Args:
        mine: One model's answers.
        theirs: The other's, to the same rows in the same order.
        metric: A scikit-learn scorer name; an error is negated, so that larger is better.
        confidence: Of the two-sided intervals; `p_better` does not depend on it.
        seed: Of the resamples; the same seed gives the same numbers to the last digit.
        positive: Positive class of a binary label; default: the larger one.
        resamples: How many, where there are any; see `rows` for when there are fewer.
        weights: What each row counts for; default: all the same. They count in every number but McNemar's.
        codes: The cluster of each row (`clusters.cluster_codes`); default: every row is independent.

    Raises:
        ValueError: when the two have not as many rows, probabilities are needed and absent, or the metric has
            no meaning for this number of classes.
    """
    result = _independent(
        mine,
        theirs,
        metric,
        confidence=confidence,
        seed=seed,
        positive=positive,
        resamples=resamples,
        weights=weights,
    )
    if codes is None or not result.is_known:
        return result
    clustered = clustered_scores([mine, theirs], metric, codes, positive=positive, weights=weights)
    return with_clusters(result, clustered, confidence, is_share=is_share(metric))


def _independent(
    mine: Scored,
    theirs: Scored,
    metric: str,
    *,
    confidence: float,
    seed: int,
    positive: Any,
    resamples: int,
    weights: NDArray[np.float64] | None,
) -> Comparison:
    """Return the comparison of rows that have nothing to do with each other."""
    rows, weights = len(mine.y_true), None if weights is None else np.asarray(weights, dtype=np.float64)
    _check_rows(mine, theirs, weights)
    labels = () if metric in REGRESSION else all_labels([mine, theirs])
    if not rows or (weights is not None and not _usable(weights)):
        return unknown()
    if weights is None and metric == "accuracy":
        return _shares(mine, theirs, labels, confidence)
    if weights is None and _is_area(mine, theirs, metric, labels):
        found = _areas(mine, theirs, labels, positive, confidence)
        return replace(found, mcnemar=_discordant(mine, theirs, labels))
    pair = tuple(
        weighable(one, metric, positive=positive, labels=labels, weighted=weights is not None)
        for one in (mine, theirs)
    )
    scores = (pair[0](weights), pair[1](weights))
    if not np.isfinite(scores).all():
        return unknown(*scores)
    draws = _draws(
        mine,
        theirs,
        metric,
        labels=labels,
        positive=positive,
        weights=weights,
        pair=(pair[0], pair[1]),
        seed=seed,
        resamples=resamples,
    )
    found = concluded(
        scores,
        draws,
        rows=rows,
        effective=effective_rows(weights, rows),
        differing=differing_rows(
            mine, theirs, labels, by_probability=needs_probabilities(metric), weights=weights
        ),
        confidence=confidence,
        least=_rarest(mine, labels, weights) if is_share(metric) or metric == "matthews_corrcoef" else None,
    )
    return found if metric in REGRESSION else replace(found, mcnemar=_discordant(mine, theirs, labels))


def _draws(
    mine: Scored,
    theirs: Scored,
    metric: str,
    *,
    labels: tuple[Any, ...],
    positive: Any,
    weights: Floats | None,
    pair: tuple[Statistic, Statistic],
    seed: int,
    resamples: int,
) -> Floats:
    """Return both models' metric on resampled rows, the quickest way that has the bootstrap's law."""
    parts = [contributions(one, metric, labels) for one in (mine, theirs)]
    if parts[0] is not None and parts[1] is not None:
        (table, finish), (other, _) = parts[0], parts[1]
        means = _weighted_means(np.hstack([table, other]), weights, seed=seed, resamples=resamples)
        width = table.shape[1]
        return np.column_stack([finish(means[:, :width]), finish(means[:, width:])])
    if weights is None and metric not in REGRESSION and not needs_probabilities(metric):
        truth, own, others = (
            encode(values, labels) for values in (mine.y_true, mine.prediction, theirs.prediction)
        )
        return resampled_labels(
            truth,
            (own, others),
            count=len(labels),
            metric=metric,
            positive=positive_place(labels, positive),
            seed=seed,
            resamples=resamples,
        )
    return resampled_rows(pair, len(mine.y_true), seed=seed, resamples=resamples, weights=weights)


def _weighted_means(table: Floats, weights: Floats | None, *, seed: int, resamples: int) -> Floats:
    if weights is None:
        return resampled_means(table, seed=seed, resamples=resamples)
    sums = resampled_means(
        np.column_stack([table * weights[:, None], weights]), seed=seed, resamples=resamples
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[:, :-1] / sums[:, -1:])


def _shares(mine: Scored, theirs: Scored, labels: tuple[Any, ...], confidence: float) -> Comparison:
    codes = [encode(one, labels) for one in (mine.y_true, mine.prediction, theirs.prediction)]
    if any((one < 0).any() for one in codes):
        return unknown()
    own, other = codes[1] == codes[0], codes[2] == codes[0]
    both, only_mine, only_theirs = (int(one.sum()) for one in (own & other, own & ~other, other & ~own))
    return compare_shares(both, only_mine, only_theirs, len(own), confidence)


def _areas(
    mine: Scored, theirs: Scored, labels: tuple[Any, ...], positive: Any, confidence: float
) -> Comparison:
    place, truth = positive_place(labels, positive), encode(mine.y_true, labels)
    scores = [aligned(one, labels)[:, place] for one in (mine, theirs)]
    if (truth < 0).any() or not np.isfinite(scores).all():
        return unknown()
    return compare_areas(scores[0], scores[1], truth == place, confidence)


def _is_area(mine: Scored, theirs: Scored, metric: str, labels: tuple[Any, ...]) -> bool:
    given = all(one.probabilities is not None and one.classes is not None for one in (mine, theirs))
    return metric.startswith("roc_auc") and len(labels) == 2 and given


def _discordant(mine: Scored, theirs: Scored, labels: tuple[Any, ...]) -> McNemar | None:
    """Return how the rows split that only one model labels rightly; None where a label is missing."""
    codes = [encode(one, labels) for one in (mine.y_true, mine.prediction, theirs.prediction)]
    if any((one < 0).any() for one in codes):
        return None
    own, other = codes[1] == codes[0], codes[2] == codes[0]
    return mcnemar(int((own & ~other).sum()), int((other & ~own).sum()))


def _rarest(scored: Scored, labels: tuple[Any, ...], weights: Floats | None) -> float:
    """Return the effective rows of the class that has fewest, among those that count for anything."""
    truth, each = encode(scored.y_true, labels), np.ones(len(scored.y_true)) if weights is None else weights
    sums, squares = (np.bincount(truth, weights=each**power) for power in (1, 2))
    return float((sums[sums > 0] ** 2 / squares[sums > 0]).min())


def _usable(weights: Floats) -> bool:
    return bool(np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0)


def _check_rows(mine: Scored, theirs: Scored, weights: Floats | None) -> None:
    sizes = {len(one) for part in (mine, theirs) for one in (part.y_true, part.prediction)}
    if len(sizes) > 1 or (weights is not None and len(weights) not in sizes):
        raise ValueError("the two models' rows, or the rows and their weights, differ in number")
