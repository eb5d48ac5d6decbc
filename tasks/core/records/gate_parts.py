"""What a comparison rests on besides the metric: trusted rows, cheap models, groups, money."""

from __future__ import annotations

import math

from tasks.core.evaluation.verdicts import (
    AnchorResult,
    CalibrationResult,
    GateDecision,
    GuardResult,
    ValueResult,
    simpler_words,
)
from tasks.core.records.text import Ready, bullets, number, said, signed, table

_RULES = {
    "not_worse": "promoted unless it is shown to be worse",
    "ahead": "promoted when its score is the better one",
    "better": "promoted when it is shown to be better",
}
_MARKS = {"ok": "✓", "worse": "✗", "undecided": "?"}


def parts_markdown(gate: GateDecision) -> list[str]:
    """Return a line or a row for everything the gate looked at besides the metric; empty without any."""
    checks = [
        *([_anchor(gate.anchor)] if gate.anchor else []),
        *(_guard(one) for one in gate.guards),
        *(
            (
                Ready(_MARKS[one.outcome]),
                f"better than the {one.name} model",
                spanned(one.difference, one.low, one.high),
                f"which scores {number(one.score)}",
            )
            for one in gate.baselines
        ),
    ]
    lines = ["", *table(("", "also looked at", "found", "against"), checks)] if checks else []
    notes = [*_simpler(gate), *_evidence(gate), *_calibration(gate.calibration), *_value(gate.value)]
    return [*lines, *(["", *bullets(notes)] if notes else [])]


def spanned(value: float, low: float, high: float) -> str:
    """Return a difference with its interval, or as much of it as is known."""
    return f"{signed(value)} ({signed(low)} to {signed(high)})" if math.isfinite(low) else signed(value)


def _anchor(found: AnchorResult) -> tuple[object, ...]:
    since = f", fixed {found.fixed_at:%Y-%m-%d}" if found.fixed_at else ""
    best = f"version {found.keeper_version}" if found.keeper_version else "no version"
    return (
        Ready(_MARKS[found.outcome]),
        f"trusted rows ({found.rows:,}{since})",
        f"{number(found.score)}, {spanned(found.difference, found.low, found.high)}",
        f"{best} with {number(found.keeper_score)}; a loss of {found.tolerance:g} counts",
    )


def _guard(one: GuardResult) -> tuple[object, ...]:
    name = f"{one.name}: {one.detail}" if one.detail else one.name
    return Ready(_MARKS[one.outcome]), name, number(one.value), f"limit {number(one.limit)}"


def _simpler(gate: GateDecision) -> list[str]:
    found = [base for base in gate.baselines if base.name in gate.simpler]
    return [f"{simpler_words(base)}; ask what the estimator adds" for base in found]


def _evidence(gate: GateDecision) -> list[str]:
    found = []
    if gate.method:
        sure = f", {gate.p_better:.1%} sure to be better" if math.isfinite(gate.p_better) else ""
        found.append(f"interval by {gate.method} at {gate.confidence:.0%}{sure}")
    if gate.clusters is not None:
        found.append(
            f"{gate.clusters:,} clusters of rows, design effect {gate.design_effect:.2g}: "
            f"{gate.rows:,} rows tell as much as {gate.rows / gate.design_effect:,.0f} independent ones"
        )
    if gate.rule:
        found.append(f"rule {gate.rule}: {_RULES.get(gate.rule, gate.rule)}")
    if gate.mcnemar:
        one = gate.mcnemar
        found.append(
            f"{one.only_challenger:,} rows only the challenger gets right, {one.only_champion:,} only the "
            f"champion (McNemar p {one.p_value:.3g})"
        )
    if gate.needed_rows and gate.outcome == "undecided":
        found.append(f"about {gate.needed_rows:,} rows would tell, at this difference and disagreement")
    return found


def _calibration(found: CalibrationResult | None) -> list[str]:
    if found is None or not math.isfinite(found.error):
        return []
    theirs = f" (champion {number(found.champion_error)})" if math.isfinite(found.champion_error) else ""
    slope = f", slope {number(found.slope)}" if math.isfinite(found.slope) else ""
    return [f"calibration error {number(found.error)}{theirs}{slope}"]


def _value(found: ValueResult | None) -> list[str]:
    if found is None or not math.isfinite(found.per_row):
        return []
    unit = f" {said(found.currency)}" if found.currency else ""
    gain = spanned(*(1000 * one for one in (found.difference, found.low, found.high)))
    return [f"worth per 1,000 rows: {number(1000 * found.per_row)}{unit}, against the champion {gain}{unit}"]
