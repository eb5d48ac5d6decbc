"""Regression metrics as functions of row weights; the counterpart of `scoring` for numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

Floats = NDArray[np.float64]
Statistic = Callable[[Floats | None], float]


def regression_statistic(
    y_true: NDArray[Any],  # Any: integers and floats
    prediction: NDArray[Any],
    metric: str,
) -> Statistic:
    """Return the metric of these rows as a function of their weights: larger is better, NaN cannot be told.

    NaN also where the metric is not defined on the values: a logarithmic error of numbers below -1, a Poisson
    deviance of predictions that are not above 0, a share of explained variance when the truth never varies.
    """
    real = np.asarray(y_true, dtype=np.float64)
    said = np.asarray(prediction, dtype=np.float64)
    if len(real) == 0 or not (np.isfinite(real).all() and np.isfinite(said).all()):
        return lambda _: float("nan")
    if metric in _RESAMPLED:
        return _resampled(real, said, metric)
    with np.errstate(all="ignore"):
        columns, finish = _MOMENTS[metric](real, said)
    table = np.column_stack(columns)

    def value(weights: Floats | None) -> float:
        means = table.mean(axis=0) if weights is None else weights @ table / weights.sum()
        with np.errstate(all="ignore"):
            return float(finish(means))

    return value


def moments(
    real: NDArray[Any],  # Any: integers and floats
    said: NDArray[Any],
    metric: str,
    *,
    centre: float = 0.0,
) -> tuple[Floats, Callable[[Floats], float]] | None:
    """Return rows by columns, and the function from the columns' means to the metric.

    The function does not depend on the rows, so the means may be those of other rows, or estimated; where
    they hold the truth itself, `centre` is taken off first. None for a metric that no means give: a maximum
    or a median.
    """
    if metric not in _MOMENTS:
        return None
    truth, answer = np.asarray(real, dtype=np.float64), np.asarray(said, dtype=np.float64)
    with np.errstate(all="ignore"):
        columns, finish = _MOMENTS[metric](truth, answer)
    if metric in _OF_TRUTH:
        columns[-2:] = [truth - centre, (truth - centre) ** 2]

    def value(means: Floats) -> float:
        with np.errstate(all="ignore"):
            return float(finish(means))

    return np.column_stack(columns), value


# Every entry: rows to columns, and the columns' weighted means to the metric.
_Moments = tuple[list[Floats], Callable[[Floats], float]]


def _negative(means: Floats) -> float:
    return -float(means[0])


def _negative_root(means: Floats) -> float:
    return -float(np.sqrt(means[0]))


def _relative(error: float, spread: float) -> float:
    return 1 - error / spread if spread > 0 else float("nan")


def _squared(real: Floats, said: Floats) -> Floats:
    return (real - said) ** 2


def _log_squared(real: Floats, said: Floats) -> Floats:
    return np.asarray((np.log1p(real) - np.log1p(said)) ** 2, dtype=np.float64)


def _r2(real: Floats, said: Floats) -> _Moments:
    centred = real - np.median(real)  # exact zeros for a constant, and no cancellation for far-off values
    columns = [_squared(real, said), centred, centred**2]
    return columns, lambda m: _relative(float(m[0]), _variance(m[1], m[2]))


def _explained(real: Floats, said: Floats) -> _Moments:
    error, centred = real - said, real - np.median(real)
    shifted = error - np.median(error)
    columns = [shifted, shifted**2, centred, centred**2]
    return columns, lambda m: _relative(_variance(m[0], m[1]), _variance(m[2], m[3]))


def _variance(mean: float, mean_square: float) -> float:
    spread = float(mean_square - mean**2)
    return spread if spread > 1e-12 * float(mean_square) else 0.0


def _share(real: Floats, said: Floats) -> Floats:
    return np.asarray(np.abs(real - said) / np.maximum(np.abs(real), np.finfo(np.float64).eps))


def _poisson(real: Floats, said: Floats) -> Floats:
    each = 2 * (xlogy(real, real / said) - real + said)
    return np.where((real >= 0) & (said > 0), each, np.nan)


def _gamma(real: Floats, said: Floats) -> Floats:
    return np.where((real > 0) & (said > 0), 2 * (np.log(said / real) + real / said - 1), np.nan)


_MOMENTS: dict[str, Callable[[Floats, Floats], _Moments]] = {
    "r2": _r2,
    "explained_variance": _explained,
    "neg_mean_absolute_error": lambda y, p: ([np.abs(y - p)], _negative),
    "neg_mean_squared_error": lambda y, p: ([_squared(y, p)], _negative),
    "neg_root_mean_squared_error": lambda y, p: ([_squared(y, p)], _negative_root),
    "neg_mean_squared_log_error": lambda y, p: ([_log_squared(y, p)], _negative),
    "neg_root_mean_squared_log_error": lambda y, p: ([_log_squared(y, p)], _negative_root),
    "neg_mean_absolute_percentage_error": lambda y, p: ([_share(y, p)], _negative),
    "neg_mean_poisson_deviance": lambda y, p: ([_poisson(y, p)], _negative),
    "neg_mean_gamma_deviance": lambda y, p: ([_gamma(y, p)], _negative),
}
_OF_TRUTH = ("r2", "explained_variance")  # whose last two columns are the truth and its square
_RESAMPLED = ("neg_max_error", "neg_median_absolute_error", "d2_absolute_error_score")
REGRESSION = frozenset([*_MOMENTS, *_RESAMPLED])


def _resampled(real: Floats, said: Floats, metric: str) -> Statistic:
    """Return a metric that no sums give, taken anew on the repeated rows (weights are whole numbers)."""
    error = np.abs(real - said)

    def value(weights: Floats | None) -> float:
        times = np.ones(len(real), dtype=np.int64) if weights is None else weights.astype(np.int64)
        errors = np.repeat(error, times)
        if metric == "neg_max_error":
            return -float(errors.max())
        if metric == "neg_median_absolute_error":
            return -float(np.median(errors))
        truth = np.repeat(real, times)
        return _relative(float(errors.mean()), float(np.abs(truth - np.median(truth)).mean()))

    return value
