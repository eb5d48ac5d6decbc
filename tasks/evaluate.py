"""Judge a challenger beside the champion on rows that neither has learnt from."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import RegistryError, RegistryUnavailable, TrainingError, WorkflowError
from tasks.core.evaluation.clusters import clustered_interval
from tasks.core.evaluation.comparison import row_clusters
from tasks.core.evaluation.evidence import AnchorEvidence, GateEvidence, PairedScores, Worth
from tasks.core.evaluation.gate import decide_promotion
from tasks.core.evaluation.metrics import check_metric, needs_probabilities
from tasks.core.evaluation.scoring import Scored
from tasks.core.model.anchoring import infinite_in
from tasks.core.model.answers import answers_to, only
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.columns import number_column
from tasks.core.model.guess import guessed, score_of, weighted_score
from tasks.core.model.leak import alone_in
from tasks.core.results import AnchorRef, Evaluated, Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.evaluating.anchored import anchor_evidence
from tasks.evaluating.groups import groups_of
from tasks.evaluating.seen import Unseen, unseen
from tasks.evaluating.worth import worth_of
from tasks.log import task_logger
from tasks.run_state import again_if_passing
from tasks.settings import Settings
from tasks.store.models import own_types, shared_model

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


@task(
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=again_if_passing,
    timeout_seconds=3600,
    cache_policy=NO_CACHE,
)
def evaluate_pair(
    spec: ModelSpec,
    trained: Trained,
    champion: ChampionRef | None,
    *,
    anchor: AnchorRef | None = None,
    champion_snapshot: Mapping[str, Any] | None = None,  # Any: a JSON record
    notes: Sequence[str] = (),
    settings: Settings | None = None,
) -> Evaluated:
    """Return the gate's decision on the challenger, scored beside the champion on the same unseen rows.

    Holdout rows older than `champion.train_end` are left out of the comparison, because the champion may have
    learnt from them, and so are rows whose key stands among those it was trained on. Nothing is promoted
    here; a champion that cannot be scored, for whatever reason, is not beaten. Holdout rows with infinite
    features are left out of everything, and refuse.

    Args:
        spec: The model.
        trained: The challenger and its holdout.
        champion: The version that serves; None only when the registry said that there is none.
        anchor: The frozen trusted rows; None only when the model has none.
        champion_snapshot: `snapshot` of the champion's manifest, which says where its rows lie.
        notes: Facts to be told beside the gate's reasons, such as a changed model block.
        settings: This place; default: from the environment.

    Raises:
        TrainingError: when the challenger has no score on its holdout, for example because the metric needs
            probabilities and the estimator gives none.
        RegistryError: when the challenger's file is not the one that was trained.
        RegistryUnavailable: when what keeps the champion's rows or the anchor does not answer.
    """
    place, started = settings or Settings(), time.perf_counter()
    holdout = pd.read_parquet(trained.holdout_path)
    challenger = shared_model(trained.model_path, sha256=trained.model_sha256 or None, also=own_types(spec))
    holdout, whole, unjudged = _judgeable(spec, challenger, holdout)
    _check_scorable(spec, whole)
    promise = clustered_interval(
        whole,
        spec.metric,
        row_clusters(holdout, spec),
        confidence=spec.performance.confidence,
        seed=spec.estimator.seed,
        positive=spec.label.positive,
    )
    new = unseen(spec, holdout, champion, champion_snapshot, place)
    rows, mine = holdout[new.chosen].reset_index(drop=True), only(whole, new.chosen)
    theirs, trouble = _champion_answers(spec, champion, rows)
    on_anchor = anchor_evidence(
        spec, trained, challenger, anchor, champion=champion, snapshot=champion_snapshot, settings=place
    )
    baseline = score_of(spec, guessed(spec, trained.guess, whole))
    leak = _leak(spec, challenger, holdout, whole, baseline)
    evidence = _evidence(
        spec,
        trained,
        rows,
        mine,
        theirs,
        champion=champion,
        trouble=(unjudged, trouble),
        anchor=on_anchor,
        new=new,
        notes=(*notes, trained.set_aside, leak),
    )
    decision = decide_promotion(evidence, spec.gate)
    result = Evaluated(
        decision=decision,
        metrics=_metrics(spec, mine),
        champion_metrics=_metrics(spec, theirs) if theirs is not None else {},
        baseline=baseline,
        leak=leak,
        holdout_rows=len(holdout),
        promise=promise.value,
        promise_low=promise.low,
        promise_high=promise.high,
        champion_version=champion.version if champion else None,
        anchor_score=_anchor_score(spec, on_anchor),
        anchor_sha256=anchor.sha256 if anchor else "",
    )
    task_logger(__name__).info(
        "%s on %d rows in %.1f s: %s",
        spec.name,
        decision.rows,
        time.perf_counter() - started,
        decision.sentence(),
    )
    return result


def _leak(
    spec: ModelSpec,
    challenger: Any,  # Any: a fitted pipeline
    holdout: pd.DataFrame,
    whole: Scored,
    baseline: float,
) -> str:
    """Return what is told of a feature that alone gives nearly the whole score; it decides nothing."""
    try:
        found = alone_in(spec, challenger, holdout, whole, baseline)
    except Exception as err:  # of whatever kind: only this remark is missing
        task_logger(__name__).info("%s: no feature was tried alone (%s)", spec.name, type(err).__name__)
        return ""
    return found.sentence() if found else ""


def _judgeable(
    spec: ModelSpec,
    challenger: Any,  # Any: a fitted pipeline
    holdout: pd.DataFrame,
) -> tuple[pd.DataFrame, Scored, str]:
    """Return the rows that can be judged by, the challenger's answers to them, and why not to all."""
    trouble = ""
    if infinite := infinite_in(spec, holdout):
        unfit = np.any([*infinite.values()], axis=0)
        names = ", ".join(infinite)[:100]
        trouble = (
            f"{int(unfit.sum())} holdout rows hold infinite values in {names}: let the contract refuse such "
            "rows, or repair the source"
        )
        holdout = holdout[~unfit].reset_index(drop=True)
    try:
        return holdout, answers_to(spec, challenger, holdout), trouble
    except WorkflowError:
        raise
    except Exception as err:  # of whatever kind: what cannot answer is not promoted
        none = holdout.iloc[:0]
        why = f"the challenger cannot score its holdout ({type(err).__name__})"
        return none, answers_to(spec, challenger, none), "; ".join(filter(None, (trouble, why)))


