"""Metrics as functions of row weights, so that a thousand resamples rank and compare the rows only once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import xlogy

from tasks.core.evaluation.metrics import check_metric, is_binary_only, needs_probabilities
from tasks.core.evaluation.ranking import auc, average_precision
from tasks.core.evaluation.regression_scoring import REGRESSION, regression_statistic

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Array = NDArray[Any]  # Any: labels may be of any type
Statistic = Callable[[Floats | None], float]
"""A metric of fixed rows: from their weights (None: all equal) to its value, NaN for "cannot be told"."""


@dataclass(frozen=True)
class Scored:
    """Known labels beside what one model said of the same rows; `probabilities` are rows by `classes`."""

    y_true: Array
    prediction: Array
    probabilities: Array | None = None
    classes: tuple[Any, ...] | None = None


def statistic(
    scored: Scored, metric: str, *, positive: Any = None, labels: tuple[Any, ...] | None = None
) -> Statistic:
    """Return the metric of these rows as a function of their weights.

    Args:
        scored: The rows; none at all give a statistic that is always NaN.
        metric: A scikit-learn scorer name.
        positive: Positive class of a binary label; default: the larger one.
        labels: All classes to reckon with, in order, for models that know different ones; default: those
            of the model and of the rows.

    Raises:
        ValueError: when probabilities are needed and absent, the positive class is not among the labels, or
            the metric has no meaning for this number of classes.
    """
    if metric in REGRESSION:
        check_metric(metric, "regression")
        return regression_statistic(scored.y_true, scored.prediction, metric)
    check_metric(metric, "classification")
    known = labels if labels is not None else all_labels([scored])
    if len(scored.y_true) == 0 or len(known) == 0:
        return _never
    _check_fit(scored, metric, known, positive)
    truth = encode(scored.y_true, known)
    if needs_probabilities(metric):
        return _by_probability(truth, aligned(scored, known), metric, positive_place(known, positive))
    return _by_label(
        truth, encode(scored.prediction, known), len(known), metric, positive_place(known, positive)
    )


def all_labels(parts: Iterable[Scored]) -> tuple[Any, ...]:
    """Return every class these models or rows know: the models' own in order, then the rest sorted."""
    parts = list(parts)
    found: dict[Any, None] = {}
    for part in parts:
        found.update(dict.fromkeys(part.classes or ()))
    if len({part.classes for part in parts if part.classes}) > 1:
        found = dict.fromkeys(_sorted(found))
    seen = [value for part in parts for value in (*pd.unique(part.y_true), *pd.unique(part.prediction))]
    extra = [value for value in seen if value not in found and not pd.isna(value)]
    return (*found, *_sorted(dict.fromkeys(extra)))


def encode(values: Array, labels: tuple[Any, ...]) -> Codes:
    """Return the position of each value in `labels`, -1 for one that is missing or not among them.

    Numbers are equal across types, as in Python: 1, 1.0 and True are one label; "1" is another.
    """
    codes, uniques = pd.factorize(np.asarray(values))
    place = {label: position for position, label in enumerate(labels)}
    lookup = np.array([place.get(value, -1) for value in uniques.tolist()] + [-1], dtype=np.int64)
    return lookup[codes]


def is_share(metric: str) -> bool:
    """Return whether the metric, of labels or of ranks, always lies within 0..1."""
    unbounded = ("log_loss", "brier", "likelihood_ratio", "matthews")
    return metric not in REGRESSION and not any(part in metric for part in unbounded)


def _never(weights: Floats | None) -> float:
    del weights
    return float("nan")


def _sorted(values: Iterable[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # labels of mixed types have no order of their own
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))


