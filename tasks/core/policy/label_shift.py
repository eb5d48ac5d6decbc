"""How far a window's labels have moved from those of training, and what that most likely means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.measures.base import Pair
from tasks.core.drift.measures.jensen_shannon import JENSEN_SHANNON
from tasks.core.drift.measures.psi import PSI
from tasks.core.policy.label_fault import MIN_ROWS, LabelSuspicion, Mix, homogeneity, side_by_side, suspect

Branch = Literal["none", "fault", "population", "concept", "unexplained"]

WARN, DRIFT = 0.02, 0.1
"""PSI of labels. Our choice, a fifth and a half of the usual limits, which are made for inputs in ten groups:
a binary label that goes from 30 % to 37 %, and to 45 %."""


@dataclass(frozen=True)
class LabelShift:
    """What the label mix of a window says.

    Attributes:
        outcome: ok, warn or drift by PSI, drift also where a fault is suspected; undecided when there are too
            few labels to tell.
        branch: Why the labels moved, as far as it can be told: a labelling `fault` (the labels did, and the
            rows did not), another `population` (the rows did too), another `concept` (the rows stayed, and
            the score fell), or `unexplained`; `none` where they did not move.
        reason: The same in words, with the numbers.
        psi: Population stability index over the labels, freed of chance; None where undecided.
        jensen_shannon: Distance from 0 to 1.
        total_variation: Share of the rows whose label would have to change to restore the mix.
        threshold: PSI from which the outcome is drift.
        p_value: Chance of two such different mixes from one population.
        rows: Labels of the window.
        reference_rows: Labels they are compared with.
        against: Which those are.
    """

    outcome: Literal["ok", "warn", "drift", "undecided"]
    branch: Branch
    reason: str
    psi: float | None
    jensen_shannon: float | None
    total_variation: float | None
    threshold: float
    p_value: float | None
    rows: int
    reference_rows: int
    against: str


def label_shift(
    reference: Mix,
    current: Mix,
    *,
    scores_moved: bool | None,
    inputs_moved: bool | None,
    fell: bool,
    alpha: float,
    numbers: bool = False,
    against: str = "the labels of training",
) -> LabelShift:
    """Return how far the labels moved, and the branch that tells a labelling fault from drift.

    Args:
        reference: Rows per label, or per cell of a number, in training.
        current: The same for the window.
        scores_moved: Whether the model's scores of the window moved; None: not checked.
        inputs_moved: Whether any input did; None: not checked.
        fell: Whether the realised score lies below its limit.
        alpha: How often chance alone may make labels look moved.
        numbers: Whether the labels are cells of numbers.
        against: What the reference is, in words.

    Example:
        >>> found = label_shift({"no": 700, "yes": 300}, {"no": 990, "yes": 10}, scores_moved=False,
        ...                     inputs_moved=False, fell=True, alpha=0.01)
        >>> found.outcome, found.branch, round(found.total_variation, 2)
        ('drift', 'fault', 0.29)
    """
    before, now = side_by_side(reference, current)
    n, m = int(before.sum()), int(now.sum())
    if min(n, m) < MIN_ROWS:
        few = f"{m} labels in the window" if m < MIN_ROWS else f"{n} labels to compare with"
        reason = f"{few}, {MIN_ROWS} are needed"
        return LabelShift("undecided", "none", reason, None, None, None, DRIFT, None, m, n, against)
    bins = Bins("label", "categorical", categories=tuple(before.index))
    first, second = (Counts(int(c.sum()), 0, 0, 0, 0, (*c.tolist(), 0)) for c in (before, now))
    pair = Pair(bins, first, second)
    psi, distance = PSI.read(pair).value or 0.0, JENSEN_SHANNON.read(pair).value or 0.0
    variation = float(np.abs(now / m - before / n).sum() / 2)
    p_value = homogeneity(before, now) if len(before) > 1 else 1.0
    fault = suspect(reference, current, scores_moved=scores_moved, inputs_moved=inputs_moved, numbers=numbers)
    outcome: Literal["ok", "warn", "drift"] = "drift" if fault else "ok"
    if not fault and p_value < alpha and psi >= WARN:
        outcome = "drift" if psi >= DRIFT else "warn"
    branch, why = _branch(outcome != "ok", fault, scores_moved, inputs_moved, fell=fell)
    reason = f"PSI {psi:.3g} against {against}, {variation:.1%} of the labels moved: {why}"
    return LabelShift(outcome, branch, reason, psi, distance, variation, DRIFT, p_value, m, n, against)


def _branch(
    moved: bool,
    fault: LabelSuspicion | None,
    scores_moved: bool | None,
    inputs_moved: bool | None,
    *,
    fell: bool,
) -> tuple[Branch, str]:
    if fault:
        return "fault", f"suspected labelling fault, {fault.reason}"
    if not moved:
        return "none", "no change that matters and is not chance"
    if scores_moved or inputs_moved:
        return "population", "the population moved, as inputs or scores did too"
    if inputs_moved is None or scores_moved is None:
        return "unexplained", "inputs or scores could not be judged, so neither fault nor drift can be told"
    if fell:
        return "concept", "inputs and scores stayed and the score fell: perhaps concept drift"
    return "unexplained", "inputs and scores stayed, and the score holds"