def _champion_answers(
    spec: ModelSpec, champion: ChampionRef | None, rows: pd.DataFrame
) -> tuple[Scored | None, str]:
    """Return the champion's answers, or why there are none; what cannot be scored is not beaten."""
    if champion is None:
        return None, ""
    lost: list[str] = []
    try:
        model = shared_model(champion.model_path, also=own_types(spec))
        lost = [name for name in getattr(model, "feature_names_in_", ()) if name not in rows]
        return answers_to(spec, model, rows), ""
    except RegistryUnavailable:
        raise
    except RegistryError as err:
        return None, f"the champion cannot be loaded ({err.found})"
    except Exception as err:  # a model may fail in any way on rows it was not made for
        if lost:
            return None, (
                f"version {champion.version}, the champion, looks at {', '.join(map(repr, lost))[:100]}, "
                "which the source no longer has: bring the columns back, or put this version in its place by "
                f"flows/promote.py --model {spec.name} --version N --verdict approve"
            )
        return None, f"the champion cannot score these rows ({type(err).__name__}: other features, perhaps)"


def _evidence(
    spec: ModelSpec,
    trained: Trained,
    rows: pd.DataFrame,
    mine: Scored,
    theirs: Scored | None,
    *,
    champion: ChampionRef | None,
    trouble: tuple[str, ...],
    anchor: AnchorEvidence | None,
    new: Unseen,
    notes: Sequence[str],
) -> GateEvidence:
    keys, first = rows[spec.source.key].to_numpy(), rows[spec.source.timestamp].min()
    weights, weightless = _weights(spec, rows)
    worth, worthless = _worth(spec, rows, mine, theirs)
    is_short, related = len(rows) < spec.gate.min_rows, ""
    if is_short and new.kin:
        related = f"{new.kin} more rows are of entities (source.group) that only the champion was trained on"
    return GateEvidence(
        metric=spec.metric,
        challenger=PairedScores(keys, mine, _bytes_of(trained.model_path)),
        champion=None if theirs is None or champion is None else _paired(keys, theirs, champion),
        baseline=guessed(spec, trained.guess, mine),
        positive=spec.label.positive,
        first_row=None if pd.isna(first) else first.to_pydatetime(),
        champion_train_end=utc(champion.train_end) if champion else None,
        slices={name: groups_of(spec, rows, name) for name in spec.gate.slices},
        seed=spec.estimator.seed,
        weights=weights,
        linear=_linear_answers(spec, trained, rows),
        anchor=anchor,
        train_labels=np.array(trained.label_quantiles) if spec.task == "regression" else dict(trained.guess),
        groups={name: groups_of(spec, rows, name) for name in spec.gate.fairness.columns},
        worth=worth,
        # Rows with known keys are left out; where too few remain, the gate is told what they were.
        overlap=new.known if is_short else 0,
        trouble="; ".join(filter(None, (*trouble, weightless, worthless, related))),
        clusters=row_clusters(rows, spec),
        notes=tuple(filter(None, notes)),
    )


