"""Champion and challenger side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from tasks.core.evaluation.margins import margin_of
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.records.drawing import interval
from tasks.core.records.gate_parts import parts_markdown, spanned
from tasks.core.records.text import Ready, bullets, fenced, number, said, signed, table, title
from tasks.core.spec import ModelSpec

_WORDS = {
    "ask": "good enough on the newest rows, but something speaks against it: a person decides",
    "keep": "the champion stays: the challenger is not good enough",
    "undecided": "the champion stays: not enough evidence",
    "refuse": "the champion stays: no judgement possible",
}

_PASSED = {
    "auto": "the challenger becomes champion",
    "manual": "the challenger passed and waits for a person",
    "dry_run": "the challenger would become champion",
}


class Compared(Protocol):
    """A gate's decision beside the usual metrics of both versions, by metric name."""

    @property
    def decision(self) -> GateDecision:
        """What the gate concluded."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """The challenger's metrics."""
        ...

    @property
    def champion_metrics(self) -> Mapping[str, float]:
        """The champion's metrics on the same rows; empty without a champion."""
        ...


def comparison_markdown(spec: ModelSpec, compared: Compared) -> str:
    """Return what the gate concluded, the difference drawn, both versions' metrics, and the slices."""
    gate = compared.decision
    words = _PASSED[spec.gate.promotion] if gate.outcome == "promote" else _WORDS[gate.outcome]
    lines = [title(spec, f"{gate.outcome}, {words}"), "", *bullets(gate.reasons), ""]
    lines += _drawn(spec, gate)
    lines += _metrics(spec, compared)
    lines += parts_markdown(gate)
    if gate.slices:
        found = [
            (s.column, s.value, f"{s.rows:,}", spanned(s.difference, s.low, s.high), s.outcome)
            for s in gate.slices
        ]
        lines += ["", *table(("slice", "value", "rows", "difference", "outcome"), found)]
    return "\n".join(lines)


def _metrics(spec: ModelSpec, compared: Compared) -> list[str]:
    gate, mine, theirs = compared.decision, compared.metrics, compared.champion_metrics
    main = (spec.metric, gate.challenger_score, gate.champion_score)
    others = [(name, mine.get(name), theirs.get(name)) for name in {**mine, **theirs} if name != spec.metric]
    rows = [(name, number(one), number(other), _trend(one, other)) for name, one, other in (main, *others)]
    return table(("higher is better", "challenger", "champion", "difference"), rows)


def _drawn(spec: ModelSpec, gate: GateDecision) -> list[str]:
    """Return the difference as a sentence, and drawn against what the gate asks of it."""
    first = not math.isfinite(gate.champion_score)
    against = "a guess" if first else "the champion"
    span = f"{number(gate.difference)} ({number(gate.low)} to {number(gate.high)})"
    text = f"Difference to {against}: {span} on {gate.rows:,} rows that neither version has learnt from."
    margin = 0.0 if first else margin_of(spec.gate.margin, spec.metric, gate.champion_score)
    marks = {-margin: "┆", 0.0: "│"} if margin else {0.0: "│"}
    line = interval(gate.low, gate.difference, gate.high, marks)
    if not line:
        return [said(text), ""]
    sides = f"{'worse':<22}{'better':>27}"
    key = "│ no difference   ├─●─┤ difference and its interval"
    key += "" if len(marks) == 1 else f"   ┆ the margin, -{margin:.4g}"
    return [said(text), "", *fenced("\n".join([sides, line, "", key])), ""]


def _trend(one: float | None, other: float | None) -> Ready:
    if one is None or other is None or not math.isfinite(one - other):
        return Ready("–")
    sign = "▲" if one > other else "▼" if one < other else "="
    return Ready(f"{sign} {signed(one - other)}")
