"""Whether a challenger becomes champion: paired, on rows neither has learnt from, failing closed."""

from __future__ import annotations

import traceback

from tasks.core.evaluation.evidence import AnchorEvidence, GateEvidence, PairedScores, Worth
from tasks.core.evaluation.guards.anchor import judge_anchor
from tasks.core.evaluation.guards.baselines import against_baseline, as_baseline
from tasks.core.evaluation.guards.calibration import calibration_of
from tasks.core.evaluation.guards.disagreement import judge_disagreement
from tasks.core.evaluation.guards.fairness import judge_fairness
from tasks.core.evaluation.guards.faults import faults_of
from tasks.core.evaluation.guards.label_shift import judge_label_shift
from tasks.core.evaluation.guards.value import judge_value, value_of
from tasks.core.evaluation.paired.compare import Comparison, compare
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.rule import (
    doubts_of,
    floor_of,
    notes_of,
    simpler_of,
    unknown_classes,
    unproven,
    verdict_of,
    weighed,
)
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.slices import compare_slices
from tasks.core.evaluation.verdicts import (
    NAN,
    AnchorResult,
    BaselineResult,
    CalibrationResult,
    GateDecision,
    GuardResult,
    SliceResult,
    ValueResult,
    simpler_words,
)
from tasks.core.spec_gate import Gate

__all__ = ["AnchorEvidence", "GateEvidence", "PairedScores", "Worth", "decide_promotion", "floor_of"]

_LONGEST = 300


def decide_promotion(evidence: GateEvidence, gate: Gate) -> GateDecision:
    """Return whether the challenger may become champion, and why.

    `gate.rule` says what the paired difference, challenger - champion, must show on the compared rows, its
    two-sided interval at `gate.confidence` taken by clusters of rows:

    - `not_worse`: promoted unless it is shown to be worse (one-sided, the mirror image of `better`): an equal
      challenger is kept out in at most about 1 - confidence of comparisons, however large the margin.
    - `ahead`: promoted when its score is the better one, shown or not.
    - `better`: promoted when it is shown to be better (one-sided) and the interval lies above `-gate.margin`;
      kept out when the interval rules out a gain of the margin; between the two there is not enough evidence,
      and the decision says how many rows it would take.

    Whatever the rule, it is kept out below the floor, where a slice of at least `gate.min_rows` rows is shown
    to be worse by more than the margin, and where it scores no better than a guess. Without a champion the
    guess is the opponent: a first version that is ahead of it without proof is doubted, and under `better`
    kept out. Of a regression's error (neg_*) the margin is a share of the opponent's error, of any other
    metric it is in the metric itself. Rows with weights count as the effective rows that they amount to.

    The frozen anchor, the labels' distribution, the disagreement with the champion, gaps between groups and
    the worth of the answers never make a challenger good; where one of them speaks against a challenger that
    would be promoted, `gate.on_doubt` says what happens. Anything that cannot be judged refuses, an error in
    here included. Anchor, groups and worth take rows as independent.
    """
    try:
        if faults := faults_of(evidence, gate):
            return _refused(faults, evidence, gate)
        return _judged(evidence, gate)
    except ValueError as err:
        return _refused([str(err)[:_LONGEST]], evidence, gate)
    except Exception as err:  # fail closed: whatever went wrong, the champion stays
        at = traceback.extract_tb(err.__traceback__)[-1]
        where = f"{type(err).__name__} in {at.name}, line {at.lineno}"
        return _refused([f"the gate itself failed ({where}): please report it"], evidence, gate)


