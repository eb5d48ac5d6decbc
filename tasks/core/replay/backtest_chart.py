"""Charts of a backtest, as plain plotly figures: the frontier, scores over time, and how models age."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby, pairwise
from typing import Any

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.replay.advice import LOOP as LOOP_NAME
from tasks.core.replay.advice import Advice
from tasks.core.replay.advice_text import amount
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.chart import INK, LOOP, NEVER, SOFT, Figure, base_axis, base_layout
from tasks.core.replay.frontier import calendar_step, knots, line_weights
from tasks.core.replay.summary import plural, rounded

PARTNER, VARIANT, FRESH = "#b4690e", "#7a6f9b", "#3c6eb4"
_PLAIN_HOVER = "%{text}<extra></extra>"


def frontier_figure(result: Backtest, advice: Advice) -> Figure:
    """Return score against retrainings: the line of fixed calendars, the loop, and marked other policies."""
    points = knots(result.policies)
    most = max((policy.retrainings for policy in result.policies), default=0) or 1
    data: list[Figure] = []
    if points:
        data.append(
            _points(points, [short_name(policy.name) for policy in points], NEVER)
            | {"mode": "lines+markers+text", "name": "fixed calendars", "line": {"color": NEVER, "width": 2}}
        )
    marks = policy_marks(result.policies)
    others = [policy for policy in result.policies if policy.name in marks and policy.mean_score is not None]
    if others:
        marker = {
            "symbol": "circle-open",
            "size": 10,
            "color": VARIANT,
            "line": {"width": 2, "color": VARIANT},
        }
        labels = [marks[policy.name] for policy in others]
        data.append(_points(others, labels, VARIANT) | {"name": "other policies", "marker": marker})
    loop = result.policy(LOOP_NAME)
    if loop is not None and loop.mean_score is not None:
        held = advice.policy(LOOP_NAME)
        data.append(
            _points([loop], ["loop"], LOOP)
            | {
                "name": "the loop",
                "marker": {"size": 15, "color": LOOP},
                "textfont": {"color": LOOP, "size": 13},
                "error_y": _error_bar(held.above) if held else {"visible": False},
            }
        )
    layout = base_layout() | {
        "xaxis": base_axis() | {"title": {"text": "retrainings"}, "range": [-0.05 * most, 1.06 * most]},
        "yaxis": base_axis() | {"title": {"text": f"mean {result.metric} per window", "standoff": 6}},
    }
    return {"data": data, "layout": layout}


def policy_marks(policies: Sequence[PolicyResult]) -> dict[str, str]:
    """Return a letter for every policy that is neither a fixed calendar nor the loop, in the order given."""
    names = [p.name for p in policies if calendar_step(p.name) is None and p.name != LOOP_NAME]
    return {name: chr(ord("a") + place) if place < 26 else str(place) for place, name in enumerate(names)}


def short_name(name: str) -> str:
    """Return how a fixed calendar is written beside its point: never, or the windows between retrainings."""
    step = calendar_step(name)
    return name if not step else str(step)


def scores_figure(result: Backtest, advice: Advice) -> Figure:
    """Return scores per window, windows with a second opinion, the loop's debt, and the version that served.

    Beside the loop stand never retraining and the fixed calendar with about as many retrainings.
    """
    edges = _edges(result)
    middles = [_between(*pair) for pair in pairwise(edges)]
    loop, policies = result.policy(LOOP_NAME), compared_policies(result)
    data = [_line(policy, middles) for policy in policies]
    layout = base_layout() | {
        "xaxis": base_axis() | {"anchor": "free", "position": 0, "showgrid": False} | _time_axis(result),
        "yaxis": base_axis() | {"domain": [0.36, 1], "title": {"text": result.metric, "standoff": 6}},
        "shapes": [],
        "annotations": [],
    }
    if loop is not None and loop in policies:
        data += _partners(loop, middles)
        layout["shapes"] = list(_version_shapes(loop, edges))
        layout["annotations"] = list(_version_labels(loop, edges))
        if loop.debts:
            data.append(_debts(loop, middles))
            title = {"text": "debt", "standoff": 6}
            layout["shapes"] += list(_price_line(advice))
            layout["yaxis2"] = base_axis() | {"domain": [0.09, 0.29], "title": title, "rangemode": "tozero"}
    return {"data": data, "layout": layout}


def compared_policies(result: Backtest) -> list[PolicyResult]:
    """Return those policies of never, the calendar nearest to the loop, and the loop that have all scores."""
    policies = [result.policy("never"), _nearest_calendar(result), result.policy(LOOP_NAME)]
    return [policy for policy in policies if policy is not None and len(policy.scores) == result.windows > 0]


def staleness_figure(result: Backtest) -> Figure:
    """Return what a model loses by age beside the newest; larger points rest on more windows."""
    most = max((windows for _, _, windows in result.staleness_curve), default=1) or 1
    ages, losses, windows = (
        (list(part) for part in zip(*result.staleness_curve, strict=True))
        if (result.staleness_curve)
        else ([], [], [])
    )
    hover = [
        f"{plural(age, 'window')} old: {loss:.3f} times the newest version's loss ({plural(count, 'window')})"
        for age, loss, count in result.staleness_curve
    ]
    curve = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": ages,
        "y": [rounded(loss) for loss in losses],
        "text": hover,
        "hovertemplate": _PLAIN_HOVER,
        "line": {"color": LOOP, "width": 2},
        "marker": {"color": LOOP, "size": [5 + 9 * math.sqrt(count / most) for count in windows]},
        "showlegend": False,
    }
    fresh = {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": 1, "y1": 1,
        "line": {"color": SOFT, "width": 1.5, "dash": "dot"},
    }  # fmt: skip
    layout = base_layout() | {
        "xaxis": base_axis() | {"title": {"text": "age of the model in windows"}},
        "yaxis": base_axis() | {"title": {"text": "loss, newest = 1", "standoff": 6}},
        "shapes": [fresh],
    }
    return {"data": [curve], "layout": layout}


def served_spans(loop: PolicyResult) -> Iterator[tuple[int, int, int]]:
    """Yield each version with its first and last window of one unbroken stretch."""
    for version, stretch in groupby(enumerate(loop.versions), key=lambda pair: pair[1]):
        places = [place for place, _ in stretch]
        yield version, places[0], places[-1]


def _points(policies: Sequence[PolicyResult], labels: Sequence[str], color: str) -> Figure:
    scores = [amount(policy.mean_score, abs(policy.mean_score or 0.0)) for policy in policies]
    hover = [
        f"{policy.name}: {score} with {plural(policy.retrainings, 'retraining')}"
        for policy, score in zip(policies, scores, strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [policy.retrainings for policy in policies],
        "y": [rounded(policy.mean_score) for policy in policies],
        "text": list(labels),
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
        "textposition": "top center"
        if color == LOOP
        else "bottom center"
        if color == NEVER
        else "middle right",
        "cliponaxis": False,
        "textfont": {"color": INK, "size": 12},
        "marker": {"size": 9, "color": SOFT if color == NEVER else color},
    }


def _error_bar(above: Interval) -> Figure:
    """Return the interval of the distance from the line, drawn about the loop's own point."""
    if not above.is_known:
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [above.high - above.value],
        "arrayminus": [above.value - above.low],
        "color": LOOP,
        "thickness": 1.5,
        "width": 5,
    }


