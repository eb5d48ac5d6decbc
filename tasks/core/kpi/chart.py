"""How each week ended, as a figure."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from tasks.core.kpi.facts import Facts

COLORS = {
    "promoted": "#17784a",
    "kept": "#9fcbb3",
    "waiting": "#c9a227",
    "rejected": "#a86208",
    "refused": "#d98c5f",
    "rolled_back": "#b3361f",
    "blocked": "#7a1f10",
    "skipped": "#c3ccc6",
}
"""One colour per action of the ledger, in the order they are stacked."""


def weekly_figure(facts: Facts) -> dict[str, Any]:  # Any: a figure is a JSON tree
    """Return a stacked bar per week that is counted: how many decisions ended in which way."""
    weeks = _weeks(facts)
    most = max(Counter(_week_of(one.at, weeks) for one in facts.counted).values(), default=0)
    data = []
    for action, color in COLORS.items():
        counts = Counter(_week_of(one.at, weeks) for one in facts.counted if one.action == action)
        if counts:
            words = action.replace("_", " ")
            data.append(
                {
                    "type": "bar",
                    "name": words,
                    "x": [week.isoformat() for week in weeks],
                    "y": [counts.get(week, 0) for week in weeks],
                    "marker": {"color": color},
                    "hovertemplate": f"%{{y}} {words}, week of %{{x|%d %b %Y}}<extra></extra>",
                }
            )
    return {
        "data": data,
        "layout": {
            "barmode": "stack",
            "bargap": 0.15,
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2a24"},
            "margin": {"l": 50, "r": 10, "t": 10, "b": 40},
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "xaxis": {"type": "date", "gridcolor": "#e2e8e4"},
            "yaxis": {
                "title": {"text": "outcomes on record"},
                "dtick": 1 if most <= 10 else None,  # nothing happens half a time
                "gridcolor": "#e2e8e4",
            },
            "legend": {"orientation": "h", "y": -0.15},
        },
    }


def _weeks(facts: Facts) -> list[datetime]:
    """Return the Mondays of the time that is counted."""
    day = facts.since.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    count = max(1, -(-(facts.until - monday) // timedelta(weeks=1)))
    return [monday + timedelta(weeks=week) for week in range(count)]


def _week_of(moment: datetime, weeks: list[datetime]) -> datetime:
    return weeks[min(len(weeks) - 1, max(0, (moment - weeks[0]) // timedelta(weeks=1)))]
