"""Whether a challenger becomes champion: paired, on rows neither has learnt from, failing closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import RESAMPLES, Interval, percentile_interval, resample
from tasks.core.evaluation.scoring import Scored, all_labels, statistic
from tasks.core.evaluation.slices import compare_slices
from tasks.core.evaluation.verdicts import GateDecision, Outcome, SliceResult
from tasks.core.spec_gate import Gate


@dataclass(frozen=True)
class PairedScores:
    """One model's answers on the compared rows, with the keys that prove which rows they were."""

    keys: NDArray[Any]  # Any: keys may be of any type
    scored: Scored
    model_id: str = ""


@dataclass(frozen=True)
class GateEvidence:
    """Everything the gate looks at.

    `champion` is None only when the registry said that there is none; `baseline` is a guess that knows the
    training labels and no feature. `first_row` is the oldest moment of the compared rows,
    `champion_train_end` the moment up to which the champion has learnt. `slices` gives, by column, each
    row's group.
    """

    metric: str
    challenger: PairedScores
    champion: PairedScores | None
    baseline: Scored | None = None
    positive: Any = None  # Any: labels may be of any type
    first_row: datetime | None = None
    champion_train_end: datetime | None = None
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    seed: int = 0
    resamples: int = RESAMPLES


def decide_promotion(evidence: GateEvidence, gate: Gate) -> GateDecision:
    """Return whether the challenger may become champion, and why.

    With a champion: promote when the interval of the paired difference lies above `-gate.margin`, the
    difference is shown to be above zero at `gate.confidence` (one-sided), the floor holds and no slice of at
    least `gate.min_rows` rows is shown to be worse by more than the margin. Without one: promote when the
    floor holds and the challenger is shown to be better than the baseline. Anything that cannot be told
    refuses. So a challenger that is only as good is promoted in at most 1 - confidence of comparisons, and
    repeated promotions cannot wear the score down.

    The interval is a seeded paired percentile bootstrap: rows are taken as independent.
    """
    faults = _faults(evidence, gate)
    rows = len(evidence.challenger.scored.y_true)
    if faults:
        return _refused(faults, evidence, gate, rows)
    try:
        found, slices = _compare(evidence, gate), _slices(evidence, gate)
    except ValueError as err:
        return _refused([str(err)], evidence, gate, rows)
    return _judged(evidence, gate, found, slices)


def floor_of(gate: Gate, metric: str) -> float | None:
    """Return the floor in the scorer convention: a positive floor of an error means at most that error."""
    if gate.floor is not None and metric.startswith("neg_") and gate.floor > 0:
        return -gate.floor
    return gate.floor


def _faults(evidence: GateEvidence, gate: Gate) -> list[str]:
    """Return why these rows cannot settle the matter; empty when they can."""
    mine, theirs = evidence.challenger, evidence.champion
    rows, found = len(mine.scored.y_true), []
    if rows < gate.min_rows:
        found.append(f"{rows} unseen rows, fewer than the {gate.min_rows} a comparison may rest on")
    if len(mine.keys) != rows or len(mine.scored.prediction) != rows:
        found.append("the challenger's keys, labels and predictions differ in number")
    if theirs is None:
        return (
            found
            if evidence.baseline is not None
            else [*found, "no champion and no baseline to compare with"]
        )
    if mine.model_id and mine.model_id == theirs.model_id:
        found.append("challenger and champion are the same version")
    if _know_nothing_alike(mine.scored, theirs.scored):
        found.append("the champion knows none of these labels (their type has changed, perhaps)")
    if not _same_rows(mine, theirs):
        found.append("challenger and champion were scored on different rows")
    if evidence.champion_train_end is None or evidence.first_row is None:
        found.append("it is not known up to when the champion has learnt")
    elif evidence.first_row < evidence.champion_train_end:
        found.append("the champion has learnt from some of the compared rows")
    return found


def _know_nothing_alike(one: Scored, other: Scored) -> bool:
    return bool(one.classes and other.classes) and not set(one.classes or ()) & set(other.classes or ())


def _same_rows(one: PairedScores, other: PairedScores) -> bool:
    if len(one.keys) != len(other.keys) or len(one.scored.y_true) != len(other.scored.y_true):
        return False
    return bool(
        np.array_equal(one.keys, other.keys) and np.array_equal(one.scored.y_true, other.scored.y_true)
    )


@dataclass(frozen=True)
class _Comparison:
    """The challenger's score, its opponent's, their difference, and the share of resamples it wins."""

    own: Interval
    other: Interval
    difference: Interval
    won: float

    @property
    def span(self) -> str:
        """The difference in words."""
        gap = self.difference
        return f"{gap.value:.4g} ({gap.low:.4g} to {gap.high:.4g})"


