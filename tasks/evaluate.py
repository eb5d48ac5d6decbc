"""Judge a challenger beside the champion on rows that neither has learnt from."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import RegistryError, TrainingError
from tasks.core.evaluation.bootstrap import score_interval
from tasks.core.evaluation.gate import GateEvidence, PairedScores, decide_promotion
from tasks.core.evaluation.metrics import check_metric, needs_probabilities, score
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.columns import text_column
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import predict
from tasks.core.results import Evaluated, Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.models import load_model, own_types

_USUAL = {
    "binary": ("accuracy", "balanced_accuracy", "f1", "precision", "recall", "matthews_corrcoef"),
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "matthews_corrcoef"),
    "probabilities": ("roc_auc", "average_precision", "neg_log_loss", "neg_brier_score"),
    "regression": (
        "r2",
        "neg_root_mean_squared_error",
        "neg_mean_absolute_error",
        "neg_median_absolute_error",
    ),
}
_BINS = 4


@task(retries=0, timeout_seconds=3600, cache_policy=NO_CACHE)
def evaluate_pair(
    spec: ModelSpec,
    trained: Trained,
    champion: ChampionRef | None,
    *,
    settings: Settings | None = None,
) -> Evaluated:
    """Return the gate's decision on the challenger, scored beside the champion on the same unseen rows.

    Holdout rows older than `champion.train_end` are left out of the comparison, because the champion may have
    learnt from them. Nothing is promoted here.

    Args:
        spec: The model.
        trained: The challenger and its holdout.
        champion: The version that serves; None only when the registry said that there is none.
        settings: This place; default: from the environment.

    Raises:
        TrainingError: when the challenger has no score on its holdout, for example because the metric needs
            probabilities and the estimator gives none.
    """
    del settings  # evaluation keeps nothing in this place; the argument is common to all tasks
    started = time.perf_counter()
    holdout = pd.read_parquet(trained.holdout_path)
    challenger = load_model(trained.model_path, sha256=trained.model_sha256 or None, also=own_types(spec))
    whole = _answers(spec, challenger, holdout)
    _check_scorable(spec, whole)
    promise = score_interval(
        whole,
        spec.metric,
        confidence=spec.gate.confidence,
        seed=spec.estimator.seed,
        positive=spec.label.positive,
    )
    is_new = _unseen(spec, holdout, champion)
    rows = holdout[is_new].reset_index(drop=True)
    mine = _part(whole, is_new)
    theirs, trouble = _champion_answers(spec, champion, rows)
    decision = _decide(spec, trained, rows, mine, theirs, champion=champion, trouble=trouble)
    result = Evaluated(
        decision=decision,
        metrics=_metrics(spec, mine),
        champion_metrics=_metrics(spec, theirs) if theirs is not None else {},
        baseline=_score(spec, guess(spec, trained, whole), spec.metric),
        holdout_rows=len(holdout),
        promise=promise.value,
        promise_low=promise.low,
        promise_high=promise.high,
        champion_version=champion.version if champion else None,
    )
    task_logger(__name__).info(
        "%s on %d rows in %.1f s: %s",
        spec.name,
        decision.rows,
        time.perf_counter() - started,
        decision.sentence(),
    )
    return result


def guess(spec: ModelSpec, trained: Trained, scored: Scored) -> Scored:
    """Return what a model without features would have said of these rows; the better of mean and median."""
    rows = len(scored.y_true)
    if spec.task == "regression":
        candidates = [Scored(scored.y_true, np.full(rows, value)) for _, value in trained.guess]
        return max(candidates, key=lambda one: np.nan_to_num(_score(spec, one, spec.metric), nan=-np.inf))
    classes = tuple(label for label, _ in trained.guess)
    shares = np.array([share for _, share in trained.guess])
    likeliest = np.full(rows, shares.argmax())
    labels = np.array(classes, dtype=scored.prediction.dtype)
    return Scored(scored.y_true, labels[likeliest], np.tile(shares, (rows, 1)), classes)


def _answers(spec: ModelSpec, model: Any, rows: pd.DataFrame) -> Scored:  # Any: a fitted pipeline
    said = predict(model, rows)
    return Scored(labels_of(rows, spec), said.prediction, said.probabilities, said.classes)


def _part(scored: Scored, chosen: NDArray[np.bool_]) -> Scored:
    probabilities = None if scored.probabilities is None else scored.probabilities[chosen]
    return Scored(scored.y_true[chosen], scored.prediction[chosen], probabilities, scored.classes)


def _unseen(spec: ModelSpec, holdout: pd.DataFrame, champion: ChampionRef | None) -> NDArray[np.bool_]:
    if champion is None:
        return np.ones(len(holdout), dtype=bool)
    return (holdout[spec.source.timestamp] >= utc(champion.train_end)).to_numpy(dtype=bool)


def _champion_answers(
    spec: ModelSpec, champion: ChampionRef | None, rows: pd.DataFrame
) -> tuple[Scored | None, str]:
    """Return the champion's answers, or why there are none; what cannot be scored is not beaten."""
    if champion is None:
        return None, ""
    try:
        return _answers(spec, load_model(champion.model_path, also=own_types(spec)), rows), ""
    except (KeyError, ValueError, TypeError) as err:
        return None, f"the champion cannot score these rows ({type(err).__name__}: other features, perhaps)"
    except RegistryError as err:
        return None, f"the champion cannot be loaded ({err.found})"


