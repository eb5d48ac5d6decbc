"""Metrics by their scikit-learn scorer names: direction, fit to the task, value on rows."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Written out, and checked against scikit-learn by a test, so that reading a spec imports nothing heavy.
_AVERAGED = ("f1", "jaccard", "precision", "recall")
_BY_LABEL = frozenset(
    (
        "accuracy",
        "balanced_accuracy",
        "matthews_corrcoef",
        "positive_likelihood_ratio",
        "neg_negative_likelihood_ratio",
        *(f"{name}{tail}" for name in _AVERAGED for tail in ("", "_macro", "_micro", "_weighted")),
    )
)
_BY_PROBABILITY = frozenset(
    [
        "roc_auc",
        "roc_auc_ovr",
        "roc_auc_ovr_weighted",
        "roc_auc_ovo",
        "roc_auc_ovo_weighted",
        "average_precision",
        "neg_log_loss",
        "neg_brier_score",
        "d2_log_loss_score",
        "d2_brier_score",
        "top_k_accuracy",
    ]
)
_REGRESSION = frozenset(
    [
        "r2",
        "explained_variance",
        "d2_absolute_error_score",
        "neg_max_error",
        "neg_median_absolute_error",
        "neg_mean_absolute_error",
        "neg_mean_squared_error",
        "neg_root_mean_squared_error",
        "neg_mean_squared_log_error",
        "neg_root_mean_squared_log_error",
        "neg_mean_absolute_percentage_error",
        "neg_mean_poisson_deviance",
        "neg_mean_gamma_deviance",
    ]
)
_CLUSTERING = frozenset(
    [
        "adjusted_mutual_info_score",
        "adjusted_rand_score",
        "completeness_score",
        "fowlkes_mallows_score",
        "homogeneity_score",
        "mutual_info_score",
        "normalized_mutual_info_score",
        "rand_score",
        "v_measure_score",
    ]
)
_MULTILABEL = frozenset(f"{name}_samples" for name in _AVERAGED)
_BINARY_ONLY = frozenset([*_AVERAGED, "positive_likelihood_ratio", "neg_negative_likelihood_ratio"])
_BY_TASK = {"classification": _BY_LABEL | _BY_PROBABILITY, "regression": _REGRESSION}
_PLAIN = {"auc": "roc_auc", "rmse": "neg_root_mean_squared_error", "mse": "neg_mean_squared_error"}
_PLAIN |= {"mae": "neg_mean_absolute_error", "mape": "neg_mean_absolute_percentage_error"}
_PLAIN |= {"log_loss": "neg_log_loss", "logloss": "neg_log_loss", "brier": "neg_brier_score"}


def check_metric(metric: str, task: str) -> str:
    """Return `metric` when it is a scikit-learn scorer that can judge a model of this task.

    Raises:
        ValueError: for an unknown name (with the nearest ones), a metric of the other task, and
            scorers of clusterings or multi-label targets.

    Example:
        >>> check_metric("neg_log_loss", "classification")
        'neg_log_loss'
        >>> check_metric("rmse", "regression")
        Traceback (most recent call last):
        ValueError: metric 'rmse' is not a scikit-learn scorer; did you mean neg_root_mean_squared_error?
    """
    allowed = _BY_TASK[task]
    if metric in allowed:
        return metric
    if metric in _MULTILABEL:
        raise ValueError(f"metric {metric!r} is for multi-label targets; use {metric[:-7]}weighted or _macro")
    if metric in _CLUSTERING:
        raise ValueError(f"metric {metric!r} compares clusterings, not predictions; use {_default(task)}")
    if any(metric in names for names in _BY_TASK.values()):
        raise ValueError(f"metric {metric!r} does not fit task {task}; use for example {_default(task)}")
    near = (
        [_PLAIN[metric.lower()]] if metric.lower() in _PLAIN else get_close_matches(metric, allowed, 3, 0.5)
    )
    hint = f"did you mean {' or '.join(near)}?" if near else f"use for example {_default(task)}"
    raise ValueError(f"metric {metric!r} is not a scikit-learn scorer; {hint}")


def greater_is_better(metric: str) -> bool:
    """Return whether the quantity itself is better when larger: true for AUC, false for an error.

    Scores in this project follow the scorer convention whatever this says: an error is negated, so
    that the larger score is always the better one.
    """
    return not metric.startswith("neg_")


def needs_probabilities(metric: str) -> bool:
    """Return whether the metric judges class probabilities rather than predicted labels or numbers."""
    return metric in _BY_PROBABILITY


def is_binary_only(metric: str) -> bool:
    """Return whether the metric is about one positive class and so has no meaning for three or more."""
    return metric in _BINARY_ONLY


def score(
    y_true: np.ndarray[Any, Any],  # Any: labels may be of any type
    prediction: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any] | None,
    classes: tuple[Any, ...] | None,
    metric: str,
    positive: Any = None,
) -> float:
    """Return the metric of these rows as a scikit-learn scorer would: larger is better, errors are negative.

    NaN means "cannot be told": no rows, a NaN among predictions or labels, or one class where the metric
    compares two. `probabilities` has one column per entry of `classes`; a label that `classes` lacks
    counts as given probability 0. `roc_auc` of three or more classes is the one-against-rest mean.

    Args:
        y_true: Known labels or numbers, one per row.
        prediction: Predicted labels or numbers, one per row.
        probabilities: Float, rows by classes; needed where `needs_probabilities(metric)`.
        classes: The model's classes, in the order of the columns.
        metric: A scikit-learn scorer name.
        positive: Positive class of a binary label; default: the larger one.

    Raises:
        ValueError: when probabilities are needed and absent, or a binary metric meets three classes.
    """
    from tasks.core.evaluation.scoring import Scored, statistic

    return statistic(Scored(y_true, prediction, probabilities, classes), metric, positive=positive)(None)


def _default(task: str) -> str:
    return "roc_auc or neg_log_loss" if task == "classification" else "neg_root_mean_squared_error or r2"
