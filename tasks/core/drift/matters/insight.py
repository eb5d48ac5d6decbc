"""What a champion's holdout tells about drift to come: which features matter, and what a score is worth.

Made once, at training time, from rows the model was not fitted on and their labels; kept with the reference
as plain numbers, never as code. It holds no rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.sample import Sample, pick
from tasks.core.drift.matters.error_tree import ErrorTree, fit_tree
from tasks.core.drift.matters.expectation import expect
from tasks.core.drift.matters.label_mix import LabelMix, label_mix
from tasks.core.drift.matters.score_maps import ScoreMaps, fit_maps
from tasks.core.evaluation.metrics import score
from tasks.core.evaluation.scoring import encode

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.model.pipeline import Predictions
    from tasks.core.spec import ModelSpec

MOST_ROWS = 20_000  # of the holdout that the estimator is fitted on; maps of more are no smoother
MIN_ROWS = 200  # our choice: below it, what a score is worth is anybody's guess
MIN_PER_CLASS = 20
_MOST_FEATURES = 20_000
Labels = NDArray[Any]  # Any: labels may be of any type


@dataclass(frozen=True, eq=False)
class Insight:
    """What the holdout tells.

    Attributes:
        metric: The scikit-learn scorer that importance, promise and estimator are about.
        promised: The metric on the holdout, larger is better; None where it cannot be told.
        rows: Of the holdout, with a known label.
        importance: By feature, what the metric loses when it is shuffled; features that were not tried have
            no entry.
        estimator: What a score, or a prediction with its cells, is worth; None where `problem` says why.
        problem: Why performance cannot be estimated with this; empty where it can.
        labels: How the labels were spread.
    """

    metric: str
    promised: float | None
    rows: int
    importance: dict[str, float]
    estimator: ScoreMaps | ErrorTree | None
    problem: str
    labels: LabelMix

    def to_plain(self) -> dict[str, Any]:  # Any: JSON values
        """Return the insight as JSON values."""
        return {
            "metric": self.metric,
            "promised": self.promised,
            "rows": self.rows,
            "importance": self.importance,
            "estimator": None if self.estimator is None else self.estimator.to_plain(),
            "problem": self.problem,
            "labels": self.labels.to_plain(),
        }


def from_plain(raw: dict[str, Any]) -> Insight:  # Any: JSON values
    """Return the insight that `to_plain` wrote.

    Raises:
        ValueError: when it is something else, or larger than any of ours.
    """
    try:
        found = Insight(
            metric=str(raw["metric"]),
            promised=None if raw["promised"] is None else float(raw["promised"]),
            rows=int(raw["rows"]),
            importance={str(name): float(value) for name, value in raw["importance"].items()},
            estimator=_estimator(raw["estimator"]),
            problem=str(raw["problem"])[:500],
            labels=LabelMix.from_plain(raw["labels"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as err:
        raise ValueError(f"no insight ({type(err).__name__})") from err
    numbers = [*found.importance.values(), *([] if found.promised is None else [found.promised])]
    if not all(math.isfinite(value) for value in numbers) or len(found.importance) > _MOST_FEATURES:
        raise ValueError("importance or promise that cannot be")
    if found.estimator is not None and found.promised is None:
        raise ValueError("an estimator without a promise to compare with")
    return found


def build_insight(
    model: Any,  # Any: a fitted pipeline
    holdout: pd.DataFrame,
    spec: ModelSpec,
    *,
    seed: int,
    sample: Sample | None = None,
    trained_on: Iterable[Any] | None = None,
) -> Insight:
    """Return what the holdout tells about this model.

    Args:
        model: The champion to be; takes the frame and answers.
        holdout: Rows it was not fitted on, with all features and the label.
        spec: The model's spec.
        seed: Of everything random.
        sample: The same rows as cell numbers of the reference (`sample_codes`): lets a regression's errors
            depend on the inputs too, not on the prediction alone.
        trained_on: Labels of the training rows, to tell later how labels have moved; default: the holdout's.

    Raises:
        TrainingError: when a label is missing or not a finite number.
    """
    from tasks.core.drift.matters.importance import importances
    from tasks.core.model.labels import labels_of
    from tasks.core.model.pipeline import predict

    truth, said = labels_of(holdout, spec), predict(model, holdout)
    promised = _score(said, truth, spec)
    estimator, problem = _fitted(said, truth, spec, sample, seed) if promised is not None else (None, "")
    return Insight(
        metric=spec.metric,
        promised=promised,
        rows=len(truth),
        importance=importances(model, holdout, truth, spec, seed=seed, sample=sample),
        estimator=estimator,
        problem=problem if promised is not None else f"{spec.metric} has no value on the holdout",
        labels=label_mix(truth if trained_on is None else trained_on, numbers=spec.task == "regression"),
    )


def _score(said: Predictions, truth: Labels, spec: ModelSpec) -> float | None:
    try:
        found = score(
            truth, said.prediction, said.probabilities, said.classes, spec.metric, spec.label.positive
        )
    except ValueError:  # the metric has no meaning for these classes, or needs probabilities
        return None
    return found if math.isfinite(found) else None


def _fitted(
    said: Predictions, truth: Labels, spec: ModelSpec, sample: Sample | None, seed: int
) -> tuple[ScoreMaps | ErrorTree | None, str]:
    """Return the estimator, or why there is none."""
    if len(truth) < MIN_ROWS:
        return None, f"{len(truth)} rows in the holdout; {MIN_ROWS} are needed to know what a score is worth"
    chosen = pick(len(truth), MOST_ROWS, seed)
    if spec.task == "regression":
        return _of_numbers(said.prediction[chosen], truth[chosen], spec, _rows_of(sample, chosen), seed)
    if said.probabilities is None or said.classes is None:
        return None, "the model gives no probabilities"
    table, codes = said.probabilities[chosen], encode(truth[chosen], said.classes)
    known = (codes >= 0) & np.isfinite(table).all(axis=1)
    sizes = np.sort(np.bincount(codes[known], minlength=len(said.classes)))
    if sizes[-2:-1].sum() < MIN_PER_CLASS:
        return None, f"fewer than {MIN_PER_CLASS} rows of the holdout are not of one class"
    part = type(said)(said.prediction[chosen][known], table[known], said.classes)
    try:
        of = expect(part, table[known], spec.metric, positive=spec.label.positive)
    except ValueError as err:
        return None, str(err)
    maps = fit_maps(table[known], codes[known], of.expected, seed=seed)
    problem = _not_finite(maps.expected, spec)
    return (None, problem) if problem else (maps, "")


def _of_numbers(
    prediction: Labels, truth: Labels, spec: ModelSpec, sample: Sample | None, seed: int
) -> tuple[ErrorTree | None, str]:
    numbers = np.asarray(prediction, dtype=np.float64)
    try:
        tree = fit_tree(numbers, truth, spec.metric, sample=sample, seed=seed)
    except ValueError as err:
        return None, str(err)
    problem = _not_finite(tree.expected, spec)
    return (None, problem) if problem else (tree, "")


def _not_finite(expected: NDArray[np.float64], spec: ModelSpec) -> str:
    return (
        "" if np.isfinite(expected).all() else f"{spec.metric} has no value on some resamples of the holdout"
    )


def _rows_of(sample: Sample | None, chosen: NDArray[np.intp]) -> Sample | None:
    return None if sample is None else Sample(sample.names, sample.codes[chosen])


def _estimator(raw: dict[str, Any] | None) -> ScoreMaps | ErrorTree | None:
    if raw is None:
        return None
    kinds: dict[str, type[ScoreMaps] | type[ErrorTree]] = {"score_maps": ScoreMaps, "error_tree": ErrorTree}
    return kinds[raw["kind"]].from_plain(raw)
