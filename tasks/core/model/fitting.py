"""A spec's estimator fitted on given rows: from scratch, or going on from a model that has learnt already."""

from __future__ import annotations

import re
import warnings
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import InvalidParameterError

from tasks.core.errors import TrainingError
from tasks.core.evaluation.unknown import unknown_counts
from tasks.core.model.columns import number_column
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import build_pipeline
from tasks.core.model.weighting import effective_rows, fit_weighted, row_weights
from tasks.core.spec import ModelSpec
from tasks.core.window import utc

MIN_EFFECTIVE_ROWS = 2.0  # fewer, and the weights leave one row to learn from


def weights_of(spec: ModelSpec, rows: pd.DataFrame, end: datetime) -> NDArray[np.float64] | None:
    """Return the weight of every row when what is learnt from ends at `end`; None where all count the same.

    Raises:
        TrainingError: when next to nothing is left of the rows because the half-life is too short for them.
    """
    weights = row_weights(rows[spec.source.timestamp], spec, end)
    if weights is not None and len(rows) > 1:
        effective = effective_rows(len(rows), weights)
        if effective < MIN_EFFECTIVE_ROWS:
            raise _cannot(
                spec,
                f"{len(rows)} rows that count like {effective:.2g}",
                f"at least {MIN_EFFECTIVE_ROWS:.0f} effective rows",
                "lengthen window.half_life",
            )
    return weights


def fit_scratch(
    spec: ModelSpec,
    rows: pd.DataFrame,
    params: dict[str, Any],  # Any: whatever the estimator takes
    *,
    weights: NDArray[np.float64] | None,
    threads: int = 1,
) -> Pipeline:
    """Return the spec's pipeline with these parameters, fitted on the rows by their weights.

    Raises:
        TrainingError: when the rows cannot be trained on, or the estimator refuses them.
    """
    check_trainable(spec, rows)
    final = spec.model_copy(
        update={"estimator": spec.estimator.model_copy(update={"params": params, "search": {}})}
    )
    try:
        model = _fitted(final, rows, weights, threads)
    except (ValueError, TypeError, MemoryError, FloatingPointError) as err:
        raise refused_by_estimator(spec, err) from err
    if "n_jobs" in model[-1].get_params(deep=False) and "n_jobs" not in params:
        model[-1].set_params(n_jobs=None)  # threads of training: where it serves, one is the faster
    return model


def left_out(spec: ModelSpec, rows: pd.DataFrame, model: Any) -> str:  # Any: a fitted pipeline
    """Return what was set aside of these rows so that the model could be fitted; empty: nothing was.

    Where early stopping was set aside instead, that is said.
    """
    if spec.task != "classification" or not hasattr(model, "classes_"):
        return ""
    counts = unknown_counts(labels_of(rows, spec), model.classes_.tolist())
    if counts:
        names = ", ".join(f"{name[:40]!r}" for name in counts)[:200]
        return f"{sum(counts.values())} rows of classes too rare to be split were left out: {names}"
    estimator = model[-1] if isinstance(model, Pipeline) else model
    if getattr(estimator, "early_stopping", None) is False and _rare(labels_of(rows, spec)):
        asked = spec.estimator.params.get("early_stopping", "auto")
        return "" if asked is False else "early stopping was set aside: one of two classes has a single row"
    return ""


def _fitted(
    spec: ModelSpec, rows: pd.DataFrame, weights: NDArray[np.float64] | None, threads: int
) -> Pipeline:
    """Return the pipeline fitted on the rows, or on those whose classes are frequent enough to be split.

    Early stopping, calibration and stacking split the rows by class, and refuse a class with fewer rows than
    parts. Those rows are left out; where only one class would remain, early stopping is set aside.
    """
    labels = labels_of(rows, spec)
    try:
        model = build_pipeline(spec, threads=threads)
        return quietly(fit_weighted, model, rows[spec.features.all], labels, weights)
    except ValueError as err:
        rare = _rare(labels, _parts_in(err)) if spec.task == "classification" else []
        if not rare:
            raise
    keep = ~pd.Series(labels).isin(rare).to_numpy()
    model = build_pipeline(spec, threads=threads)
    if len(np.unique(labels[keep])) < 2:
        if "early_stopping" not in model[-1].get_params(deep=False):
            raise _cannot(
                spec,
                f"{int((~keep).sum())} rows of the rarer class among {len(rows)}",
                "a few rows of each of two classes",
                f"look at column {spec.label.column!r}, or lengthen window.training",
            )
        model[-1].set_params(early_stopping=False)
        return quietly(fit_weighted, model, rows[spec.features.all], labels, weights)
    some = None if weights is None else weights[keep]
    return quietly(fit_weighted, model, rows.loc[keep, spec.features.all], labels[keep], some)