def _decide(
    spec: ModelSpec,
    trained: Trained,
    rows: pd.DataFrame,
    mine: Scored,
    theirs: Scored | None,
    *,
    champion: ChampionRef | None,
    trouble: str,
) -> GateDecision:
    if trouble:
        nan = float("nan")
        value = _score(spec, mine, spec.metric)
        return GateDecision("refuse", (trouble,), value, nan, nan, nan, nan, len(rows), metric=spec.metric)
    keys = rows[spec.source.key].to_numpy()
    first = rows[spec.source.timestamp].min()
    evidence = GateEvidence(
        metric=spec.metric,
        challenger=PairedScores(keys, mine),
        champion=None if theirs is None else PairedScores(keys, theirs),
        baseline=guess(spec, trained, mine),
        positive=spec.label.positive,
        first_row=None if pd.isna(first) else first.to_pydatetime(),
        champion_train_end=utc(champion.train_end) if champion else None,
        slices={name: _slice_values(spec, rows, name) for name in spec.gate.slices},
        seed=spec.estimator.seed,
    )
    return decide_promotion(evidence, spec.gate)


def _slice_values(spec: ModelSpec, rows: pd.DataFrame, name: str) -> NDArray[Any]:
    """Return each row's group: its value, a quarter of the rows for numbers, a rank for what is personal."""
    column = rows[name]
    if name in spec.features.numeric and column.nunique() > _BINS:
        parts = pd.qcut(column.astype("float64"), _BINS, duplicates="drop")
        values = parts.astype(object).where(parts.notna(), "missing").astype(str).to_numpy(dtype=object)
    else:
        values = text_column(column, "")
        values[pd.isna(values)] = "missing"
    if name not in spec.features.sensitive:
        return values
    order = pd.Series(values, dtype=object).value_counts().index
    ranks = {value: f"#{rank}" for rank, value in enumerate(order, start=1)}
    return np.array([ranks[value] for value in values], dtype=object)


def _check_scorable(spec: ModelSpec, scored: Scored) -> None:
    if needs_probabilities(spec.metric) and scored.probabilities is None:
        kind = spec.estimator.class_path.rpartition(".")[2]
        raise TrainingError(
            f"{kind} without class probabilities",
            f"probabilities, which metric {spec.metric} judges",
            "choose a metric of labels such as balanced_accuracy, or parameters that give probabilities",
            model=spec.name,
        )
    try:
        _score(spec, scored, spec.metric)
    except ValueError as err:
        raise TrainingError(str(err), f"labels that {spec.metric} can judge", model=spec.name) from err


def _metrics(spec: ModelSpec, scored: Scored) -> dict[str, float]:
    """Return the spec's metric, whatever it is, and the usual ones of the task that have a value here."""
    names = [*_USUAL["regression"]]
    if spec.task == "classification":
        names = [*_USUAL["binary" if len(scored.classes or ()) == 2 else "multiclass"]]
        names += _USUAL["probabilities"] if scored.probabilities is not None else ()
    found = {spec.metric: _score(spec, scored, spec.metric)}
    for name in names:
        try:
            value = _score(spec, scored, check_metric(name, spec.task))
        except ValueError:  # a binary measure where the rows hold a third class
            continue
        if np.isfinite(value):
            found.setdefault(name, value)
    return found


def _score(spec: ModelSpec, scored: Scored, metric: str) -> float:
    return score(
        scored.y_true, scored.prediction, scored.probabilities, scored.classes, metric, spec.label.positive
    )