def _paired(keys: NDArray[Any], scored: Scored, champion: ChampionRef) -> PairedScores:  # Any: any keys
    return PairedScores(keys, scored, _bytes_of(champion.model_path))


def _bytes_of(path: str) -> str:
    """Return what tells a model from another: two files of the same bytes are one version."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _linear_answers(spec: ModelSpec, trained: Trained, rows: pd.DataFrame) -> Scored | None:
    """Return what the linear model of the same training rows says; only compared with, it decides nothing."""
    if trained.linear_path is None:
        return None
    try:
        model = shared_model(trained.linear_path, sha256=trained.linear_sha256, also=own_types(spec))
        return answers_to(spec, model, rows)
    except Exception as err:  # of whatever kind: only this comparison is missing
        task_logger(__name__).info("%s: the linear model gave no answers (%s)", spec.name, type(err).__name__)
        return None


def _worth(
    spec: ModelSpec, rows: pd.DataFrame, mine: Scored, theirs: Scored | None
) -> tuple[Worth | None, str]:
    try:
        return worth_of(spec, rows, mine, theirs), ""
    except WorkflowError as err:
        return None, f"what the answers are worth cannot be told ({err.found})"


def _weights(spec: ModelSpec, rows: pd.DataFrame) -> tuple[NDArray[np.float64] | None, str]:
    weight = spec.gate.weight
    if weight is None:
        return None, ""
    try:
        return number_column(rows[weight]), ""
    except (TypeError, ValueError):  # its text may quote a row
        return None, f"gate.weight {weight!r} holds what is no number"


def _anchor_score(spec: ModelSpec, anchor: AnchorEvidence | None) -> float | None:
    if anchor is None or anchor.challenger is None:
        return None
    value = weighted_score(spec, anchor.challenger, anchor.weights)
    return value if math.isfinite(value) else None


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
        score_of(spec, scored)
    except ValueError as err:
        raise TrainingError(str(err), f"labels that {spec.metric} can judge", model=spec.name) from err


def _metrics(spec: ModelSpec, scored: Scored) -> dict[str, float]:
    """Return the spec's metric and the usual ones of the task, each where it has a value here.

    A champion may lack the spec's metric where that is new: it gives no probabilities, perhaps.
    """
    names = [*_USUAL["regression"]]
    if spec.task == "classification":
        names = [*_USUAL["binary" if len(scored.classes or ()) == 2 else "multiclass"]]
        names += _USUAL["probabilities"] if scored.probabilities is not None else ()
    found: dict[str, float] = {}
    for name in (spec.metric, *names):
        try:
            value = score_of(spec, scored, check_metric(name, spec.task))
        except ValueError:  # a binary measure where the rows hold a third class
            continue
        if np.isfinite(value) or name == spec.metric:
            found.setdefault(name, value)
    return found
