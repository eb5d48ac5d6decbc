"""Golden rows: a few inputs with the answers a version gave, re-scored before it may serve.

They stand in the bundle, so they must not show a person. Every row's sensitive columns are filled with values
drawn from the whole column, each column on its own: numbers are rounded deciles, categories only those that
at least `CROWD` rows share, and missing where there is neither. So the model's code path is exercised, and no
sensitive value stands beside the rest of its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.spec import ModelSpec

GOLDEN_ROWS = 50
CROWD = 10  # our choice: a category fewer rows share could point at one of them
RELATIVE, ABSOLUTE = (
    1e-6,
    1e-9,
)  # our choice: wider than another BLAS changes a sum, far below what a caller sees
PREDICTION = "__prediction__"
PROBABILITY = "__probability_{}__"


@dataclass(frozen=True)
class Answers:
    """What a model answered to some rows: one prediction per row, and probabilities where it has them."""

    prediction: np.ndarray[Any, Any]  # Any: labels may be text, whole numbers or floats
    probabilities: np.ndarray[Any, Any] | None = None


def choose_golden(holdout: pd.DataFrame, spec: ModelSpec, *, count: int = GOLDEN_ROWS) -> pd.DataFrame:
    """Return at most `count` rows of features, spread evenly over the holdout in its order.

    Columns are `spec.features.all`, with the dtypes of the holdout; sensitive ones as the module describes.
    An empty holdout gives an empty frame.
    """
    features = holdout[spec.features.all]
    positions = np.unique(np.linspace(0, len(features) - 1, min(count, len(features))).round().astype(int))
    chosen: pd.DataFrame = features.iloc[positions].reset_index(drop=True)
    rng = np.random.default_rng(spec.estimator.seed)
    for name in spec.features.sensitive:
        numeric = name in spec.features.numeric
        pool = _deciles(features[name]) if numeric else _crowded(features[name])
        chosen[name] = _drawn(pool, len(chosen), rng, like=features[name])
    return chosen


def with_answers(rows: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """Return the rows with the answers beside them, ready for Parquet."""
    columns: dict[str, Any] = {PREDICTION: answers.prediction}  # Any: one dtype per column
    if answers.probabilities is not None:
        for index in range(answers.probabilities.shape[1]):
            columns[PROBABILITY.format(index)] = answers.probabilities[:, index]
    return rows.assign(**columns)


def has_probabilities(golden: pd.DataFrame) -> bool:
    """Return whether the version that gave these golden rows their answers gives probabilities."""
    return PROBABILITY.format(0) in golden.columns


def difference(golden: pd.DataFrame, answers: Answers) -> str | None:
    """Return how the answers differ from those kept with the golden rows, or None when they are equal.

    Labels must be the same; numbers may differ by rounding (relative 1e-6). A NaN equals nothing, and no rows
    at all prove nothing: both are differences.
    """
    if golden.empty:
        return "no golden rows"
    if len(answers.prediction) != len(golden):
        return f"{len(answers.prediction)} answers to {len(golden)} golden rows"
    expected = _kept_probabilities(golden)
    if (expected is None) != (answers.probabilities is None):
        return "probabilities on one side only"
    if expected is not None and answers.probabilities is not None:
        if expected.shape != answers.probabilities.shape:
            return (
                f"probabilities for {answers.probabilities.shape[1]} classes, {expected.shape[1]} were kept"
            )
        off = int((~_close(expected, answers.probabilities).all(axis=1)).sum())
        if off:
            return f"other probabilities on {off} of {len(golden)} golden rows"
    off = int((~_same(golden[PREDICTION].to_numpy(), np.asarray(answers.prediction))).sum())
    return f"other predictions on {off} of {len(golden)} golden rows" if off else None


def _kept_probabilities(golden: pd.DataFrame) -> np.ndarray[Any, Any] | None:
    names = [PROBABILITY.format(index) for index in range(len(golden.columns))]
    kept = [name for name in names if name in golden.columns]
    return golden[kept].to_numpy(dtype=float) if kept else None


def _same(expected: np.ndarray[Any, Any], given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if np.issubdtype(expected.dtype, np.floating) and np.issubdtype(given.dtype, np.number):
        return _close(expected, given)
    equal: np.ndarray[Any, Any] = np.array([a == b for a, b in zip(expected, given, strict=True)], dtype=bool)
    return equal


def _close(expected: np.ndarray[Any, Any], given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    close: np.ndarray[Any, Any] = np.isclose(
        expected.astype(float), given.astype(float), rtol=RELATIVE, atol=ABSOLUTE
    )
    known: np.ndarray[Any, Any] = np.isfinite(given.astype(float))
    both: np.ndarray[Any, Any] = close & known
    return both


def _deciles(column: pd.Series[Any]) -> list[Any]:
    values = pd.to_numeric(column, errors="coerce").replace([np.inf, -np.inf], np.nan).dropna().astype(float)
    if values.empty:
        return []
    # Three significant digits, so that a decile is not itself one row's exact value.
    return [float(f"{value:.3g}") for value in np.quantile(values, np.linspace(0.1, 0.9, 9))]


def _crowded(column: pd.Series[Any]) -> list[Any]:
    counts = column.value_counts()
    return sorted(counts[counts >= CROWD].index, key=str)


def _drawn(pool: list[Any], rows: int, rng: np.random.Generator, *, like: pd.Series[Any]) -> pd.Series[Any]:
    numeric = pd.api.types.is_numeric_dtype(like.dtype) and not pd.api.types.is_bool_dtype(like.dtype)
    if not pool:
        return pd.Series([np.nan if numeric else None] * rows, dtype=float if numeric else object)
    drawn = [pool[index] for index in rng.integers(0, len(pool), rows)]
    if numeric:
        return pd.Series(drawn, dtype=float)
    return pd.Series(drawn, dtype=like.dtype)