def _check_fit(scored: Scored, metric: str, labels: tuple[Any, ...], positive: Any) -> None:
    if needs_probabilities(metric) and (scored.probabilities is None or scored.classes is None):
        raise ValueError(f"metric {metric!r} needs class probabilities, which this model does not give")
    if is_binary_only(metric) and len(labels) > 2:
        raise ValueError(
            f"metric {metric!r} is about one positive class and the data has {len(labels)} classes; "
            "use its _macro or _weighted form, or balanced_accuracy"
        )
    if metric == "top_k_accuracy" and len(labels) < 3:
        raise ValueError("metric 'top_k_accuracy' (k = 2) is always 1 for two classes; use accuracy")
    if positive is not None and len(labels) == 2 and positive not in labels:
        raise ValueError(f"the positive class named in the spec is not among the {len(labels)} labels")


def positive_place(labels: tuple[Any, ...], positive: Any) -> int:
    """Return where the positive class stands among the labels; the last one unless another is named."""
    return labels.index(positive) if positive is not None and positive in labels else len(labels) - 1


def aligned(scored: Scored, labels: tuple[Any, ...]) -> Floats:
    """Return the model's probabilities by `labels`, in their order; 0 for a class it does not know.

    Raises:
        ValueError: when the model gives none.
    """
    if scored.probabilities is None or scored.classes is None:
        raise ValueError("the metric needs class probabilities, which this model does not give")
    given = np.asarray(scored.probabilities, dtype=np.float64)
    if scored.classes == labels:
        return given
    found = np.zeros((len(given), len(labels)))
    found[:, [labels.index(name) for name in scored.classes]] = given
    return found


# Metrics of predicted labels: everything follows from the confusion matrix.


