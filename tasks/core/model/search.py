"""The search over a grid of estimator parameters, on folds that never look ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid, TimeSeriesSplit

from tasks.core.errors import TrainingError
from tasks.core.evaluation.metrics import score
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import build_pipeline, predict
from tasks.core.model.weighting import fit_weighted, row_weights
from tasks.core.spec import ModelSpec

FOLDS = 3


def best_params(
    spec: ModelSpec, train: pd.DataFrame, *, threads: int = 1, folds: int = FOLDS
) -> dict[str, Any]:  # Any: whatever the estimator takes
    """Return the estimator's parameters with those of the grid at their best; of equal scores the first.

    Every fold is judged on rows newer than those it was fitted on, and entities of the judged rows are taken
    out of the fitted ones. Fading weights are those that the fitted rows had when the judged ones began.
    Without a grid the parameters of the spec come back at once.

    Args:
        spec: Names parameters, grid, metric and columns.
        train: Training rows by rising time.
        threads: Threads of a fit.
        folds: How many.

    Raises:
        TrainingError: when no combination has a score on any fold.
    """
    if not spec.estimator.search:
        return dict(spec.estimator.params)
    best: dict[str, Any] | None = None
    best_score = -np.inf
    for chosen in ParameterGrid(spec.estimator.search):
        params = {**spec.estimator.params, **chosen}
        values = _fold_scores(_with(spec, params), train, threads, folds)
        mean = float(np.mean(values)) if values else float("nan")
        if np.isfinite(mean) and mean > best_score:
            best, best_score = params, mean
    if best is None:
        raise TrainingError(
            f"no score for any combination on {len(train)} rows",
            f"{folds} time-ordered folds with all classes",
            "give more rows or drop estimator.search",
            model=spec.name,
        )
    return best


def _with(spec: ModelSpec, params: dict[str, Any]) -> ModelSpec:
    estimator = spec.estimator.model_copy(update={"params": params, "search": {}})
    return spec.model_copy(update={"estimator": estimator})


def _fold_scores(spec: ModelSpec, train: pd.DataFrame, threads: int, folds: int) -> list[float]:
    values = []
    if len(train) <= folds:
        return []
    for older, newer in TimeSeriesSplit(n_splits=folds).split(train):
        fit_rows, judged = train.iloc[older], train.iloc[newer]
        group = spec.source.group
        if group:
            fit_rows = fit_rows[~(fit_rows[group].notna() & fit_rows[group].isin(judged[group]))]
        if fit_rows.empty or (spec.task == "classification" and len(set(labels_of(fit_rows, spec))) < 2):
            continue
        times = spec.source.timestamp
        model = fit_weighted(
            build_pipeline(spec, threads=threads),
            fit_rows[spec.features.all],
            labels_of(fit_rows, spec),
            row_weights(fit_rows[times], spec, judged[times].min().to_pydatetime()),
        )
        said = predict(model, judged)
        value = score(
            labels_of(judged, spec),
            said.prediction,
            said.probabilities,
            said.classes,
            spec.metric,
            spec.label.positive,
        )
        if np.isfinite(value):
            values.append(value)
    return values
