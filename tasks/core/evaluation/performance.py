"""Whether realised performance keeps the champion's promise, told from labels with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.intervals import realised_interval
from tasks.core.evaluation.metrics import needs_probabilities
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.unknown import unknown_counts, unknown_words
from tasks.core.policy.alerting import Look
from tasks.core.spec import ModelSpec

if TYPE_CHECKING:
    from tasks.core.policy.label_shift import LabelShift

Values = Sequence[Any] | NDArray[Any]  # Any: labels may be of any type
MIN_PER_CLASS = 5
"""Fewest rows of the second commonest class; our choice: below it a score is the whim of a row or two."""


@dataclass(frozen=True)
class PerformanceVerdict:
    """What realised performance says; scores as a scikit-learn scorer gives them, so lower is always worse.

    `outcome`: `drift` when the value lies below `limit` beyond chance, `warn` when it only lies below, `ok`
    when it does not, `undecided` when it cannot be told (then `reason` says why and numbers may be NaN).
    `labels` is how far the label mix moved, where that was looked at; it changes no outcome. `unknown` says
    which labels are of classes the champion never saw; empty where there are none.
    """

    outcome: Literal["ok", "warn", "drift", "undecided"]
    reason: str
    value: float
    low: float
    high: float
    promise: float
    limit: float
    rows: int
    metric: str = ""
    confidence: float = float("nan")
    direction: str = "lower is worse"
    labels: LabelShift | None = None
    unknown: str = ""

    def looks(self) -> tuple[Look, ...]:
        """Return what this says of the incident `unknown classes`; nothing where no label is known."""
        return (Look("unknown classes", "warning", bool(self.unknown), self.unknown),) if self.rows else ()

    def summary(self) -> dict[str, object]:
        """Return the verdict as JSON values: None where a number is not known."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def judge(
    y: Values,
    prediction: Values,
    scores: Values | None,
    classes: Sequence[Any] | None,  # Any: labels may be of any type
    spec: ModelSpec,
    promise: float,
    *,
    promise_low: float | None = None,
) -> PerformanceVerdict:
    """Return whether these predictions, now that their labels are known, keep the promise.

    Decay needs the whole interval of the difference, at `performance.confidence`, to lie beyond
    `performance.band` of the promise's size. Both sides are estimates, so their half-widths add in quadrature
    (square-and-add, Newcombe 1998, Statistics in Medicine 17: 873-890): a promise that is kept alarms in at
    most about (1 - confidence) / 2 of the windows, usually in far fewer, also when its holdout was small and
    lucky.

    Rows whose label is not known yet are left out; zero rows, one class or a NaN prediction are `undecided`.
    Up to `contract.max_bad_share` labels of classes the champion never saw are left out too.

    Args:
        y: Known labels or numbers, one per prediction; missing ones are not known yet.
        prediction: What was predicted, in the same order.
        scores: For each prediction its probability per class, None where none was kept; None for no scores.
        classes: The champion's classes in the order of the scores; None for regression.
        spec: The model's spec.
        promise: Score of the champion when it was promoted, errors negative.
        promise_low: Lower end of its interval; without it the promise is taken as exact.

    Raises:
        ValueError: when the columns differ in length.
    """
    if len(y) != len(prediction) or (scores is not None and len(scores) != len(y)):
        raise ValueError("labels, predictions and scores must have one entry per row")
    doubt = promise - promise_low if promise_low is not None and math.isfinite(promise_low) else 0.0
    band = lower_limit(promise, spec.performance.band)
    limit = band - max(doubt, 0.0)
    known = ~np.asarray(pd.isna(_objects(y)))
    given = None if scores is None else _objects(scores)[known]
    raw = Scored(_objects(y)[known], _objects(prediction)[known], given, tuple(classes or ()) or None)
    rows, problem = _readable(raw, spec) if known.any() else (None, _silence(len(known)))
    found = Interval(math.nan, math.nan, math.nan)
    if not math.isfinite(promise):
        problem = "the champion's promise is not a number"
    if not problem and rows is not None:
        found, problem = _measure(rows, spec)
    count = len(rows.y_true) if rows is not None else int(known.sum())
    outcome, reason = ("undecided", problem) if problem else _conclude(found, band, limit, spec)
    return PerformanceVerdict(
        outcome=outcome,  # type: ignore[arg-type]  # one of the four, by construction
        reason=reason,
        value=found.value,
        low=found.low,
        high=found.high,
        promise=promise,
        limit=limit,
        rows=count,
        metric=spec.metric,
        confidence=spec.performance.confidence,
        unknown=_unknown(raw),
    )


def lower_limit(promise: float, band: float) -> float:
    """Return the worst score that keeps the promise: `band` of the promise's size below it.

    Example:
        >>> lower_limit(0.8, 0.02), lower_limit(-2.0, 0.1)
        (0.784, -2.2)
    """
    return promise - band * abs(promise)


