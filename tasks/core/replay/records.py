"""Verdicts, comparisons and decisions as Markdown that a person reads later on the run page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from tasks.core.drift.verdict import DriftVerdict
from tasks.core.evaluation.gate import GateDecision
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.policy.decision import Decision
from tasks.core.spec import ModelSpec

_FIRST = {"drift": 0, "warn": 1, "undecided": 2, "ok": 3}


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


class Ended(Protocol):
    """How an attempt to retrain ended."""

    @property
    def action(self) -> str:
        """Promoted, kept, skipped, blocked and the like."""
        ...

    @property
    def attempt(self) -> str:
        """The id under which the attempt was claimed."""
        ...

    def sentence(self) -> str:
        """The end as one line."""
        ...


class Started(Protocol):
    """What became of the launch that a decision asked for."""

    @property
    def outcome(self) -> str:
        """How the retraining ended, or where it stands."""
        ...


def comparison_markdown(spec: ModelSpec, compared: Compared) -> str:
    """Return what the gate concluded, champion and challenger side by side, and the slices."""
    gate, mine, theirs = compared.decision, compared.metrics, compared.champion_metrics
    main = (spec.metric, gate.challenger_score, gate.champion_score)
    others = [(name, mine.get(name), theirs.get(name)) for name in {**mine, **theirs} if name != spec.metric]
    rows = [(name, number(one), number(other)) for name, one, other in (main, *others)]
    lines = [_title(spec, gate.outcome), "", *_bullets(gate.reasons), ""]
    lines += _table(("higher is better", "challenger", "champion"), rows)
    span = f"{number(gate.difference)} ({number(gate.low)} to {number(gate.high)})"
    lines += ["", f"Difference {span} on {gate.rows:,} rows that neither version has learnt from."]
    if gate.slices:
        found = [(s.column, s.value, f"{s.rows:,}", number(s.difference), s.outcome) for s in gate.slices]
        lines += ["", *_table(("slice", "value", "rows", "difference", "outcome"), found)]
    return "\n".join(lines)


def drift_markdown(spec: ModelSpec, verdict: DriftVerdict) -> str:
    """Return the verdict, and one line per feature and measure, the ones that moved first."""
    results = [result for feature in verdict.features for result in feature.measures]
    results.sort(key=lambda r: (_FIRST[r.outcome], r.feature, r.measure))
    rows = [
        (r.feature, r.measure, r.outcome, number(r.value), number(r.threshold), number(r.p_value), r.reason)
        for r in results
    ]
    head = ("feature", "measure", "outcome", "value", "threshold", "p-value", "reason")
    budget = f"{verdict.rows:,} rows against {verdict.reference_rows:,} of the reference; "
    budget += f"detector {verdict.detector}, false alarms budgeted at {verdict.false_alarms:g} per check."
    return "\n".join(
        [_title(spec, verdict.outcome), "", said(verdict.reason), "", budget, "", *_table(head, rows)]
    )


def performance_markdown(spec: ModelSpec, verdict: PerformanceVerdict) -> str:
    """Return realised performance with its interval, beside what the champion promised."""
    rows = [
        (f"realised {spec.metric}", number(verdict.value)),
        ("interval", f"{number(verdict.low)} to {number(verdict.high)}"),
        ("promise", number(verdict.promise)),
        ("limit", number(verdict.limit)),
        ("labelled predictions", f"{verdict.rows:,}"),
    ]
    return "\n".join(
        [_title(spec, verdict.outcome), "", said(verdict.reason), "", *_table(("higher is better", ""), rows)]
    )


def decision_markdown(spec: ModelSpec, decision: Decision, *, outcome: str = "") -> str:
    """Return the decision record: what, why, how a launched retraining ended, and the evidence as JSON."""
    lines = [_title(spec, f"{decision.kind} ({decision.cause})"), "", *_bullets(decision.reasons), ""]
    if outcome:
        lines += [f"The retraining it asked for: **{said(outcome)}**.", ""]
    if decision.escalate:
        lines += ["**A person must look:** the loop cannot help itself here.", ""]
    # A fence inside a reason must not end ours.
    evidence = json.dumps(decision.evidence, indent=1, default=str).replace("```", "'''")
    return "\n".join([*lines, f"id `{decision.id}`", "", "```json", evidence, "```"])


def ended_markdown(spec: ModelSpec, ended: Ended) -> str:
    """Return how an attempt to retrain ended."""
    return "\n".join(
        [_title(spec, ended.action), "", said(ended.sentence()), "", f"attempt `{ended.attempt}`"]
    )


def number(value: float | None) -> str:
    """Return the number with four digits, or a dash for what could not be told.

    Example:
        >>> number(0.123456), number(float("nan")), number(None)
        ('0.1235', '–', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def said(value: object) -> str:
    r"""Return the value as one line of Markdown that fits a table cell and is never markup.

    Example:
        >>> print(said("a|b <c>"))
        a\|b \<c\>
    """
    return re.sub(r"([\\|`*<>\[\]])", r"\\\1", " ".join(str(value).split()))


def _title(spec: ModelSpec, text: str) -> str:
    return f"## {said(spec.name)}: {said(text)}"


def _bullets(reasons: Sequence[str]) -> list[str]:
    return [f"- {said(reason)}" for reason in reasons]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(said(cell) for cell in row) + " |" for row in rows)]
