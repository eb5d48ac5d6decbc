"""From the parts of a comparison to its outcome and its reasons: the gate's rule, without any arithmetic."""

from __future__ import annotations

import numpy as np

from tasks.core.evaluation.evidence import GateEvidence
from tasks.core.evaluation.guards.anchor import anchor_words
from tasks.core.evaluation.margins import margin_of, share_words
from tasks.core.evaluation.paired.compare import Comparison
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.undefined import why_undefined
from tasks.core.evaluation.unknown import unknown_counts, unknown_words
from tasks.core.evaluation.verdicts import AnchorResult, BaselineResult, GuardResult, Outcome, SliceResult
from tasks.core.spec_gate import Gate

_TODO = {
    "disagreement": "a model that differs this much is another model: look at what changed in its data",
    "label shift": "check how the newest labels came about before they decide anything",
    "fairness": "look at the group's rows and labels, or state the gap you accept in gate.fairness.max_gap",
    "value": "the metric and the money disagree: check gate.value, or choose another metric",
}
_GUESS = "a guess without features (no champion yet)"
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
        return "refuse", [
            f"{evidence.metric} or its interval cannot be told on these rows ({_why(evidence)})"
        ]
    flaws = _flaws(evidence, gate, found, slices, baselines)
    if evidence.champion is None:
        outcome, reason = _against_guess(gate, found)
    elif gate.rule == "better":
        outcome, reason = _better(evidence, gate, found)
    else:
        outcome, reason = _not_worse(gate, found)
    if outcome == "keep":
        return "keep", [reason, *flaws]
    return ("keep", flaws) if flaws else (outcome, [reason])


def _why(evidence: GateEvidence) -> str:
    """Return why there is no score to compare."""
    scored = {"challenger": evidence.challenger.scored}
    if evidence.champion is not None:
        scored["champion"] = evidence.champion.scored
    elif evidence.baseline is not None:
        scored["guess without features"] = evidence.baseline
    found = why_undefined(evidence.metric, scored)
    if found and evidence.metric in REGRESSION:
        found = f"{found}: choose another metric, or an estimator that stays within its range"
    return found or "too few rows of a class, one cluster, or an interval that is no number"


def _not_worse(gate: Gate, found: Comparison) -> tuple[Outcome, str]:
    """Return the outcome of the rules that do not ask for proof: `not_worse` and `ahead`."""
    gap, span = found.difference, _span(found)
    if gap.value < 0 and found.p_better <= 1 - gate.confidence:
        return "keep", f"shown to be worse than the champion at {gate.confidence:.0%}: difference {span}"
    if gap.value > 0 and found.p_better >= gate.confidence:
        return "promote", f"better than the champion by {span}"
    if gap.value > 0:
        return "promote", f"ahead of the champion by {span}, which may be chance"
    if gate.rule == "ahead":
        return "keep", f"not ahead of the champion: difference {span}"
    return "promote", f"not shown to be worse than the champion at {gate.confidence:.0%}: difference {span}"


def _better(evidence: GateEvidence, gate: Gate, found: Comparison) -> tuple[Outcome, str]:
    """Return the outcome of the rule that asks for proof, `better`."""
    gap, span = found.difference, _span(found)
    is_shown = found.p_better >= gate.confidence and gap.value > 0
    margin = margin_of(gate.margin, evidence.metric, found.theirs.value)
    share = share_words(gate.margin, evidence.metric, "the opponent's") if margin > 0 else ""
    words = f"{margin:.4g} ({share})" if share else f"{margin:.4g}"
    if gap.high <= 0 or _same_answers(evidence):
        return "keep", f"not better than the champion: difference {span}"
    if not is_shown and gap.high < margin:
        unshown = f"not shown to be better than the champion at {gate.confidence:.0%}: difference {span}"
        return "keep", f"{unshown}, so a gain of {words} is ruled out"
    if is_shown and gap.low > -margin:
        return "promote", f"better than the champion by {span}"
    if is_shown:
        return "undecided", f"a loss of {words} or more is not ruled out: difference {span}"
    rows = len(evidence.challenger.scored.y_true)
    unknown = f"{rows:,} rows do not tell whether it is better than the champion"
    return "undecided", f"{unknown}: difference {span}; {_needed(found)}"