def _nearest_calendar(result: Backtest) -> PolicyResult | None:
    """Return the calendar, other than never, whose retrainings are nearest to the loop's."""
    loop = result.policy(LOOP_NAME)
    calendars = [policy for policy in knots(result.policies) if policy.retrainings > 0]
    if loop is None or not calendars:
        return calendars[-1] if calendars else None
    weights = line_weights(result.policies, loop.retrainings) or {}
    near = [policy for policy in calendars if policy.name in weights]
    return min(near or calendars, key=lambda policy: abs(policy.retrainings - loop.retrainings))


def _line(policy: PolicyResult, middles: Sequence[Any]) -> Figure:  # Any: time or number
    color = {"never": NEVER, LOOP_NAME: LOOP}.get(policy.name, FRESH)
    dash = "dot" if policy.name == "never" else "solid"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": policy.name,
        "x": list(middles),
        "y": [rounded(score) for score in policy.scores],
        "hovertemplate": f"{policy.name}: %{{y:.4g}}<extra></extra>",
        "line": {"color": color, "width": 2.5 if color == LOOP else 1.5, "dash": dash},
        "connectgaps": False,
    }


def _partners(loop: PolicyResult, middles: Sequence[Any]) -> list[Figure]:  # Any: time or number
    """Return a mark on the loop's line in every window in which an earlier version had half the vote."""
    places = [place for place, partner in enumerate(loop.partners) if partner is not None]
    if not places:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "with a second opinion",
            "x": [middles[place] for place in places],
            "y": [rounded(loop.scores[place]) for place in places],
            "text": [f"v{loop.versions[k]} with v{loop.partners[k]} at half" for k in places],
            "hovertemplate": _PLAIN_HOVER,
            "marker": {"symbol": "diamond", "size": 8, "color": PARTNER},
        }
    ]


