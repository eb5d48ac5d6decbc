"""The scorecard as Markdown."""

from __future__ import annotations

from tasks.core.kpi.indicator import span
from tasks.core.kpi.measure import Scorecard
from tasks.core.records.text import said, table


def scorecard_markdown(card: Scorecard) -> str:
    """Return the indicators, how decisions ended, and how long incidents lasted."""
    rows = [(one.title, one.shown(), one.cases, one.meaning) for one in card.kpis]
    lines = [
        f"## {said(card.model)}: scorecard",
        "",
        f"{card.since:%Y-%m-%d} to {card.until:%Y-%m-%d %H:%M}Z, from the ledgers.",
        "",
        *table(("indicator", "value", "cases", "counted how"), rows),
    ]
    if card.actions:
        lines += ["", *table(("how decisions ended", "times"), card.actions)]
    if card.repairs:
        found = [
            (one.cause, one.ended, one.lasting, _span(one.median), _span(one.longest)) for one in card.repairs
        ]
        lines += ["", *table(("incidents", "ended", "lasting", "median length", "longest"), found)]
    return "\n".join(lines) + "\n"


def _span(seconds: float | None) -> str:
    return "–" if seconds is None else span(seconds)
