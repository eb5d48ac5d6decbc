"""From the parts of a comparison to its outcome and its reasons: the gate's rule, without any arithmetic."""

from __future__ import annotations

import numpy as np

from tasks.core.evaluation.evidence import GateEvidence
from tasks.core.evaluation.guards.anchor import anchor_words
from tasks.core.evaluation.margins import margin_of, share_words
from tasks.core.evaluation.paired.compare import Comparison
from tasks.core.evaluation.verdicts import AnchorResult, BaselineResult, GuardResult, Outcome, SliceResult
from tasks.core.spec_gate import Gate

_TODO = {
    "disagreement": "a model that differs this much is another model: look at what changed in its data",
    "label shift": "check how the newest labels came about before they decide anything",
    "fairness": "look at the group's rows and labels, or state the gap you accept in gate.fairness.max_gap",
    "value": "the metric and the money disagree: check gate.value, or choose another metric",
}
_ON_DOUBT: dict[str, Outcome] = {"ask": "ask", "keep": "keep", "tell": "promote"}


def verdict_of(
    evidence: GateEvidence,
    gate: Gate,
    found: Comparison,
    slices: tuple[SliceResult, ...],
    baselines: tuple[BaselineResult, ...],
) -> tuple[Outcome, list[str]]:
    """Return the outcome as far as the compared rows go, and why."""
    if not found.is_known:
        why = "one class, too few of one, or not a number"
        return "refuse", [f"{evidence.metric} or its interval cannot be told on these rows ({why})"]
    flaws = _flaws(evidence, gate, found, slices, baselines)
    gap, against, span = found.difference, _against(evidence), _span(found)
    is_shown = found.p_better >= gate.confidence and gap.value > 0
    margin = margin_of(gate.margin, evidence.metric, found.theirs.value)
    share = share_words(gate.margin, evidence.metric, "the opponent's") if margin > 0 else ""
    words = f"{margin:.4g} ({share})" if share else f"{margin:.4g}"
    if gap.high <= 0 or _same_answers(evidence):
        flaws.insert(0, f"not better than {against}: difference {span}")
    elif not is_shown and (gap.high < margin or evidence.champion is None):
        beyond = f"; {_needed(found)}"
        if gap.high < margin:
            beyond = f", so a gain of {words} is ruled out"
        flaws.insert(
            0, f"not shown to be better than {against} at {gate.confidence:.0%}: difference {span}{beyond}"
        )
    if flaws:
        return "keep", flaws
    if is_shown and (evidence.champion is None or gap.low > -margin):
        return "promote", [f"better than {against} by {span}"]
    if is_shown:
        return "undecided", [f"a loss of {words} or more is not ruled out: difference {span}"]
    rows = len(evidence.challenger.scored.y_true)
    return "undecided", [
        f"{rows:,} rows do not tell whether it is better than {against}: difference {span}; {_needed(found)}"
    ]


def weighed(
    reasons: list[str], doubts: tuple[str, ...], anchor: AnchorResult | None, gate: Gate
) -> tuple[Outcome, list[str]]:
    """Return what becomes of a challenger that is better, once its doubts are heard."""
    notes = [anchor_words(anchor)] if anchor is not None and anchor.outcome == "undecided" else []
    if not doubts:
        return "promote", [*reasons, *notes]
    return _ON_DOUBT[gate.on_doubt], [*reasons, *doubts, *notes]


def doubts_of(
    anchor: AnchorResult | None, guards: tuple[GuardResult, ...], metric: str = ""
) -> tuple[str, ...]:
    """Return what speaks against the challenger besides its score, with the numbers and what to do."""
    found = [anchor_words(anchor, metric)] if anchor is not None and anchor.outcome == "worse" else []
    found += [f"{one.name}: {one.detail}; {_TODO[one.name]}" for one in guards if one.outcome == "worse"]
    return tuple(found)


def floor_of(gate: Gate, metric: str) -> float | None:
    """Return the floor in the scorer convention: a positive floor of an error means at most that error."""
    if gate.floor is not None and metric.startswith("neg_") and gate.floor > 0:
        return -gate.floor
    return gate.floor


def _flaws(
    evidence: GateEvidence,
    gate: Gate,
    found: Comparison,
    slices: tuple[SliceResult, ...],
    baselines: tuple[BaselineResult, ...],
) -> list[str]:
    """Return what is wrong with the challenger, whatever the difference says; empty when nothing is."""
    reasons, floor, metric = [], floor_of(gate, evidence.metric), evidence.metric
    if floor is not None and found.mine.value < floor:
        reasons.append(f"{metric} {found.mine.value:.4g} is below the floor {floor:.4g}")
    for one in slices:
        if one.outcome == "worse":
            span = f"{one.difference:.4g} ({one.low:.4g} to {one.high:.4g})"
            beyond = share_words(gate.margin, metric, "the champion's")
            beyond = f", a loss of more than {beyond} there" if beyond else ""
            reasons.append(f"worse on {one.column}={one.value}: difference {span}{beyond}")
    if evidence.champion is None:
        return reasons
    for base in baselines:
        if base.name == "dummy" and base.outcome == "worse":
            reasons.append(f"{metric} {found.mine.value:.4g} is no better than a guess, {base.score:.4g}")
    return reasons


def _same_answers(evidence: GateEvidence) -> bool:
    """Return whether both models say the same of every row, and the interval is that of nothing."""
    if evidence.champion is None:
        return False
    one, other = evidence.challenger.scored, evidence.champion.scored
    if one.classes != other.classes or not np.array_equal(one.prediction, other.prediction):
        return False
    if one.probabilities is None or other.probabilities is None:
        return one.probabilities is other.probabilities
    return bool(np.array_equal(one.probabilities, other.probabilities))


def _against(evidence: GateEvidence) -> str:
    return "the champion" if evidence.champion is not None else "a guess without features (no champion yet)"


def _span(found: Comparison) -> str:
    gap = found.difference
    return f"{gap.value:.4g} ({gap.low:.4g} to {gap.high:.4g})"


def _needed(found: Comparison) -> str:
    if found.needed_rows is not None:
        return f"about {found.needed_rows:,} rows would, if the difference is what it seems"
    if found.difference.value <= 0:
        return "it is not ahead, so more rows are not likely to show it"
    return "how many rows would cannot be said"
