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
from tasks.core.evaluation.weighing import effective_rows
from tasks.core.spec_gate import Gate

Floats = NDArray[np.float64]
_FEWEST = 10  # our choice: rows, or positives, or negatives, below which a group has no rate
_GRAVITY = {"ok": 0, "undecided": 1, "worse": 2}
_WORDS = {
    "selection_rate": "selection rate",
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "error": "error",
}


@dataclass(frozen=True)
class _Pair:
    """Two groups: how far apart they are, how far apart the champion has them, and what that amounts to."""

    most: _Rate
    least: _Rate
    gap: float
    before: float
    outcome: Verdict


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
    """Return one result per column: `worse` where a gap is too large and wider than the champion's.

    Every pair of groups of at least `gate.min_rows` effective rows is compared in `gate.fairness.measure`; of
    more than two classes without a positive one in the errors, and of `numbers` in the mean absolute errors,
    their gap being a share of the larger. A gap is more than chance when the two groups differ at
    `gate.confidence`, shared between all pairs (Bonferroni); it is held against the same two groups' gap in
    the champion. Told is the widest pair that speaks against the challenger, else the widest of all.
    `undecided` where fewer than two groups are large enough, and where a gap above the limit may be chance.
    """
    limit, found = gate.fairness.max_gap, []
    if not groups:
        return ()
    parts = [part for part in (challenger, champion) if part is not None]
    labels = () if numbers else all_labels(parts)
    for column, values in groups.items():
        ask = _Question(np.asarray(values), gate, positive, numbers, labels, weights)
        events, mask, name = _measured(challenger, ask)
        rates = _rates(events, mask, ask)
        if len(rates) < 2:
            detail = f"{column}: fewer than two groups large enough for the {name}, limit {limit:.4g}"
            found.append(GuardResult("fairness", "undecided", NAN, limit, detail))
            continue
        pair = _telling(
            rates, _rates(*_measured(champion, ask)[:2], ask) if champion is not None else [], ask
        )
        found.append(
            GuardResult("fairness", pair.outcome, pair.gap, limit, _words(column, name, pair, limit))
        )
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


def _telling(rates: list[_Rate], champions: list[_Rate], ask: _Question) -> _Pair:
    """Return the pair that says most: the widest that is `worse`, else `undecided`, else of all.

    Of every group only its widest pair of each outcome is kept, so that many groups take little memory.
    """
    values, errors, rows = (np.array([getattr(one, f) for one in rates]) for f in ("value", "error", "rows"))
    known = {one.name: one.value for one in champions}
    before = np.array([known.get(one.name, NAN) for one in rates])
    tail = (1 - ask.gate.confidence) / (len(rates) * (len(rates) - 1))
    reach, limit = float(ndtri(1 - tail)), ask.gate.fairness.max_gap
    found = []
    for place, most in enumerate(rates):
        gaps = most.value - values
        each, former = gaps, np.abs(before[place] - before)
        if ask.numbers:
            each, former = _as_share(gaps, most.value), _as_share(former, np.fmax(before[place], before))
            spread = np.sqrt(most.error + errors)
        else:  # the two shares are equal if chance is all there is: one pooled variance
            share = np.clip((most.value * most.rows + values * rows) / (most.rows + rows), 0, 1)
            spread = np.sqrt(share * (1 - share) * (1 / most.rows + 1 / rows))
        is_wider = (each > limit) & ~(each <= former)
        is_worse = is_wider & (gaps > reach * spread)
        kinds: tuple[tuple[Verdict, NDArray[np.bool_]], ...] = (
            ("worse", is_worse),
            ("undecided", is_wider & ~is_worse),
            ("ok", (gaps >= 0) & ~is_wider & (np.arange(len(rates)) != place)),
        )
        for outcome, which in kinds:
            if which.any():
                other = int(np.where(which, each, -np.inf).argmax())
                found.append(_Pair(most, rates[other], float(each[other]), float(former[other]), outcome))
    return max(found, key=lambda one: (_GRAVITY[one.outcome], one.gap))


def _as_share(gaps: Floats, of: Floats | float) -> Floats:
    return np.divide(gaps, of, out=gaps.copy(), where=np.asarray(of) > 0)


def _words(column: str, name: str, pair: _Pair, limit: float) -> str:
    most, least = pair.most, pair.least
    words = f"{column}: {name} {most.value:.4g} in {most.name}, {least.value:.4g} in {least.name}"
    words += f", gap {pair.gap:.4g}, limit {limit:.4g}"
    return words + (f"; the champion's gap is {pair.before:.4g}" if np.isfinite(pair.before) else "")


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
        if _count(ask, inside) < ask.gate.min_rows or _count(ask, rows) < _FEWEST:
            continue
        each = np.ones(int(rows.sum())) if ask.weights is None else ask.weights[rows]
        mean = float(each @ events[rows] / each.sum())
        error = float((each**2 * (events[rows] - mean) ** 2).sum() / each.sum() ** 2)
        found.append(_Rate(str(name), mean, error, _count(ask, rows)))
    return found


def _count(ask: _Question, rows: NDArray[np.bool_]) -> float:
    return effective_rows(None if ask.weights is None else ask.weights[rows], int(rows.sum()))
