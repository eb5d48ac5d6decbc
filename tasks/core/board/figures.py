"""The board's figures as plain plotly: data and layout that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks.core.board.facts import Board, Line
from tasks.core.board.state import latency
from tasks.core.kpi.indicator import span
from tasks.core.records.drift_words import percent, when
from tasks.core.records.text import number

Figure = dict[str, Any]  # Any: plotly's own JSON

INK, SOFT, GRID, GREEN = "#1f2a24", "#66736b", "#e6ebe7", "#17784a"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
# Outcome: colour, marker. Shape and colour say the same, for those who see no colour and for print.
MARKS = {
    "ok": (GREEN, "circle"),
    "warn": ("#c17d10", "diamond"),
    "drift": ("#b3361f", "triangle-down"),
    "undecided": (SOFT, "circle-open"),
}
MOST_DOTS = 120
"""Windows that each have a dot of their own; our choice: more would make one thick line."""
MOST_LABELS = 12
"""Versions that are named on the time axis; our choice: more would lie over each other."""


def figures_of(board: Board) -> dict[str, Figure]:
    """Return every figure that has something to show, by name."""
    made = {"score": score_figure(board), "service": service_figure(board), "labels": labels_figure(board)}
    return {name: figure for name, figure in made.items() if figure["data"]}


def score_figure(board: Board) -> Figure:
    """Return the realised score with interval, promise and limit, and the versions along the time axis."""
    lines = [one for one in board.of("performance") if one.number("value") is not None]
    if not lines:
        return _figure([], {}, [])
    times, few = [_middle(one) for one in lines], len(lines) <= MOST_DOTS
    data = [
        *_band(lines, times),
        _path("promise", times, [one.number("promise") for one in lines], INK, dash="dot", shape="hvh"),
        _path(
            "lowest that keeps it",
            times,
            [one.number("limit") for one in lines],
            "#b3361f",
            dash="dash",
            shape="hvh",
        ),
        {
            **_path("realised", times, [one.number("value") for one in lines], GREEN),
            "mode": "lines+markers",
            "marker": {
                "opacity": 1,
                # Among many windows only those that are not well stand out.
                "size": [9 if few or one.outcome != "ok" else 3 for one in lines],
                "color": [MARKS.get(one.outcome, MARKS["undecided"])[0] for one in lines],
                "symbol": [MARKS.get(one.outcome, MARKS["undecided"])[1] for one in lines],
            },
            "customdata": [one.anchor for one in lines],
            "text": [_hover(board, one) for one in lines],
            "hovertemplate": "%{text}<extra></extra>",
        },
    ]
    return _figure(data, {"yaxis": _axis(board.metric or "score"), **_versions(board, times)}, lines)


def service_figure(board: Board) -> Figure:
    """Return latency as percentiles over requests and failures of every window."""
    lines = [one for one in board.of("service") if one.number("requests")]
    if not lines:
        return _figure([], {}, [])
    times = [_middle(one) for one in lines]
    anchors = [one.anchor for one in lines]
    tints = {"p50_ms": ("P50", "#9fcbb3"), "p95_ms": ("P95", "#4f9d77"), "p99_ms": ("P99", GREEN)}
    data = [
        {
            **_path(title, times, [latency(one, name) for one in lines], color),
            "mode": _mode(lines),
            "customdata": anchors,
            "hovertemplate": f"{title} %{{y:.3g}} ms<extra></extra>",
        }
        for name, (title, color) in tints.items()
    ]
    data = [one for one in data if any(value is not None for value in one["y"])]
    failed = [one.number("errors_5xx") for one in lines]
    data += [
        _bars("requests", times, [one.number("requests") for one in lines], "#c3ccc6", anchors),
        _bars("5xx", times, failed, "#b3361f", anchors),
    ]
    layout = {
        "yaxis": _axis("ms") | {"domain": [0.42, 1], "rangemode": "tozero"},
        "yaxis2": _axis("requests") | {"domain": [0, 0.3], "rangemode": "tozero"},
        "barmode": "overlay",
    }
    return _figure(data, layout, lines)


def labels_figure(board: Board) -> Figure:
    """Return the share of predictions whose label is known, and how long labels took."""
    lines = [one for one in board.of("labels") if one.number("coverage") is not None]
    if not lines:
        return _figure([], {}, [])
    times = [_middle(one) for one in lines]
    anchors = [one.anchor for one in lines]
    data = [
        {
            **_path("labels known", times, [one.number("coverage") for one in lines], GREEN),
            "mode": _mode(lines),
            "customdata": anchors,
            "text": [f"{when(one.window)}: {percent(one.number('coverage') or 0.0)} known" for one in lines],
            "hovertemplate": "%{text}<extra></extra>",
        }
    ]
    for name, title, color in (
        ("delay_p50_s", "delay P50", "#9fcbb3"),
        ("delay_p95_s", "delay P95", "#4f9d77"),
    ):
        waits = [one.number(name) for one in lines]
        if any(wait is not None for wait in waits):
            data.append(
                {
                    **_path(title, times, [None if wait is None else wait / 86_400 for wait in waits], color),
                    "yaxis": "y2",
                    "mode": _mode(lines),
                    "customdata": anchors,
                    "text": ["" if wait is None else f"{title} {span(wait)}" for wait in waits],
                    "hovertemplate": "%{text}<extra></extra>",
                }
            )
    layout = {
        "yaxis": _axis("labels known") | {"domain": [0.48, 1], "range": [0, 1.04], "tickformat": ".0%"},
        "yaxis2": _axis("days") | {"domain": [0, 0.36], "rangemode": "tozero"},
    }
    return _figure(data, layout, lines)


def _hover(board: Board, one: Line) -> str:
    low, high = number(one.number("low")), number(one.number("high"))
    return (
        f"{when(one.window)}<br>{plain(board.metric)} {number(one.number('value'))} ({low} to {high})"
        f"<br>version {one.version or '?'}, {one.number('rows') or 0:,.0f} labels: {plain(one.outcome)}"
    )


def plain(text: str) -> str:
    """Return the text without what plotly would read as markup.

    Example:
        >>> plain("<b>x</b>")
        '‹b›x‹/b›'
    """
    return text.replace("<", "‹").replace(">", "›").replace("&", "+")


def _band(lines: Sequence[Line], times: Sequence[str]) -> list[Figure]:
    """Return the interval as an area: its upper edge, and its lower edge filled up to it."""
    known = [
        (time, low, high)
        for time, one in zip(times, lines, strict=True)
        if (low := one.number("low")) is not None and (high := one.number("high")) is not None
    ]
    x = [time for time, _, _ in known]
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        {**edge, "y": [high for _, _, high in known], "showlegend": False},
        {
            **edge,
            "y": [low for _, low, _ in known],
            "fill": "tonexty",
            "fillcolor": "rgba(23, 120, 74, .15)",
            "name": "interval",
        },
    ]


def _versions(board: Board, times: Sequence[str]) -> Figure:
    """Return a line for each change of the version that serves, the latest ones with their names."""
    serving = [one for one in board.moves if one.serves]
    before = [one for one in serving if _iso(one.at) < times[0]][-1:]
    moves = [*before, *(one for one in serving if _iso(one.at) >= times[0])]
    shapes, notes = [], []
    for place, one in enumerate(moves):
        back = one.action == "rolled_back"
        color = "#b3361f" if back else GREEN
        at = max(_iso(one.at), times[0])  # what served before is named at the edge
        shapes.append(
            {
                "type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1,
                "line": {"color": color, "width": 1.2, "dash": "dot"},
            }
        )  # fmt: skip
        if place >= len(moves) - MOST_LABELS:
            notes.append(
                {
                    "name": "version", "x": at, "y": 1, "xref": "x", "yref": "paper", "yanchor": "bottom",
                    "text": f"{'↩ ' if back else ''}v{one.version}", "showarrow": False,
                    "font": {"color": color, "size": 12},
                }
            )  # fmt: skip
    return {"shapes": shapes, "annotations": notes}


def _path(
    name: str,
    x: Sequence[str],
    y: Sequence[float | None],
    color: str,
    *,
    dash: str = "solid",
    shape: str = "linear",
) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": [None if value is None else float(f"{value:.6g}") for value in y],
        "line": {"color": color, "width": 2 if dash == "solid" else 1.4, "dash": dash, "shape": shape},
        "hoverinfo": "skip",
    }


def _bars(
    name: str, x: Sequence[str], y: Sequence[float | None], color: str, anchors: Sequence[str]
) -> Figure:
    return {
        "type": "bar",
        "name": name,
        "x": list(x),
        "y": [None if value is None else float(f"{value:.6g}") for value in y],
        "yaxis": "y2",
        "marker": {"color": color},
        "customdata": list(anchors),
        "hovertemplate": f"%{{y:,.0f}} {name}<extra></extra>",
    }


def _mode(lines: Sequence[Line]) -> str:
    return "lines+markers" if len(lines) <= MOST_DOTS else "lines"


def _figure(data: Sequence[Mapping[str, Any]], more: Figure, lines: Sequence[Line]) -> Figure:
    # From the first window's start to the last one's end: a single window fills the axis, too.
    span = [_iso(lines[0].window.start), _iso(lines[-1].window.end)] if lines else None
    layout = {
        "font": {"family": FONT, "size": 13, "color": INK},
        "margin": {"l": 62, "r": 12, "t": 24 if more.get("annotations") else 8, "b": 36},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "xaxis": {"type": "date", "gridcolor": GRID, "zeroline": False, "range": span},
        "legend": {"orientation": "h", "y": -0.14, "x": 0},
        **more,
    }
    return {"data": [dict(one) for one in data], "layout": layout}


def _axis(title: str) -> Figure:
    return {
        "title": {"text": plain(title), "standoff": 8},
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
    }


def _middle(line: Line) -> str:
    return _iso(line.window.start + line.window.length / 2)


def _iso(moment: datetime) -> str:
    # Without a zone: plotly shows times as they are written, and all of ours are UTC.
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")
