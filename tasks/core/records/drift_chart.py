"""How far a feature stood from its limit, window by window: one small drawing each, as plain coordinates.

The page draws them itself, so a report weighs what its numbers weigh: there is one for every window, and a
charting library in each would be five megabytes of the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from statistics import median_low

from tasks.core.records.drift_rows import FeatureCheck, FeatureRow
from tasks.core.records.drift_words import named, told, when
from tasks.core.records.text import number
from tasks.core.window import Window

MOST = 6  # features that are drawn; our choice: two rows of three
WIDTH, HEIGHT = 320, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 8, 8, 20
_FURTHEST = 6.0  # times the limit; what lies further out is drawn at the edge, and told in full


@dataclass(frozen=True)
class Point:
    """One window: where it stands, what it concluded and what it says in full."""

    x: float
    y: float
    outcome: str
    title: str
    now: bool = False


@dataclass(frozen=True)
class Trend:
    """A feature over time; the height is its measure as a multiple of the measure's limit.

    `paths` are runs of windows without a gap, as SVG path data; `changes` where another version's reference
    took over, with its name.
    """

    name: str
    said: str
    points: tuple[Point, ...]
    paths: tuple[str, ...]
    limit_y: float
    floor_y: float
    top: str
    first: str
    last: str
    changes: tuple[tuple[float, str], ...]
    step: float  # width that belongs to one window, for pointing at it


def trends(history: Sequence[FeatureCheck], features: Sequence[str]) -> tuple[Trend, ...]:
    """Return one drawing per feature, on one time scale; a feature without any row has none.

    Args:
        history: Rows of any features, in any order; one per feature and window.
        features: Which are drawn, at most six, the most important first.
    """
    windows = sorted({one.window for one in history})
    if not windows:
        return ()
    versions = {one.window: one.version for one in history}
    rows = {(one.row.feature, one.window): one.row for one in history}
    drawn = [name for name in features if any((name, window) in rows for window in windows)]
    return tuple(_trend(name, windows, rows, versions) for name in drawn[:MOST])


def _trend(
    name: str,
    windows: Sequence[Window],
    rows: Mapping[tuple[str, Window], FeatureRow],
    versions: Mapping[Window, int | None],
) -> Trend:
    mine = [(window, row) for window in windows if (row := rows.get((name, window)))]
    heights = [height for _, row in mine if (height := _height(row)) is not None]
    top = min(_FURTHEST, max([1.5, *heights]))
    points = [_point(window, row, windows, top) for window, row in mine]
    return Trend(
        name=named(name),
        said=_size(mine[-1][1]),
        points=tuple(points),
        paths=tuple(_paths(mine, points, _usual_step(windows))),
        limit_y=_y(1.0, top),
        floor_y=_y(0.0, top),
        top=f"{top:.2g}×",
        first=_date(windows[0]),
        last=_date(windows[-1]),
        changes=tuple(_changes(windows, versions)),
        step=round((WIDTH - _LEFT - _RIGHT) / max(len(windows), 1), 1),
    )


def _point(window: Window, row: FeatureRow, windows: Sequence[Window], top: float) -> Point:
    height = _height(row)
    said = f"{when(window)}: {row.outcome}, {_size(row)}"
    if row.p_value is not None:
        said += f", p {number(row.p_value)}"
    if row.n is not None:
        said += f", {row.n:,} rows"
    at = _y(min(height or 0.0, top), top)
    return Point(_x(window, windows), at, row.outcome, said, window == windows[-1])


def _paths(mine: Sequence[tuple[Window, FeatureRow]], points: Sequence[Point], step: timedelta) -> list[str]:
    """Return runs of windows that were judged and follow each other without a missing one."""
    runs: list[list[Point]] = []
    before: Window | None = None
    for (window, row), point in zip(mine, points, strict=True):
        if _height(row) is None:
            before = None
            continue
        if before is None or window.start - before.start > 1.5 * step:
            runs.append([])
        runs[-1].append(point)
        before = window
    return ["M" + "L".join(f"{point.x:g},{point.y:g}" for point in run) for run in runs if len(run) > 1]


def _changes(windows: Sequence[Window], versions: Mapping[Window, int | None]) -> list[tuple[float, str]]:
    found = []
    for earlier, later in pairwise(windows):
        if versions[later] is not None and versions[later] != versions[earlier]:
            middle = (_x(earlier, windows) + _x(later, windows)) / 2
            found.append((round(middle, 1), f"v{versions[later]}"))
    return found


def _height(row: FeatureRow) -> float | None:
    return row.value / row.threshold if row.value is not None and row.threshold else None


def _size(row: FeatureRow) -> str:
    if row.measure is None:
        return told(row.reason)
    return f"{row.measure} {number(row.value)}, limit {number(row.threshold)}"


def _date(window: Window) -> str:
    clock = f" {window.start:%H:%M}" if window.length < timedelta(days=1) else ""
    return f"{window.start.day} {window.start:%b}{clock}"


def _usual_step(windows: Sequence[Window]) -> timedelta:
    gaps = [later.start - earlier.start for earlier, later in pairwise(windows)]
    return median_low(gaps) if gaps else windows[0].length


def _x(window: Window, windows: Sequence[Window]) -> float:
    span = windows[-1].start - windows[0].start
    part = (window.start - windows[0].start) / span if span else 0.5
    return round(_LEFT + 6 + part * (WIDTH - _LEFT - _RIGHT - 12), 1)


def _y(height: float, top: float) -> float:
    return round(HEIGHT - _BOTTOM - height / top * (HEIGHT - _TOP - _BOTTOM), 1)
