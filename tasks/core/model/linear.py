"""The linear model that every challenger is also held against: if it is as good, the rest is not needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from tasks.core.importing import load_object
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import build_pipeline
from tasks.core.model.weighting import fit_weighted
from tasks.core.spec import ModelSpec

LINEAR_ROWS = 20_000  # our choice: what a linear model learns, it has learnt by then
_STEPS = 200  # of the optimiser: on scaled features more change nothing that a comparison would see
_LINEAR = ("LinearSVC", "LinearSVR", "LinearDiscriminantAnalysis")


def is_linear(spec: ModelSpec) -> bool:
    """Tell whether the spec's own estimator is linear, so that another one would say nothing new."""
    kind = load_object(spec.estimator.class_path, field="estimator.class")
    return kind.__module__.startswith("sklearn.linear_model.") or kind.__name__ in _LINEAR


def fit_linear(spec: ModelSpec, train: pd.DataFrame, weights: NDArray[np.float64] | None = None) -> Pipeline:
    """Return a logistic or ridge regression of the spec's features, on at most 20,000 rows spread over time.

    Args:
        spec: The model; its preprocessing stays, only the estimator is another.
        train: Labelled training rows by rising time.
        weights: How much each of them counts, as for the model it is compared with; default: all the same.

    Raises:
        ValueError: when these rows cannot be fitted, for example because they hold one class only.
    """
    step = -(-len(train) // LINEAR_ROWS) or 1
    rows = train.iloc[::step]
    kind = "LogisticRegression" if spec.task == "classification" else "Ridge"
    params: dict[str, Any] = {"max_iter": _STEPS} if kind == "LogisticRegression" else {}
    estimator = spec.estimator.model_copy(
        update={"class_path": f"sklearn.linear_model.{kind}", "params": params, "search": {}}
    )
    model = build_pipeline(spec.model_copy(update={"estimator": estimator}))
    thinned = None if weights is None else weights[::step]
    return fit_weighted(model, rows[spec.features.all], labels_of(rows, spec), thinned)