def _conclude(found: Interval, band: float, limit: float, spec: ModelSpec) -> tuple[str, str]:
    shown = (
        f"{spec.metric} {found.value:.4f} [{found.low:.4f}, {found.high:.4f}] "
        f"at {spec.performance.confidence:.0%}, limit {limit:.4f}"
    )
    if found.value + math.hypot(found.high - found.value, band - limit) < band:
        return "drift", f"{shown}: below the limit, beyond chance"
    if found.value < limit:
        return "warn", f"{shown}: below the limit, which chance does not rule out"
    return "ok", f"{shown}: within the band"


def _silence(predictions: int) -> str:
    return "no labels yet" if predictions else "no predictions in this window"


def _readable(raw: Scored, spec: ModelSpec) -> tuple[Scored | None, str]:
    """Return the rows as a metric wants them, or the reason why there is nothing to judge."""
    count, missing = len(raw.y_true), int(pd.isna(raw.prediction).sum())
    if missing:
        return None, f"{missing} of {count} predictions are missing"
    if spec.task == "regression":
        numbers = Scored(_numbers(raw.y_true), _numbers(raw.prediction))
        strange = ~(np.isfinite(numbers.y_true) & np.isfinite(numbers.prediction))
        return (numbers, "") if not strange.any() else (None, f"{strange.sum()} of {count} rows not finite")
    names = raw.classes or ()
    labels, said = _in_terms_of(names, raw.y_true), _in_terms_of(names, raw.prediction)
    table = None
    if needs_probabilities(spec.metric):
        if raw.probabilities is None or not names:
            return None, f"{spec.metric} needs class probabilities and none were kept"
        table = _table(raw.probabilities, len(names))
        gaps = int((~np.isfinite(table).all(axis=1)).sum())
        if gaps:
            return None, f"{gaps} of {count} predictions lack finite probabilities"
    return _of_known_classes(Scored(labels, said, table, raw.classes), spec)


def _unknown(raw: Scored) -> str:
    """Return which labels are of classes the champion never saw; empty where there are none."""
    if not raw.classes or not len(raw.y_true):
        return ""
    counts = unknown_counts(_in_terms_of(raw.classes, raw.y_true), raw.classes)
    return unknown_words(counts, len(raw.y_true), of="no row the champion learnt from") if counts else ""


def _of_known_classes(rows: Scored, spec: ModelSpec) -> tuple[Scored | None, str]:
    """Return the rows without the few labels that the champion never saw, or why there are too many."""
    if not rows.classes:
        return rows, ""
    strange = ~np.isin(_text(rows.y_true), _text(np.array(rows.classes, dtype=object)))
    if strange.mean() > spec.contract.max_bad_share:
        return None, f"{strange.sum()} of {len(strange)} labels are of classes the champion does not know"
    table = None if rows.probabilities is None else rows.probabilities[~strange]
    return Scored(rows.y_true[~strange], rows.prediction[~strange], table, rows.classes), ""


def _measure(rows: Scored, spec: ModelSpec) -> tuple[Interval, str]:
    """Return the interval, and the reason when it rests on too little to conclude from."""
    count, needed = len(rows.y_true), spec.performance.min_rows
    unknown = Interval(math.nan, math.nan, math.nan)
    if spec.task == "classification":
        sizes = pd.Series(rows.y_true).value_counts()
        if len(sizes) < 2:
            return unknown, f"all {count} labels are of one class"
        if sizes.iloc[1] < MIN_PER_CLASS:
            return unknown, f"only {sizes.iloc[1]} labels are not of one class, {MIN_PER_CLASS} are needed"
    try:
        found = realised_interval(
            rows,
            spec.metric,
            confidence=spec.performance.confidence,
            seed=spec.estimator.seed,
            positive=_positive(rows, spec),
        )
    except ValueError as err:  # the metric has no meaning for these classes
        return unknown, str(err)
    if count < needed:
        return found, f"{count} labelled predictions, {needed} are needed"
    return found, "" if found.is_known else f"{spec.metric} has no value on these rows"


def _positive(rows: Scored, spec: ModelSpec) -> Any:  # Any: labels may be of any type
    named = spec.label.positive
    return None if named is None else _in_terms_of(rows.classes or (), _objects([named]))[0]


def _objects(values: Values) -> NDArray[Any]:
    """Return the values as a flat array of objects, whatever holds them; lists inside stay whole."""
    return np.fromiter(values, dtype=object, count=len(values))


def _text(values: NDArray[Any]) -> NDArray[np.str_]:
    return np.array([str(value) for value in values.tolist()], dtype=np.str_)


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=np.float64)


def _in_terms_of(classes: tuple[Any, ...], values: NDArray[Any]) -> NDArray[Any]:
    """Return the values as the champion writes them: a store may give back "1" or 1.0 for the class 1."""
    known = {**{str(name): name for name in classes}, **{name: name for name in classes}}
    codes, uniques = pd.factorize(values, use_na_sentinel=False)
    return _objects([known.get(value, known.get(str(value), value)) for value in uniques])[codes]


def _table(scores: NDArray[Any], width: int) -> NDArray[np.float64]:
    """Return scores as rows by classes, NaN in every row that has not one number per class."""
    nothing = [math.nan] * width
    rows = [row if _is_row(row, width) else nothing for row in scores.tolist()]
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def _is_row(row: object, width: int) -> bool:
    return isinstance(row, list | tuple | np.ndarray) and len(row) == width
