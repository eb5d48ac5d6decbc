"""Which rows a model learns from, as `window.rows` has it, and how much each of them counts.

`fading` halves a row's weight with every half-life of age instead of forgetting it at an edge: with a
half-life of 0.35 of the training window the weighted rows have the mean age of the window's rows, and inform
like as many.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from tasks.core.model.pipeline import build_pipeline
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc

FADING_WINDOWS = 4  # a row older than that counts less than 1/2700 of the newest
HALF_LIFE = 0.35  # of the training window; its mean age is .35 / ln 2 = .505 of it, a hard window's .5
BREAK_WINDOWS = 2  # our choice: since a break at least two check windows, or there is nothing to judge by
EARLIEST = datetime(1800, 1, 1, tzinfo=UTC)  # before any row, and within what every database can compare


def learning_span(
    spec: ModelSpec, end: datetime, *, break_at: datetime | None = None, first: datetime | None = None
) -> Window:
    """Return the rows that may be learnt from when the newest mature label is at `end`.

    fading: up to four training windows back, or the training window alone where the estimator takes no
    weights. sliding: the training window. expanding: since `first`, or the training window if that begins
    earlier. since_break: since `break_at`, but no more than the training window and no less than two check
    windows; without a break the training window.

    Args:
        spec: Names rule, lengths and estimator.
        end: End of the span; windows are half-open.
        break_at: When the rows last changed for good, where that is known.
        first: Time of the oldest row; default: a moment before any row.

    Raises:
        SpecError: when the estimator cannot be made, or `end` is naive.
    """
    training, rule = Window.ending(end, spec.window.training), rows_rule(spec)
    end = training.end
    if rule == "expanding":
        return Window(min(utc(first or EARLIEST), training.start), end)
    if rule == "fading":
        reach = max((end - EARLIEST) / training.length, 1.0)
        return Window(end - training.length * min(FADING_WINDOWS, reach), end)
    if rule == "since_break" and break_at is not None:
        least = BREAK_WINDOWS * parse_duration(spec.window.check)
        return Window(max(min(utc(break_at), end - least), training.start), end)
    return training


def rows_rule(spec: ModelSpec) -> str:
    """Return the rule in force: that of the spec, or `sliding` where fading rows cannot be weighted."""
    return "sliding" if spec.window.rows == "fading" and not takes_weights(spec) else spec.window.rows


def takes_weights(spec: ModelSpec) -> bool:
    """Tell whether the estimator learns from weighted rows, with whatever estimators it is made of.

    In mode partial_fit `partial_fit` has to take the weights too.

    Raises:
        SpecError: when the estimator cannot be made.
    """
    estimator = build_pipeline(spec)[-1]
    parts = [part for part in estimator.get_params(deep=True).values() if _is_estimator(part)]
    if not all(has_fit_parameter(part, "sample_weight") for part in (estimator, *parts)):
        return False
    return spec.estimator.mode != "partial_fit" or _partly_weighted(estimator)


def half_life_days(spec: ModelSpec) -> float:
    """Return the age in days at which a fading row counts half."""
    given = spec.window.half_life
    length = parse_duration(given) if given else HALF_LIFE * parse_duration(spec.window.training)
    return length.total_seconds() / 86_400


def row_weights(
    times: pd.Series[Any],  # Any: aware timestamps of any unit
    spec: ModelSpec,
    end: datetime,
) -> NDArray[np.float64] | None:
    """Return 2 ** (-age / half-life) for every row, in (0, 1]; None where rows are not weighted.

    The weights are not rescaled: the newest row counts 1, as in a fit without weights. A mean of 1 would let
    four windows of rows outweigh `C` or `alpha` although they inform like one, and would multiply the steps
    of stochastic gradient descent by up to eight.

    Args:
        times: When each row happened.
        spec: Names rule and half-life.
        end: From when ages are counted: the end of what is learnt from.
    """
    if rows_rule(spec) != "fading":
        return None
    age = (pd.Timestamp(utc(end)) - pd.to_datetime(times, utc=True)) / pd.Timedelta(days=1)
    weights: NDArray[np.float64] = np.exp2(
        -np.maximum(age.to_numpy(dtype=np.float64), 0.0) / half_life_days(spec)
    )
    return weights


def effective_rows(rows: int, weights: NDArray[np.float64] | None) -> float:
    """Return how many rows of equal weight inform as much, (sum w)² / sum w².

    Source: Kish, Survey Sampling (1965), section 11.7.
    """
    if weights is None:
        return float(rows)
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def limit_rows(frame: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    """Return the newest `window.max_rows` rows, in the order given; all where there is no limit."""
    most = spec.window.max_rows
    if most is None or len(frame) <= most:
        return frame
    positions = np.arange(len(frame))
    order = frame.assign(**{"__position__": positions}).sort_values(
        [spec.source.timestamp, spec.source.key], kind="stable", na_position="first"
    )
    return frame.iloc[np.sort(order["__position__"].to_numpy()[-most:])]


def fit_weighted(
    pipeline: Pipeline,
    features: pd.DataFrame,
    labels: Any,  # Any: one label per row
    weights: NDArray[np.float64] | None,
) -> Pipeline:
    """Return the pipeline fitted, the weights given to its last step; the others count every row once."""
    if weights is None:
        return pipeline.fit(features, labels)
    return pipeline.fit(features, labels, **{f"{pipeline.steps[-1][0]}__sample_weight": weights})


def _is_estimator(part: Any) -> bool:  # Any: a parameter of an estimator
    return hasattr(part, "fit") and hasattr(part, "get_params") and not isinstance(part, type)


def _partly_weighted(estimator: Any) -> bool:  # Any: an estimator
    from inspect import signature

    return (
        hasattr(estimator, "partial_fit") and "sample_weight" in signature(estimator.partial_fit).parameters
    )
