"""Realised performance beside what the champion promised."""

from __future__ import annotations

import math

from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.records.drawing import interval
from tasks.core.records.text import fenced, number, said, table, title
from tasks.core.spec import ModelSpec


def performance_markdown(spec: ModelSpec, verdict: PerformanceVerdict) -> str:
    """Return realised performance with its interval, drawn against the promise and its limit."""
    rows = [
        (f"realised {spec.metric}", number(verdict.value)),
        ("interval", f"{number(verdict.low)} to {number(verdict.high)}"),
        ("promise", number(verdict.promise)),
        ("limit", number(verdict.limit)),
        ("labelled predictions", f"{verdict.rows:,}"),
    ]
    lines = [title(spec, verdict.outcome), "", said(verdict.reason), ""]
    return "\n".join([*lines, *_drawn(verdict), *table(("higher is better", ""), rows)])


def _drawn(verdict: PerformanceVerdict) -> list[str]:
    if not (math.isfinite(verdict.promise) and math.isfinite(verdict.limit)):
        return []
    line = interval(verdict.low, verdict.value, verdict.high, {verdict.promise: "│", verdict.limit: "┆"})
    key = "├─●─┤ realised and its interval   │ promise   ┆ limit"
    return [*fenced(f"{'worse':<22}{'better':>27}\n{line}\n\n{key}"), ""] if line else []