def _by_label(truth: Codes, said: Codes, count: int, metric: str, positive: int) -> Statistic:
    if (truth < 0).any() or (said < 0).any():
        return _never
    cells = truth * count + said

    def value(weights: Floats | None) -> float:
        table = np.bincount(cells, weights=weights, minlength=count * count).reshape(count, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(_from_confusion(table.astype(np.float64), metric, positive))

    return value


def _from_confusion(table: Floats, metric: str, positive: int) -> float:
    hits, real, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    total = table.sum()
    if metric == "accuracy":
        return float(hits.sum() / total)
    if metric == "balanced_accuracy":
        return float((hits / real)[real > 0].mean())
    if metric == "matthews_corrcoef":
        return _matthews(hits, real, said, float(total))
    if metric.endswith("likelihood_ratio"):
        return _likelihood_ratio(
            float(hits[positive]), float(real[positive]), float(said[positive]), float(total), metric
        )
    return _averaged(hits, real, said, metric, positive)


def _averaged(hits: Floats, real: Floats, said: Floats, metric: str, positive: int) -> float:
    name, _, average = metric.partition("_")
    if not average:
        undefined = real[positive] == 0 if name == "recall" else real[positive] + said[positive] == 0
        return float("nan") if undefined else float(_per_class(name, hits, real, said)[positive])
    if average == "micro":
        sums = [np.array([float(part.sum())]) for part in (hits, real, said)]
        return float(_per_class(name, sums[0], sums[1], sums[2])[0])
    each, present = _per_class(name, hits, real, said), real + said > 0
    return float(np.average(each, weights=real)) if average == "weighted" else float(each[present].mean())


def _per_class(name: str, hits: Floats, real: Floats, said: Floats) -> Floats:
    """Return the measure of every class; 0, as in scikit-learn, for one never predicted or never there."""
    below = {"precision": said, "recall": real, "f1": (real + said) / 2, "jaccard": real + said - hits}[name]
    return np.divide(hits, below, out=np.zeros_like(hits), where=below > 0)


def _matthews(hits: Floats, real: Floats, said: Floats, total: float) -> float:
    spread_real, spread_said = total**2 - (real**2).sum(), total**2 - (said**2).sum()
    if spread_real == 0:
        return float("nan")
    if spread_said == 0:
        return 0.0  # a model that always says the same knows nothing
    return float((hits.sum() * total - (real * said).sum()) / np.sqrt(spread_real * spread_said))


def _likelihood_ratio(hits: float, real: float, said: float, total: float, metric: str) -> float:
    false_alarms, others = said - hits, total - real
    if real == 0 or others == 0:
        return float("nan")
    caught, alarmed = hits / real, false_alarms / others
    if caught == alarmed and alarmed in (0.0, 1.0):
        return 1.0 if metric.startswith("positive") else -1.0  # one answer to everything knows nothing
    if metric.startswith("positive"):
        return caught / alarmed if alarmed > 0 else float("nan")
    return -(1 - caught) / (1 - alarmed) if alarmed < 1 else float("nan")


# Metrics of class probabilities.


def _by_probability(truth: Codes, given: Floats, metric: str, positive: int) -> Statistic:
    if (truth < 0).any() or not np.isfinite(given).all():
        return _never
    if metric == "average_precision" or metric.startswith("roc_auc"):
        return _ranking(truth, given, metric, positive)
    rows = np.arange(len(truth))
    own = given[rows, truth]
    if metric == "top_k_accuracy":
        best = np.argsort(given, axis=1, kind="mergesort")[:, -2:]
        return _mean((best == truth[:, None]).any(axis=1).astype(np.float64), 1.0)
    if metric.endswith(("log_loss", "log_loss_score")):
        eps = np.finfo(np.float64).eps
        loss = -np.log(np.clip(own, eps, 1 - eps))
    else:
        loss = (given**2).sum(axis=1) - own**2 + (1 - own) ** 2
    if metric.startswith("neg_"):
        halved = metric == "neg_brier_score" and given.shape[1] < 3
        return _mean(loss, -0.5 if halved else -1.0)
    return _against_shares(loss, truth, given.shape[1], metric)


def _mean(each: Floats, factor: float) -> Statistic:
    return lambda weights: factor * float(each.mean() if weights is None else weights @ each / weights.sum())


def _against_shares(loss: Floats, truth: Codes, count: int, metric: str) -> Statistic:
    """Return 1 - loss / (loss of always saying the class shares of the same rows)."""

    def value(weights: Floats | None) -> float:
        shares = np.bincount(truth, weights=weights, minlength=count) / (
            len(truth) if weights is None else weights.sum()
        )
        null = -xlogy(shares, shares).sum() if metric == "d2_log_loss_score" else 1 - (shares**2).sum()
        return 1 + _mean(loss, -1.0)(weights) / float(null) if null > 1e-15 else float("nan")

    return value


def _ranking(truth: Codes, given: Floats, metric: str, positive: int) -> Statistic:
    count = given.shape[1]
    curve = average_precision if metric == "average_precision" else auc
    if count == 2:
        return curve(given[:, positive], truth == positive)
    if metric.startswith("roc_auc_ovo"):
        return _one_against_one(truth, given, metric.endswith("weighted"))
    each = [curve(given[:, c], truth == c) for c in range(count)]

    def value(weights: Floats | None) -> float:
        share = np.bincount(truth, weights=weights, minlength=count)
        present = (share > 0) & (share < share.sum())
        if not present.any():
            return float("nan")
        values = np.array([each[c](weights) for c in np.flatnonzero(present)])
        return float(np.average(values, weights=share[present] if metric.endswith("_weighted") else None))

    return value


def _one_against_one(truth: Codes, given: Floats, weighted: bool) -> Statistic:
    """Return the mean AUC over pairs of classes. Source: Hand and Till, Machine Learning 45 (2001)."""
    count = given.shape[1]
    pairs = []
    for first in range(count):
        for second in range(first + 1, count):
            rows = np.flatnonzero((truth == first) | (truth == second))
            mine = truth[rows] == first
            pairs.append((rows, auc(given[rows, first], mine), auc(given[rows, second], ~mine)))

    def value(weights: Floats | None) -> float:
        values, sizes = [], []
        for rows, one, other in pairs:
            part = None if weights is None else weights[rows]
            both = (one(part) + other(part)) / 2
            if np.isfinite(both):  # a pair of which one class is absent says nothing
                values.append(both)
                sizes.append(float(len(rows) if part is None else part.sum()))
        return float(np.average(values, weights=sizes if weighted else None)) if values else float("nan")

    return value
