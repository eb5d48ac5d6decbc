"""Charts of a replay, as plain plotly figures: data and layout that JSON can hold.

Built by hand instead of with plotly's classes, so that the rules of the picture are pure and cheap to test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from tasks.core.replay.summary import Summary, WindowResult, rounded, shown

Figure = dict[str, Any]  # Any: plotly's own JSON

INK, SOFT, GRID = "#1f2a24", "#66736b", "#e6ebe7"
LOOP, NEVER = "#17784a", "#9aa5a0"
HARMFUL, HARMLESS = "rgba(200, 66, 48, 0.09)", "rgba(60, 110, 180, 0.08)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

# Lanes under the score, from the top down: name, colour, marker, hover text, and which windows stand in it.
_Lane = tuple[str, str, str, str, Callable[[WindowResult], bool]]
LANES: tuple[_Lane, ...] = (
    ("drift", "#3c6eb4", "triangle-up", "inputs drifted", lambda w: w.drift == "drift"),
    ("decay", "#d9822b", "triangle-down", "score below its promise", lambda w: w.performance == "drift"),
    ("blocked", "#c84230", "square", "bad data: blocked", lambda w: w.blocked),
    (
        "kept",
        "#7a6f9b",
        "circle-open",
        "retrained, champion kept",
        lambda w: w.outcome in {"kept", "refused"},
    ),
    ("promoted", LOOP, "star", "retrained and promoted", lambda w: w.outcome == "promoted"),
)


def replay_figure(summary: Summary) -> Figure:
    """Return the scores over time, with a lane per kind of event and the versions along the bottom."""
    windows = summary.windows
    middles = [_middle(window) for window in windows]
    hover = [_hover(window) for window in windows]
    data: list[Figure] = [
        _line("never retrained", middles, [w.never_score for w in windows], NEVER, dash="dot", text=None),
        _line("the loop", middles, [w.score for w in windows], LOOP, dash="solid", text=hover),
        *_lanes(windows),
    ]
    layout = base_layout() | {
        "xaxis": base_axis() | {"anchor": "free", "position": 0, "type": "date", "showgrid": False},
        "yaxis": base_axis()
        | {"domain": [0.38, 1], "title": {"text": summary.metric, "standoff": 6}, "range": _range(windows)},
        "yaxis2": base_axis()
        | {
            "domain": [0.07, 0.33],
            "range": [-0.6, len(LANES) - 0.4],
            "tickvals": list(range(len(LANES))),
            "ticktext": [lane[0] for lane in reversed(LANES)],
            "showgrid": True,
            "fixedrange": True,
        },
        "shapes": [*_planted_shapes(windows), *_promotion_lines(windows), *_version_shapes(windows)],
        "annotations": [*_planted_labels(windows), *_version_labels(windows)],
    }
    return {"data": data, "layout": layout}


def version_spans(windows: Sequence[WindowResult]) -> Iterator[tuple[int, WindowResult, WindowResult]]:
    """Yield each version that served with its first and last window of one unbroken stretch."""
    for version, stretch in groupby(windows, key=lambda window: window.version):
        members = list(stretch)
        if version is not None:
            yield version, members[0], members[-1]


def planted_spans(windows: Sequence[WindowResult]) -> Iterator[tuple[WindowResult, WindowResult]]:
    """Yield first and last window of each stretch with the same planted trouble; calm is no trouble."""
    for kind, stretch in groupby(windows, key=lambda window: window.planted):
        members = list(stretch)
        if kind and kind != "calm":
            yield members[0], members[-1]


def base_layout() -> Figure:
    """Return what every chart of this project shares: fonts, margins, legend."""
    return {
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 64, "r": 12, "t": 44, "b": 44},
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "#ffffff", "font": {"color": INK}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }


def base_axis() -> Figure:
    """Return what every axis shares."""
    return {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "tickfont": {"color": SOFT},
        "automargin": False,
    }


def _line(
    name: str, x: list[str], y: list[float | None], color: str, *, dash: str, text: list[str] | None
) -> Figure:
    template = "%{text}<extra></extra>" if text else name + ": %{y:.3f}<extra></extra>"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": [rounded(value) for value in y],
        "text": text,
        "hovertemplate": template,
        "line": {"color": color, "width": 2.5 if dash == "solid" else 2, "dash": dash},
        "marker": {"size": 6 if dash == "solid" else 4, "color": color},
        "connectgaps": False,
    }


def _lanes(windows: Sequence[WindowResult]) -> Iterator[Figure]:
    for height, (name, color, symbol, meaning, stands) in enumerate(reversed(LANES)):
        members = [window for window in windows if stands(window)]
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [_middle(window) for window in members],
            "y": [height] * len(members),
            "yaxis": "y2",
            "text": [f"<b>{meaning}</b><br>{_hover(window)}" for window in members],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"symbol": symbol, "size": 11, "color": color, "line": {"width": 2, "color": color}}
            if symbol.endswith("-open")
            else {"symbol": symbol, "size": 11, "color": color},
            "showlegend": False,
        }


def _middle(window: WindowResult) -> str:
    return (window.start + (window.end - window.start) / 2).isoformat()


def _hover(window: WindowResult) -> str:
    lines = [
        f"{window.start:%d %b} – {window.end:%d %b %Y}",
        f"score {shown(window.score)}, never retrained {shown(window.never_score)}",
        f"version {window.version}" if window.version is not None else "no version",
        f"decision {window.decision}" + (f", {window.outcome}" if window.outcome else ""),
    ]
    return "<br>".join(lines)


def _range(windows: Sequence[WindowResult]) -> list[float] | None:
    known = [v for w in windows for v in (rounded(w.score), rounded(w.never_score)) if v is not None]
    if not known:
        return None
    pad = max(0.02, 0.08 * (max(known) - min(known)))
    return [min(known) - 3.5 * pad, max(known) + pad]  # room below for the names of what was planted


def _band(first: WindowResult, last: WindowResult, low: float, high: float, color: str) -> Figure:
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": first.start.isoformat(),
        "x1": last.end.isoformat(),
        "y0": low,
        "y1": high,
        "fillcolor": color,
        "line": {"width": 2, "color": "#ffffff"},
        "layer": "below",
    }


def _planted_shapes(windows: Sequence[WindowResult]) -> Iterator[Figure]:
    for first, last in planted_spans(windows):
        yield _band(first, last, 0.38, 1, HARMFUL if first.harmful else HARMLESS)


def _planted_labels(windows: Sequence[WindowResult]) -> Iterator[Figure]:
    for first, last in planted_spans(windows):
        yield _label(first, last, first.planted) | {
            "name": "planted",
            "y": 0.39,
            "yanchor": "bottom",
            "textangle": -90,
        }


def _promotion_lines(windows: Sequence[WindowResult]) -> Iterator[Figure]:
    for window in windows:
        if window.outcome == "promoted":
            end = window.end.isoformat()
            line = {"color": LOOP, "width": 1, "dash": "dot"}
            place = {"xref": "x", "yref": "paper", "x0": end, "x1": end, "y0": 0.07, "y1": 1}
            yield {"type": "line", "line": line, "layer": "below", **place}


def _version_shapes(windows: Sequence[WindowResult]) -> Iterator[Figure]:
    for index, (_, first, last) in enumerate(version_spans(windows)):
        yield _band(first, last, 0, 0.05, "#cfe5d8" if index % 2 == 0 else "#9fcbb3")


def _version_labels(windows: Sequence[WindowResult]) -> Iterator[Figure]:
    for version, first, last in version_spans(windows):
        share = (last.end - first.start) / (windows[-1].end - windows[0].start)
        name = "version" if share > 0.07 else "version, tight"
        yield _label(first, last, f"v{version}") | {"name": name, "y": 0.025}


def _label(first: WindowResult, last: WindowResult, text: str) -> Figure:
    return {
        "xref": "x",
        "yref": "paper",
        "x": (first.start + (last.end - first.start) / 2).isoformat(),
        "yanchor": "middle",
        "text": text,
        "showarrow": False,
        "font": {"size": 10.5, "color": SOFT},
    }