def _against_guess(gate: Gate, found: Comparison) -> tuple[Outcome, str]:
    """Return the outcome of a first version; without proof that it beats a guess it is doubted."""
    gap, span = found.difference, _span(found)
    if gap.value <= 0 or gap.high <= 0:
        return "keep", f"not better than {_GUESS}: difference {span}"
    if found.p_better >= gate.confidence:
        return "promote", f"better than {_GUESS} by {span}"
    if gate.rule == "better":
        unshown = f"not shown to be better than {_GUESS} at {gate.confidence:.0%}"
        return "keep", f"{unshown}: difference {span}; {_needed(found)}"
    return "promote", f"ahead of {_GUESS} by {span}"


def simpler_of(baselines: tuple[BaselineResult, ...]) -> tuple[BaselineResult, ...]:
    """Return the models that cost nothing and are shown to be better than the challenger."""
    return tuple(base for base in baselines if base.high < 0)


def weighed(
    reasons: list[str],
    doubts: tuple[str, ...],
    anchor: AnchorResult | None,
    gate: Gate,
    notes: tuple[str, ...] = (),
) -> tuple[Outcome, list[str]]:
    """Return what becomes of a challenger that may be promoted, once its doubts are heard."""
    after = [
        *notes,
        *([anchor_words(anchor)] if anchor is not None and anchor.outcome == "undecided" else []),
    ]
    if not doubts:
        return "promote", [*reasons, *after]
    return _ON_DOUBT[gate.on_doubt], [*reasons, *doubts, *after]


def doubts_of(
    anchor: AnchorResult | None,
    guards: tuple[GuardResult, ...],
    metric: str = "",
    *,
    is_first: bool = False,
) -> tuple[str, ...]:
    """Return what speaks against the challenger besides its score, with the numbers and what to do.

    Labels unlike those of training are no doubt about a first version: nothing serves, and a season would
    leave it waiting; `notes_of` tells them.
    """
    found = [anchor_words(anchor, metric)] if anchor is not None and anchor.outcome == "worse" else []
    speaking = [guard for guard in guards if guard.outcome == "worse" and not (is_first and _is_shift(guard))]
    return (*found, *map(_guard_words, speaking))


def notes_of(guards: tuple[GuardResult, ...], *, is_first: bool) -> tuple[str, ...]:
    """Return what is only told: of a first version, that the labels are not those of training."""
    shifts = [guard for guard in guards if is_first and guard.outcome == "worse" and _is_shift(guard)]
    return tuple(map(_guard_words, shifts))


def unproven(evidence: GateEvidence, gate: Gate, found: Comparison) -> tuple[str, ...]:
    """Return the doubt about a first version that is ahead of a guess without being shown to be."""
    if evidence.champion is not None or not found.is_known or found.p_better >= gate.confidence:
        return ()
    return (f"not shown to be better than {_GUESS} at {gate.confidence:.0%}; {_needed(found)}",)


def unknown_classes(evidence: GateEvidence) -> tuple[str, ...]:
    """Return what speaks of labels among the rows that are classes the challenger can never answer."""
    scored = evidence.challenger.scored
    if not scored.classes:
        return ()
    counts = unknown_counts(scored.y_true, scored.classes)
    return (unknown_words(counts, len(scored.y_true)),) if counts else ()


def _is_shift(guard: GuardResult) -> bool:
    return guard.name == "label shift"


def _guard_words(guard: GuardResult) -> str:
    return f"{guard.name}: {guard.detail}; {_TODO[guard.name]}"


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
        # Without a demand for proof, a champion that is no better than the guess either is not worth keeping.
        counts = gate.rule == "better" or found.theirs.value > base.score
        if base.name == "dummy" and base.outcome == "worse" and counts:
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


def _span(found: Comparison) -> str:
    gap = found.difference
    return f"{gap.value:.4g} ({gap.low:.4g} to {gap.high:.4g})"


def _needed(found: Comparison) -> str:
    if found.needed_rows is not None:
        return f"about {found.needed_rows:,} rows would, if the difference is what it seems"
    if found.difference.value <= 0:
        return "it is not ahead, so more rows are not likely to show it"
    return "how many rows would cannot be said"