def _judged(evidence: GateEvidence, gate: Gate) -> GateDecision:
    found, slices = _compare(evidence, gate), _slices(evidence, gate)
    baselines = _baselines(evidence, gate, found)
    anchor = _anchor(evidence, gate)
    value = value_of(evidence.worth, gate, weights=evidence.weights)
    guards = _guards(evidence, gate, value)
    first, simpler = evidence.champion is None, simpler_of(baselines)
    doubts = (
        *unproven(evidence, gate, found),
        *unknown_classes(evidence),
        *doubts_of(anchor, guards, evidence.metric, is_first=first),
    )
    outcome, reasons = verdict_of(evidence, gate, found, slices, baselines)
    if outcome == "promote":
        reasons = [*reasons, *map(simpler_words, simpler)]
        outcome, reasons = weighed(reasons, doubts, anchor, gate, notes_of(guards, is_first=first))
    return GateDecision(
        outcome=outcome,
        reasons=(*reasons, *evidence.notes),
        challenger_score=found.mine.value,
        champion_score=NAN if first else found.theirs.value,
        difference=found.difference.value,
        low=found.difference.low,
        high=found.difference.high,
        rows=len(evidence.challenger.scored.y_true),
        slices=slices,
        metric=evidence.metric,
        confidence=gate.confidence,
        baseline_score=next((one.score for one in baselines if one.name == "dummy"), NAN),
        challenger_low=found.mine.low,
        challenger_high=found.mine.high,
        method=found.method,
        p_better=found.p_better,
        needed_rows=found.needed_rows if outcome in ("keep", "undecided") else None,
        mcnemar=None if first else found.mcnemar,
        baselines=baselines,
        anchor=anchor,
        guards=guards,
        calibration=_calibration(evidence),
        value=value,
        doubts=doubts,
        rule=gate.rule,
        design_effect=found.design_effect,
        clusters=found.clusters,
        simpler=tuple(base.name for base in simpler),
    )


def _compare(evidence: GateEvidence, gate: Gate) -> Comparison:
    return compare(
        evidence.challenger.scored,
        _opponent(evidence),
        evidence.metric,
        confidence=gate.confidence,
        seed=evidence.seed,
        positive=evidence.positive,
        resamples=evidence.resamples,
        weights=evidence.weights,
        codes=evidence.clusters,
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
        weights=evidence.weights,
        codes=evidence.clusters,
    )


def _baselines(evidence: GateEvidence, gate: Gate, found: Comparison) -> tuple[BaselineResult, ...]:
    first = evidence.champion is None
    parts = [as_baseline("dummy", found, gate.confidence)] if first else []
    for name, scored in (("dummy", None if first else evidence.baseline), ("linear", evidence.linear)):
        part = against_baseline(
            "dummy" if name == "dummy" else "linear",
            evidence.challenger.scored,
            scored,
            evidence.metric,
            confidence=gate.confidence,
            seed=evidence.seed,
            positive=evidence.positive,
            resamples=evidence.resamples,
            weights=evidence.weights,
            codes=evidence.clusters,
        )
        parts += [part] if part is not None else []
    return tuple(parts)


def _anchor(evidence: GateEvidence, gate: Gate) -> AnchorResult | None:
    return judge_anchor(
        evidence.anchor,
        gate,
        evidence.metric,
        positive=evidence.positive,
        seed=evidence.seed,
        resamples=evidence.resamples,
    )


def _guards(evidence: GateEvidence, gate: Gate, value: ValueResult | None) -> tuple[GuardResult, ...]:
    mine, numbers = evidence.challenger.scored, evidence.metric in REGRESSION
    theirs = evidence.champion.scored if evidence.champion is not None else None
    found = [
        judge_disagreement(mine, theirs, gate.max_disagreement)
        if theirs is not None and not numbers
        else None,
        judge_label_shift(evidence.train_labels, mine.y_true, gate.max_label_shift, numbers=numbers),
        *judge_fairness(
            mine,
            theirs,
            evidence.groups,
            gate,
            positive=evidence.positive,
            numbers=numbers,
            weights=evidence.weights,
        ),
        judge_value(value, gate),
    ]
    return tuple(one for one in found if one is not None)


def _calibration(evidence: GateEvidence) -> CalibrationResult | None:
    theirs = evidence.champion.scored if evidence.champion is not None else None
    return calibration_of(
        evidence.challenger.scored, theirs, positive=evidence.positive, weights=evidence.weights
    )


def _refused(reasons: list[str], evidence: GateEvidence, gate: Gate) -> GateDecision:
    rows = len(evidence.challenger.scored.y_true)
    return GateDecision(
        "refuse",
        tuple(reasons),
        NAN,
        NAN,
        NAN,
        NAN,
        NAN,
        rows,
        metric=evidence.metric,
        confidence=gate.confidence,
        rule=gate.rule,
    )