def _compare(evidence: GateEvidence, gate: Gate) -> _Comparison:
    opponent = _opponent(evidence)
    labels = all_labels([evidence.challenger.scored, opponent])
    pair = [
        statistic(one, evidence.metric, positive=evidence.positive, labels=labels)
        for one in (evidence.challenger.scored, opponent)
    ]
    mine, theirs = pair[0](None), pair[1](None)
    nan = float("nan")
    if not np.isfinite([mine, theirs]).all():
        return _Comparison(Interval(mine, nan, nan), Interval(theirs, nan, nan), Interval(nan, nan, nan), nan)
    draws = resample(pair, len(opponent.y_true), seed=evidence.seed, resamples=evidence.resamples)
    gains = draws[:, 0] - draws[:, 1]
    return _Comparison(
        percentile_interval(mine, draws[:, 0], gate.confidence),
        percentile_interval(theirs, draws[:, 1], gate.confidence),
        percentile_interval(mine - theirs, gains, gate.confidence),
        float((gains > 0).mean()),
    )


def _opponent(evidence: GateEvidence) -> Scored:
    if evidence.champion is not None:
        return evidence.champion.scored
    if evidence.baseline is None:
        raise ValueError("no champion and no baseline to compare with")
    return evidence.baseline


def _slices(evidence: GateEvidence, gate: Gate) -> tuple[SliceResult, ...]:
    if evidence.champion is None or not evidence.slices:
        return ()
    return compare_slices(
        evidence.challenger.scored,
        evidence.champion.scored,
        evidence.slices,
        metric=evidence.metric,
        positive=evidence.positive,
        gate=gate,
        seed=evidence.seed,
        resamples=evidence.resamples,
    )


def _judged(
    evidence: GateEvidence, gate: Gate, found: _Comparison, slices: tuple[SliceResult, ...]
) -> GateDecision:
    outcome, reasons = _verdict(evidence, gate, found, slices)
    return GateDecision(
        outcome=outcome,
        reasons=tuple(reasons),
        challenger_score=found.own.value,
        champion_score=found.other.value if evidence.champion is not None else float("nan"),
        difference=found.difference.value,
        low=found.difference.low,
        high=found.difference.high,
        rows=len(evidence.challenger.scored.y_true),
        slices=slices,
        metric=evidence.metric,
        confidence=gate.confidence,
        baseline_score=_baseline_score(evidence),
        challenger_low=found.own.low,
        challenger_high=found.own.high,
    )


def _verdict(
    evidence: GateEvidence, gate: Gate, found: _Comparison, slices: tuple[SliceResult, ...]
) -> tuple[Outcome, list[str]]:
    if not (found.own.is_known and found.difference.is_known):
        why = "one class, too few of one, or not a number"
        return "refuse", [f"{evidence.metric} or its interval cannot be told on these rows ({why})"]
    shortcomings = _shortcomings(evidence, gate, found, slices)
    if shortcomings:
        return "keep", shortcomings
    return "promote", [f"better than {_against(evidence)} by {found.span}"]


def _shortcomings(
    evidence: GateEvidence, gate: Gate, found: _Comparison, slices: tuple[SliceResult, ...]
) -> list[str]:
    """Return why a challenger that could be judged is not good enough; empty when it is."""
    reasons, floor, against = [], floor_of(gate, evidence.metric), _against(evidence)
    if floor is not None and found.own.value < floor:
        reasons.append(f"{evidence.metric} {found.own.value:.4g} is below the floor {floor:.4g}")
    if found.difference.value <= 0:
        reasons.append(f"not better than {against}: difference {found.span}")
    elif found.won < gate.confidence:
        reasons.append(
            f"not shown to be better than {against} at {gate.confidence:.0%}: difference {found.span}"
        )
    elif evidence.champion is not None and found.difference.low <= -gate.margin:
        reasons.append(f"a loss of {gate.margin:.4g} or more is not ruled out: difference {found.span}")
    for one in slices:
        if one.outcome == "worse":
            span = f"{one.difference:.4g} ({one.low:.4g} to {one.high:.4g})"
            reasons.append(f"worse on {one.column}={one.value}: difference {span}")
    return reasons


def _against(evidence: GateEvidence) -> str:
    return "the champion" if evidence.champion is not None else "a guess without features (no champion yet)"


def _baseline_score(evidence: GateEvidence) -> float:
    if evidence.baseline is None:
        return float("nan")
    labels = all_labels([evidence.challenger.scored, evidence.baseline])
    return statistic(evidence.baseline, evidence.metric, positive=evidence.positive, labels=labels)(None)


def _refused(reasons: list[str], evidence: GateEvidence, gate: Gate, rows: int) -> GateDecision:
    nan = float("nan")
    return GateDecision(
        "refuse",
        tuple(reasons),
        nan,
        nan,
        nan,
        nan,
        nan,
        rows,
        metric=evidence.metric,
        confidence=gate.confidence,
    )
