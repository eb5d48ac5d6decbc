"""Gaps between groups that a challenger may not widen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from tasks.core.evaluation.scoring import Scored, all_labels, encode
from tasks.core.evaluation.verdicts import NAN, GuardResult, Verdict
from tasks.core.spec_gate import Gate

Floats = NDArray[np.float64]
_FEWEST = 10  # our choice: rows, or positives, or negatives, below which a group has no rate
_WORDS = {
    "selection_rate": "selection rate",
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "error": "error",
}


@dataclass(frozen=True)
class _Gap:
    """The distance of the two groups that lie furthest apart, and whether it is more than chance."""

    value: float
    words: str
    shown: bool


def judge_fairness(
    challenger: Scored,
    champion: Scored | None,
    groups: Mapping[str, NDArray[Any]],  # Any: groups may be of any type
    gate: Gate,
    *,
    positive: Any = None,
    numbers: bool = False,
    weights: NDArray[np.float64] | None = None,
) -> tuple[GuardResult, ...]:
    """Return one result per column: `worse` where the gap is too large and wider than the champion's.

    The gap is that between the two groups of at least `gate.min_rows` rows which lie furthest apart in
    `gate.fairness.measure`; of more than two classes without a positive one it is that of the errors, and of
    `numbers` that of the mean absolute errors, as a share of the largest. It is more than chance when the two
    groups differ at `gate.confidence`, shared between all pairs of groups (Bonferroni). `undecided` where
    fewer than two groups are large enough, and where a gap above the limit may be chance.
    """
    limit, found = gate.fairness.max_gap, []
    if not groups:
        return ()
    parts = [part for part in (challenger, champion) if part is not None]
    labels = () if numbers else all_labels(parts)
    for column, values in groups.items():
        ask = _Question(np.asarray(values), gate, positive, numbers, labels, weights)
        mine = _gap(challenger, ask)
        theirs = _gap(champion, ask) if champion is not None else None
        before = theirs.value if theirs is not None else NAN
        detail = f"{column}: {mine.words}, limit {limit:.4g}"
        if np.isfinite(before):
            detail += f"; the champion's gap is {before:.4g}"
        is_wider = mine.value > limit and not mine.value <= before
        outcome: Verdict = "worse" if is_wider and mine.shown else "undecided" if is_wider else "ok"
        outcome = outcome if np.isfinite(mine.value) else "undecided"
        found.append(GuardResult("fairness", outcome, mine.value, limit, detail))
    return tuple(found)


@dataclass(frozen=True)
class _Question:
    """What is compared, between which groups."""

    groups: NDArray[Any]
    gate: Gate
    positive: Any
    numbers: bool
    labels: tuple[Any, ...]
    weights: Floats | None


@dataclass(frozen=True)
class _Rate:
    """One group's mean of the measure, the squared error of that mean, and how many rows it rests on."""

    name: str
    value: float
    error: float
    rows: float


def _gap(scored: Scored, ask: _Question) -> _Gap:
    events, mask, name = _measured(scored, ask)
    rates = _rates(events, mask, ask)
    if len(rates) < 2:
        return _Gap(NAN, f"fewer than two groups large enough for the {name}", False)
    least, most = min(rates, key=lambda one: one.value), max(rates, key=lambda one: one.value)
    gap, tail = most.value - least.value, (1 - ask.gate.confidence) / (len(rates) * (len(rates) - 1))
    error = float(np.sqrt(least.error + most.error))
    if not ask.numbers:  # the two shares are equal if chance is all there is: one pooled variance
        share = (least.value * least.rows + most.value * most.rows) / (least.rows + most.rows)
        error = float(np.sqrt(share * (1 - share) * (1 / least.rows + 1 / most.rows)))
    shown = gap > float(ndtri(1 - tail)) * error
    relative = gap / most.value if ask.numbers and most.value > 0 else gap
    words = f"{name} {most.value:.4g} in {most.name}, {least.value:.4g} in {least.name}, gap {relative:.4g}"
    return _Gap(relative, words, bool(shown))


def _measured(scored: Scored, ask: _Question) -> tuple[Floats, NDArray[np.bool_], str]:
    """Return each row's event (or error), the rows that count, and the measure's name."""
    every = np.ones(len(scored.y_true), dtype=bool)
    if ask.numbers:
        error = np.abs(np.asarray(scored.prediction, np.float64) - np.asarray(scored.y_true, np.float64))
        return error, every, "mean absolute error"
    measure, labels = ask.gate.fairness.measure, ask.labels
    said, truth = encode(scored.prediction, labels), encode(scored.y_true, labels)
    named = ask.positive is not None and ask.positive in labels
    if measure == "error" or (len(labels) != 2 and not named):
        return (said != truth).astype(np.float64), every, _WORDS["error"]
    wanted = labels.index(ask.positive) if named else len(labels) - 1
    chosen, real = (said == wanted).astype(np.float64), truth == wanted
    rows = {"true_positive_rate": real, "false_positive_rate": ~real}.get(measure, every)
    return chosen, rows, _WORDS[measure]


def _rates(events: Floats, mask: NDArray[np.bool_], ask: _Question) -> list[_Rate]:
    codes, names = pd.factorize(ask.groups)
    found = []
    for code, name in enumerate(names):
        inside = codes == code
        rows = inside & mask
        if inside.sum() < ask.gate.min_rows or rows.sum() < _FEWEST:
            continue
        each = np.ones(int(rows.sum())) if ask.weights is None else ask.weights[rows]
        if not each.sum() > 0:
            continue
        mean = float(each @ events[rows] / each.sum())
        error = float((each**2 * (events[rows] - mean) ** 2).sum() / each.sum() ** 2)
        found.append(_Rate(str(name), mean, error, float(each.sum() ** 2 / (each**2).sum())))
    return found
