"""Realised performance beside what the champion promised."""

from __future__ import annotations

import math

from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.health.diagnosis import Diagnosis
from tasks.core.policy.label_shift import Branch, LabelShift
from tasks.core.records.drawing import interval
from tasks.core.records.text import fenced, number, said, table, title
from tasks.core.spec import ModelSpec

_BRANCHES: dict[Branch, str] = {
    "none": "nothing to explain",
    "fault": "suspected labelling fault",
    "population": "another population",
    "concept": "perhaps concept drift",
    "unexplained": "not explained by inputs or scores",
}


def performance_markdown(
    spec: ModelSpec, verdict: PerformanceVerdict, *, diagnosis: Diagnosis | None = None
) -> str:
    """Return realised performance, drawn against promise and limit, and how the labels moved.

    The diagnosis, where there is one, says what this and everything else that was checked mean together.
    """
    rows = [
        (f"realised {spec.metric}", number(verdict.value)),
        ("interval", f"{number(verdict.low)} to {number(verdict.high)}"),
        ("promise", number(verdict.promise)),
        ("limit", number(verdict.limit)),
        ("labelled predictions", f"{verdict.rows:,}"),
    ]
    lines = [title(spec, verdict.outcome), "", said(verdict.reason), ""]
    if diagnosis is not None:
        lines += [said(diagnosis.sentence()), ""]
    lines += [*_drawn(verdict), *table(("higher is better", ""), rows)]
    return "\n".join([*lines, *(_labels(verdict.labels) if verdict.labels else [])])


def _labels(shift: LabelShift) -> list[str]:
    rows = [
        ("outcome", f"{shift.outcome}, {_BRANCHES[shift.branch]}"),
        ("PSI", f"{number(shift.psi)}, drift from {number(shift.threshold)}"),
        ("Jensen-Shannon distance", number(shift.jensen_shannon)),
        ("labels that moved", "–" if shift.total_variation is None else f"{shift.total_variation:.1%}"),
        ("p-value", number(shift.p_value)),
        ("labels", f"{shift.rows:,} against {shift.reference_rows:,} ({shift.against})"),
    ]
    return ["", "### How the labels moved", "", said(shift.reason), "", *table(("labels", ""), rows)]


def _drawn(verdict: PerformanceVerdict) -> list[str]:
    if not (math.isfinite(verdict.promise) and math.isfinite(verdict.limit)):
        return []
    line = interval(verdict.low, verdict.value, verdict.high, {verdict.promise: "│", verdict.limit: "┆"})
    key = "├─●─┤ realised and its interval   │ promise   ┆ limit"
    return [*fenced(f"{'worse':<22}{'better':>27}\n{line}\n\n{key}"), ""] if line else []
