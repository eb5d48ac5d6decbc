"""Two models judged by means over rows: log loss, squared and absolute errors, and what such means give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.regression_scoring import REGRESSION, moments
from tasks.core.evaluation.scoring import Scored, aligned, encode

Floats = NDArray[np.float64]
Finish = Callable[[Floats], Floats]
_FEW_ROWS = 10_000
_TURNS = 10
_AT_ONCE = 1_000_000  # rows drawn at a time


def contributions(scored: Scored, metric: str, labels: tuple[Any, ...]) -> tuple[Floats, Finish] | None:
    """Return rows by columns, and the function from many lines of their means to the metric of each line.

    None for a metric that no means give. A row whose part is not defined has NaN, and so has the metric then.
    """
    if metric in REGRESSION:
        return _of_numbers(scored, metric)
    if metric == "accuracy":
        codes = [encode(values, labels) for values in (scored.y_true, scored.prediction)]
        right = np.where(np.minimum(*codes) < 0, np.nan, codes[0] == codes[1])
        return right[:, None], _times(1.0)
    if metric in ("neg_log_loss", "neg_brier_score", "top_k_accuracy"):
        return _of_probabilities(aligned(scored, labels), encode(scored.y_true, labels), metric)
    return None


def _of_numbers(scored: Scored, metric: str) -> tuple[Floats, Finish] | None:
    real = np.asarray(scored.y_true, dtype=np.float64)
    found = moments(real, scored.prediction, metric, centre=float(np.median(real)))
    if found is None:
        return None
    table, finish = found
    if table.shape[1] == 1:  # an error, or the root of one
        return table, (lambda means: -np.sqrt(means[:, 0])) if "root_mean" in metric else _times(-1.0)
    return table, lambda means: np.array([finish(line) for line in means])


def _of_probabilities(given: Floats, truth: NDArray[np.int64], metric: str) -> tuple[Floats, Finish]:
    own = np.where(truth < 0, np.nan, given[np.arange(len(truth)), truth])
    if metric == "top_k_accuracy":
        best = np.argsort(given, axis=1, kind="mergesort")[:, -2:]
        each = np.where(np.isfinite(own), (best == truth[:, None]).any(axis=1), np.nan)
        return each[:, None], _times(1.0)
    if metric == "neg_log_loss":
        eps = np.finfo(np.float64).eps
        return -np.log(np.clip(own, eps, 1 - eps))[:, None], _times(-1.0)
    loss = (given**2).sum(axis=1) - own**2 + (1 - own) ** 2
    return loss[:, None], _times(-0.5 if given.shape[1] < 3 else -1.0)  # scikit-learn: half for two classes


def _times(factor: float) -> Finish:
    return lambda means: factor * means[:, 0]


def resampled_means(table: Floats, *, seed: int, resamples: int) -> Floats:
    """Return the columns' means over rows drawn with replacement: one line per resample.

    Of many rows, the counts of one draw are used `_TURNS` times, each time turned against the rows by another
    step. However turned, they are counts of rows drawn with replacement; and because the rows are shuffled
    first, two turns have hardly more in common than two draws: their correlation is that of the shuffled rows
    with themselves at that step, about 1 / sqrt(rows).

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 6; the turning is our own.
    """
    rng, rows = np.random.default_rng(seed), len(table)
    found = np.empty((resamples, table.shape[1]))
    if rows < _FEW_ROWS:
        step = max(1, _AT_ONCE // rows)
        for start in range(0, resamples, step):
            drawn = rng.integers(0, rows, (min(step, resamples - start), rows))
            for column, values in enumerate(table.T):
                found[start : start + len(drawn), column] = values.take(drawn).mean(axis=1)
        return found
    columns = np.ascontiguousarray(table[rng.permutation(rows)].T)
    for start in range(0, resamples, _TURNS):
        counts = np.bincount(rng.integers(0, rows, rows), minlength=rows) / rows
        ring = np.concatenate([counts, counts])
        turns = rng.choice(rows, min(_TURNS, resamples - start), replace=False)
        for line, turn in enumerate(turns, start):
            found[line] = columns @ ring[turn : turn + rows]
    return found
