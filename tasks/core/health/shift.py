"""Whether what a model says of the rows it is given has moved, told without any label.

What counts is what was really served and logged. It is held against the scores of rows that the model was not
fitted on, as its reference keeps them, or against this version's own first windows where the reference keeps
none; by the same measures, limits and budget of false alarms as the drift of inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.drift.counting.bins import Bins, category_bins, count, numeric_bins
from tasks.core.drift.matters.label_mix import label_text
from tasks.core.drift.profile import SCORE, Profile, Reference
from tasks.core.drift.results import Outcome
from tasks.core.drift.shape import loudest, worst_first
from tasks.core.drift.verdict import judge
from tasks.core.spec import ModelSpec

CLASS = f"{SCORE}class"  # the predicted class, where there is no number to compare
_MOST_CLASSES = 20  # that are shown; our choice


@dataclass(frozen=True)
class ShiftVerdict:
    """How far a version's answers of one window lie from what they were.

    Attributes:
        outcome: ok, warn, drift; undecided with too few rows, or nothing to compare with.
        reason: The same in words.
        measure: Of the difference that is shown.
        value: Its size; None where undecided.
        threshold: From which it is drift.
        rows: Answers of the window.
        reference_rows: Answers they are held against.
        against: Which those are.
        mean: Of the scores; of two classes, that of the second one's probability.
        reference_classes: How the labels of training were spread, where that is known.
        classes: Share of each predicted class, the commonest first; empty for numbers.
    """

    outcome: Outcome
    reason: str
    measure: str = ""
    value: float | None = None
    threshold: float | None = None
    rows: int = 0
    reference_rows: int = 0
    against: str = ""
    mean: float | None = None
    reference_classes: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)

    @property
    def moved(self) -> bool | None:
        """Whether the answers moved; None where that cannot be told."""
        return None if self.outcome == "undecided" else self.outcome == "drift"

    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        return f"predictions {self.outcome}: {self.reason}"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the verdict as JSON values."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__ if name != "outcome"},
            "classes": dict(self.classes),
            "reference_classes": dict(self.reference_classes),
        }


def scores_of_training(reference: Reference) -> Reference | None:
    """Return the part of a champion's reference that is about its scores; None where it keeps none.

    How much windows differ anyway is kept. The level is the whole budget: there are no other tests to share
    it with.
    """
    bins = tuple(cell for cell in reference.bins if cell.name.startswith(SCORE))
    if not bins or not all(cell.name in reference.profile.features for cell in bins):
        return None
    counts = {cell.name: reference.profile.features[cell.name] for cell in bins}
    rows = next(iter(counts.values())).rows
    learnt = reference.calibration
    level = None if learnt is None else replace(learnt, levels=(learnt.budget,) * len(learnt.levels))
    return _with_profile(Reference(reference.model, bins, _EMPTY, calibration=level), rows, counts)


def scores_of_windows(spec: ModelSpec, answers: pd.DataFrame) -> Reference | None:
    """Return a reference made of answers that were served (see `judge_shift`); None without any."""
    columns = _columns(answers, spec)
    if not columns:
        return None
    bins = tuple(_cells(name, column) for name, column in columns.items())
    counts = {cell.name: count(cell, columns[cell.name]) for cell in bins}
    rows = max(one.rows for one in counts.values())
    return _with_profile(Reference(spec.name, bins, _EMPTY), rows, counts)


def judge_shift(
    spec: ModelSpec,
    answers: pd.DataFrame,
    reference: Reference | None,
    *,
    against: str = "the scores of rows it was not fitted on",
    trained: Mapping[str, int] | None = None,
) -> ShiftVerdict:
    """Return whether the answers of a window differ from the reference, beyond chance and so that it matters.

    Args:
        spec: Of which `drift.false_alarms` and `drift.min_rows` are used.
        answers: One row per prediction of one version; columns prediction, and score (a list of class
            probabilities, or None).
        reference: From `scores_of_training` or `scores_of_windows`.
        against: What the reference is, in words.
        trained: Labels of training, by text, to be shown beside the predicted classes.
    """
    columns = _columns(answers, spec)
    shown = _shown(spec, answers, columns, trained or {})
    if not len(answers) or reference is None or not columns:
        why = "no predictions in this window" if not len(answers) else "nothing to compare with"
        return replace(shown, reason=why)
    if columns.keys() != {cell.name for cell in reference.bins}:
        return replace(shown, reason=f"{len(columns)} scores per row, {len(reference.bins)} in the reference")
    counts = {cell.name: count(cell, columns[cell.name]) for cell in reference.bins}
    rows = max(one.rows for one in counts.values())
    found = judge(reference, Profile(reference.id, rows, counts), spec)
    worst = worst_first(found)[0] if found.features else None
    result = worst and (loudest(worst) or next(iter(worst.measures), None))
    return replace(
        shown,
        outcome=found.outcome,
        reason=f"{worst.reason}, against {against}" if worst else found.reason,
        measure=result.measure if result else "",
        value=result.value if result else None,
        threshold=result.threshold if result else None,
        reference_rows=found.reference_rows,
        against=against,
    )


_EMPTY = Profile("", 0, {})


def _with_profile(reference: Reference, rows: int, counts: Mapping[str, Any]) -> Reference:
    return replace(reference, profile=Profile(reference.id, rows, dict(counts)))


def _cells(name: str, column: pd.Series) -> Bins:
    return category_bins(name, column) if name == CLASS else numeric_bins(name, column)


def _columns(answers: pd.DataFrame, spec: ModelSpec) -> dict[str, pd.Series]:
    """Return the numbers that are compared, named as a reference names them."""
    if not len(answers):
        return {}
    scores = [row for row in answers["score"].tolist() if isinstance(row, list | tuple)]
    widths = Counter(len(row) for row in scores)
    if scores:
        width = widths.most_common(1)[0][0]
        table = np.array([row for row in scores if len(row) == width], dtype=np.float64)
        if width == 2:
            return {SCORE: pd.Series(table[:, 1])}
        return {f"{SCORE}{place}": pd.Series(table[:, place]) for place in range(width)}
    numbers = pd.to_numeric(pd.Series(answers["prediction"].tolist(), dtype=object), errors="coerce")
    if spec.task == "regression" or numbers.notna().all():
        return {SCORE: numbers.astype(np.float64)}
    return {CLASS: pd.Series([_text(value) for value in answers["prediction"].tolist()], dtype=object)}


def _shown(
    spec: ModelSpec, answers: pd.DataFrame, columns: Mapping[str, pd.Series], trained: Mapping[str, int]
) -> ShiftVerdict:
    mean = float(columns[SCORE].mean()) if SCORE in columns else None
    empty = ShiftVerdict("undecided", "", rows=len(answers), mean=mean)
    if spec.task == "regression":
        return empty
    said: Sequence[str | None] = [_text(value) for value in answers.get("prediction", ())]
    return replace(
        empty,
        classes=_shares(Counter(text for text in said if text is not None)),
        reference_classes=_shares(Counter(dict(trained))),
    )


def _text(value: Any) -> str | None:  # Any: whatever the model predicts
    return None if value is None or value != value else label_text(value)  # noqa: PLR0124 -- NaN


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {name: rows / total for name, rows in counts.most_common(_MOST_CLASSES)} if total else {}