def _parts_in(err: ValueError) -> int:
    """Return into how many parts rows of a class were to be split, as scikit-learn's complaint has it."""
    found = re.search(r"n_splits=(\d+)|Requesting (\d+)-fold", str(err))
    return int(found.group(1) or found.group(2)) if found else 2


def _rare(labels: NDArray[Any], fewest: int = 2) -> list[Any]:
    """Return the classes with fewer rows than that."""
    names, counts = np.unique(labels, return_counts=True)
    return [name for name, count in zip(names.tolist(), counts, strict=True) if count < fewest]


def new_to(spec: ModelSpec, rows: pd.DataFrame, since: datetime | None) -> pd.DataFrame:
    """Return the rows that a champion which has learnt up to `since` goes on with.

    Raises:
        TrainingError: when there are none.
    """
    new = rows if since is None else rows[rows[spec.source.timestamp] >= utc(since)]
    if new.empty:
        raise _cannot(spec, "no row that is new to the champion", "new training rows", "wait for more")
    return new


def go_on(
    spec: ModelSpec,
    model: Any,  # Any: whatever was stored as the champion
    new: pd.DataFrame,
    weights: NDArray[np.float64] | None,
) -> Pipeline:
    """Return the model after one more pass over the rows, in place, its preprocessing unchanged.

    Raises:
        TrainingError: when the model cannot go on, has other features or classes, or refuses the rows.
    """
    estimator: Any = model[-1] if isinstance(model, Pipeline) else None  # Any: scikit-learn is untyped
    if not hasattr(estimator, "partial_fit"):
        raise _cannot(
            spec,
            f"mode partial_fit with {type(estimator).__name__}",
            "an estimator with partial_fit",
            "set estimator.mode to scratch, or use for example sklearn.linear_model.SGDClassifier",
        )
    if list(model.feature_names_in_) != spec.features.all:
        raise _cannot(
            spec, "other features than the champion's", "the same ones", "train once in mode scratch"
        )
    labels = labels_of(new, spec)
    more: dict[str, Any] = {} if weights is None else {"sample_weight": weights}
    if spec.task == "classification":
        unknown = set(np.unique(labels).tolist()) - set(estimator.classes_.tolist())
        if unknown:
            raise _cannot(
                spec, f"{len(unknown)} new classes", "the champion's classes", "train once in mode scratch"
            )
        more["classes"] = estimator.classes_
    try:
        estimator.partial_fit(model[:-1].transform(new[spec.features.all]), labels, **more)
    except (ValueError, TypeError) as err:
        raise refused_by_estimator(spec, err) from err
    return model


def check_trainable(spec: ModelSpec, rows: pd.DataFrame) -> None:
    """Raise a TrainingError where the rows hold an empty or infinite feature, or one class only."""
    empty = [name for name in spec.features.all if rows[name].isna().all()]
    if empty:
        raise _cannot(
            spec,
            f"no value at all in {', '.join(empty)}"[:200],
            "features with values in the training rows",
            "repair the source, or take the columns out of features",
        )
    try:
        infinite = [name for name in spec.features.numeric if np.isinf(number_column(rows[name])).any()]
    except (TypeError, ValueError) as err:
        raise refused_by_estimator(spec, err) from err
    if infinite:  # some estimators take them silently as merely large
        raise _cannot(
            spec,
            f"infinite values in {', '.join(infinite)}"[:200],
            "finite numbers or missing ones",
            "let the contract refuse such rows, or repair the source",
        )
    if spec.task == "classification" and len(np.unique(labels_of(rows, spec))) < 2:
        raise _cannot(
            spec,
            f"one class only in {len(rows)} training rows",
            "at least two classes",
            f"look at column {spec.label.column!r}, or lengthen window.training",
        )


def quietly(fit: Any, *args: Any) -> Any:  # Any: a fitting function, what it takes and what it returns
    """Return what `fit` does; an estimator that stopped early is a fact for its score, not an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(*args)


def refused_by_estimator(spec: ModelSpec, err: Exception) -> TrainingError:
    """Return the error for what scikit-learn complained of, without any value of a row."""
    kind = spec.estimator.class_path.rpartition(".")[2]
    # What stands in quotes may be a value of a row, unless the complaint is about a parameter.
    text = str(err) if isinstance(err, InvalidParameterError) else re.sub(r"(['\"]).*?\1", "'…'", str(err))
    return _cannot(
        spec,
        f"{kind} refusing these rows ({type(err).__name__}: {text.splitlines()[0][:150] if text else ''})",
        "rows and parameters it accepts",
        "check estimator.params and the contract (infinite values, types)",
    )


def _cannot(spec: ModelSpec, found: str, expected: str, todo: str) -> TrainingError:
    return TrainingError(found, expected, todo, model=spec.name)