def _debts(loop: PolicyResult, middles: Sequence[Any]) -> Figure:  # Any: time or number
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "staleness debt",
        "x": list(middles[: len(loop.debts)]),
        "y": [rounded(debt) for debt in loop.debts],
        "yaxis": "y2",
        "fill": "tozeroy",
        "fillcolor": "rgba(180, 105, 14, 0.14)",
        "line": {"color": PARTNER, "width": 1.5, "shape": "hv"},
        "hovertemplate": "debt %{y:.3f} windows of a fresh model's loss<extra></extra>",
        "showlegend": False,
    }


def _price_line(advice: Advice) -> Iterator[Figure]:
    """Yield the debt at which the loop retrains, where the price is one of windows."""
    if advice.price_windows is not None:
        yield {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2",
            "y0": advice.price_windows, "y1": advice.price_windows,
            "line": {"color": PARTNER, "width": 1, "dash": "dot"},
        }  # fmt: skip


def _version_shapes(loop: PolicyResult, edges: Sequence[Any]) -> Iterator[Figure]:  # Any: time or number
    for index, (_, first, last) in enumerate(served_spans(loop)):
        yield {
            "type": "rect", "xref": "x", "yref": "paper", "x0": edges[first], "x1": edges[last + 1],
            "y0": 0, "y1": 0.05, "fillcolor": "#cfe5d8" if index % 2 == 0 else "#9fcbb3",
            "line": {"width": 1, "color": "#ffffff"}, "layer": "below",
        }  # fmt: skip


def _version_labels(loop: PolicyResult, edges: Sequence[Any]) -> Iterator[Figure]:  # Any: time or number
    for version, first, last in served_spans(loop):
        share = (last + 1 - first) / max(1, len(edges) - 1)
        if share > 0.03:  # narrower than its label
            yield {
                "xref": "x", "yref": "paper", "x": _between(edges[first], edges[last + 1]), "y": 0.025,
                "yanchor": "middle", "text": f"v{version}", "showarrow": False,
                "name": "version" if share > 0.09 else "version, tight",
                "font": {"size": 10.5, "color": SOFT},
            }  # fmt: skip


def _edges(result: Backtest) -> list[Any]:  # Any: ISO times, or numbers of windows
    """Return the borders of the windows, one more than there are windows."""
    starts = result.starts
    if len(starts) != result.windows or len(starts) < 2:
        return [float(number) for number in range(1, result.windows + 2)]
    return [start.isoformat() for start in (*starts, starts[-1] + (starts[-1] - starts[-2]))]


def _time_axis(result: Backtest) -> Figure:
    if len(result.starts) == result.windows and result.windows > 1:
        return {"type": "date"}
    return {"title": {"text": "window"}}


def _between(low: Any, high: Any) -> Any:  # Any: ISO times, or numbers of windows
    if isinstance(low, str):
        first, last = datetime.fromisoformat(low), datetime.fromisoformat(high)
        return (first + (last - first) / 2).isoformat()
    return (low + high) / 2
