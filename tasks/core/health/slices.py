"""Realised performance group by group: a score that holds on average must not hide a group served worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pandas as pd

from tasks.core.evaluation.performance import judge
from tasks.core.health.chances import Chances, served_chances
from tasks.core.spec import ModelSpec
from tasks.core.window import Window

Outcome = Literal["ok", "warn", "drift", "undecided"]
MOST = 20  # groups of one column, largest first; our choice: beyond it a column is no grouping
EARLIER = 6  # windows whose mean is a group's usual score


class HasWindow(Protocol):
    """What was found of one window."""

    @property
    def window(self) -> Window:
        """Of which."""


_Found = TypeVar("_Found", bound=HasWindow)


@dataclass(frozen=True)
class SliceScore:
    """The realised score of one group of one window, and what it usually is; None: not known."""

    column: str
    value: str
    rows: int
    score: float
    low: float
    high: float
    usual: float | None
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class SlicesVerdict:
    """How groups do, and whether probabilities mean what they say; the worst group gives the outcome.

    Calibration is shown and decides nothing: a promise is of a score.
    """

    outcome: Outcome
    reason: str
    slices: tuple[SliceScore, ...] = ()
    calibration: Chances | None = None
    unknown: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        off = f"; {self.calibration.sentence()}" if self.calibration else ""
        return f"groups {self.outcome}: {self.reason}{off}"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the verdict as JSON values."""
        kept = ("column", "value", "rows", "score", "low", "high", "usual", "outcome")
        return {
            "reason": self.reason,
            "unknown": list(self.unknown),
            "slices": [{name: _finite(getattr(one, name)) for name in kept} for one in self.slices],
            "calibration": self.calibration and vars(self.calibration),
        }


Past = Mapping[tuple[str, str], Sequence[tuple[float, float]]]
"""By column and value, score and half-width of its interval in earlier windows."""


def judge_slices(
    rows: pd.DataFrame,
    groups: pd.DataFrame,
    classes: Sequence[Any] | None,
    spec: ModelSpec,
    *,
    promise: float,
    past: Past | None = None,
) -> SlicesVerdict:
    """Return how each large enough group of these labelled predictions does.

    A group is held against what it scored in the windows before, not against the promise: some groups are
    harder than others, and were when the version was promoted. The confidence is shared between the groups
    (Bonferroni), so that many harmless ones do not alarm by chance.

    Args:
        rows: One per labelled prediction of the champion; columns prediction, score, label.
        groups: The same rows in the same order; one column per slice, NaN or None where it is not known.
        classes: The champion's classes in the order of the scores.
        spec: The model's.
        promise: The champion's score when it was promoted.
        past: Of the windows before.
    """
    chances = served_chances(rows["label"].tolist(), rows["score"].tolist(), classes, spec)
    unknown = tuple(c for c in spec.gate.slices if c not in groups or not groups[c].notna().any())
    parts = _parts(groups[[c for c in spec.gate.slices if c not in unknown]], spec.performance.min_rows)
    sharing = 1 - (1 - spec.performance.confidence) / max(len(parts), 1)
    strict = spec.model_copy(
        update={"performance": spec.performance.model_copy(update={"confidence": sharing})}
    )
    found = tuple(
        _judge(column, value, rows.iloc[places], classes, strict, promise, (past or {}).get((column, value)))
        for column, value, places in parts
    )
    outcome, reason = _sum_up(found, spec, unknown)
    return SlicesVerdict(outcome, reason, found, chances, unknown)


def apart(found: Sequence[_Found]) -> list[_Found]:
    """Return those whose windows do not overlap, oldest first; the newest is chosen first.

    Windows that overlap have rows in common, and are no independent word on anything.
    """
    chosen: list[_Found] = []
    for one in sorted(found, key=lambda item: item.window.end, reverse=True):
        if not chosen or one.window.end <= chosen[-1].window.start:
            chosen.append(one)
    return chosen[::-1]


def past_of(summaries: Sequence[Mapping[str, Any]]) -> Past:  # Any: JSON
    """Return what earlier summaries say of each group, from those of its windows that could be told."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for summary in summaries:
        for one in summary.get("slices", ()):
            numbers = (one.get("score"), one.get("low"), one.get("high"))
            if all(isinstance(number, int | float) for number in numbers) and one.get("outcome") != "drift":
                key = (str(one["column"]), str(one["value"]))
                found.setdefault(key, []).append((numbers[0], (numbers[2] - numbers[1]) / 2))
    return {key: values[-EARLIER:] for key, values in found.items()}


def _judge(
    column: str,
    value: str,
    rows: pd.DataFrame,
    classes: Sequence[Any] | None,
    spec: ModelSpec,
    promise: float,
    past: Sequence[tuple[float, float]] | None,
) -> SliceScore:
    usual, low = _usual(past or ())
    y, said, scores = (rows[name].tolist() for name in ("label", "prediction", "score"))
    expected = promise if usual is None else usual
    found = judge(y, said, scores, classes, spec, expected, promise_low=low)
    outcome: Outcome = found.outcome
    reason = found.reason
    if usual is None and outcome != "undecided":
        outcome, reason = "undecided", "no earlier window to hold it against"
    return SliceScore(column, value, len(rows), found.value, found.low, found.high, usual, outcome, reason)


def _usual(past: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """Return the mean of the windows before and the lower end of its interval."""
    if not past:
        return None, None
    scores, reaches = np.array(past).T
    mean = float(scores.mean())
    return mean, mean - float(np.sqrt((reaches**2).sum())) / len(past)


def _parts(groups: pd.DataFrame, least: int) -> list[tuple[str, str, list[int]]]:
    found = []
    for column in groups:
        texts = groups[column].map(lambda value: None if pd.isna(value) else str(value))
        sizes = texts.value_counts()
        for value in sizes.index[sizes >= least][:MOST]:
            found.append((str(column), str(value), np.flatnonzero(texts == value).tolist()))
    return found


def _sum_up(found: Sequence[SliceScore], spec: ModelSpec, unknown: Sequence[str]) -> tuple[Outcome, str]:
    lacking = f"; values of {', '.join(unknown)} are not logged" if unknown else ""
    if not spec.gate.slices:
        return "undecided", "the spec names no slices"
    bad = [one for one in found if one.outcome in {"drift", "warn"} and one.usual is not None]
    worst: Outcome = "drift" if any(one.outcome == "drift" for one in bad) else "warn"
    if bad:
        loud = sorted(
            (one for one in bad if one.outcome == worst), key=lambda one: one.score - (one.usual or 0.0)
        )
        named = (f"{one.column} = {one.value} {one.score:.4f}, usually {one.usual:.4f}" for one in loud[:3])
        more = f" (+{len(loud) - 3} more)" if len(loud) > 3 else ""
        return worst, "; ".join(named) + more + lacking
    judged = [one for one in found if one.outcome == "ok"]
    if not judged:
        shown = f"{len(found)} groups measured" if found else "no group is large enough"
        return "undecided", f"{shown}, none with earlier windows to hold it against{lacking}"
    return "ok", f"{len(judged)} groups score as they usually do{lacking}"


def _finite(value: Any) -> Any:  # Any: JSON
    return None if isinstance(value, float) and not math.isfinite(value) else value
