"""The verdicts of many windows as a calendar: hours by day, days by week, weeks by quarter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median_low

from tasks.core.records.drift_rows import PastVerdict
from tasks.core.records.drift_words import told, when
from tasks.core.window import Window

_HOUR, _DAY, _WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
_MOST = 400  # windows that are shown, checked or not
_WIDEST = 24  # cells of a row
SYMBOLS = {"ok": "✓", "warn": "!", "drift": "▲", "undecided": "?", "none": "–"}
MEANINGS = {
    "ok": "no drift",
    "warn": "a change worth watching",
    "drift": "drift",
    "undecided": "could not be judged",
    "none": "no check on record",
}


@dataclass(frozen=True)
class Cell:
    """One window: its outcome (`none` where no check is on record), all that it says, and a sign for it."""

    outcome: str
    title: str
    symbol: str
    now: bool = False


@dataclass(frozen=True)
class Line:
    """One row of the calendar; a cell is None where no window begins."""

    label: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Calendar:
    """Lines oldest first, each as wide as `heads`, and how often each outcome stands on them."""

    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    counts: tuple[tuple[str, int], ...]
    unit: str


def how_many(length: timedelta) -> int:
    """Return how many windows of this length fill a calendar: a week of hours, 13 weeks of days, a year."""
    return 168 if length < _DAY else 91 if length < _WEEK else 53


def calendar_of(verdicts: Sequence[PastVerdict]) -> Calendar:
    """Return the calendar of these verdicts, in any order; the newest window is marked.

    Windows are put at their start, in steps of the usual distance between two of them. A step without a
    verdict is a check that did not run, and shows as such; of two windows in one place the later shows.
    """
    found = {one.window.start: one for one in sorted(verdicts, key=lambda item: item.window.end)}
    starts = sorted(found)
    if not starts:
        return Calendar((), (), (), "")
    newest = found[starts[-1]].window
    step = _step(starts, newest.length)
    missing = _missing(starts, step)
    cells = {
        start: _cell(one, now=one.window == newest) for start, one in found.items() if start >= missing[0]
    }
    cells |= {start: _absent(Window(start, start + newest.length)) for start in missing[1]}
    heads, unit = _heads(step)
    lines: dict[datetime, list[Cell | None]] = {}
    for start in sorted(cells):
        row, place = _place(start, step)
        line = lines.setdefault(row, [None] * len(heads))
        if line[place] is None or cells[start].outcome != "none":
            line[place] = cells[start]
    counts = Counter(cell.outcome for line in lines.values() for cell in line if cell)
    return Calendar(
        heads,
        tuple(Line(_label(row, step), tuple(line)) for row, line in sorted(lines.items())),
        tuple((outcome, counts[outcome]) for outcome in SYMBOLS if counts[outcome]),
        unit,
    )


def _step(starts: Sequence[datetime], length: timedelta) -> timedelta:
    """Return the usual distance of two starts: as long as a window, or less where windows overlap."""
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    usual = median_low(gaps) if gaps else length
    return usual if len(set(gaps)) == 1 else max(min(usual, length), timedelta(minutes=1))


def _missing(starts: Sequence[datetime], step: timedelta) -> tuple[datetime, list[datetime]]:
    """Return the oldest start that is shown, and the steps after it at which no window begins."""
    absent: list[datetime] = []
    edge = starts[-1] - _MOST * step
    shown = [start for start in starts if start >= edge]
    for earlier, later in pairwise(shown):
        skipped = round((later - earlier) / step) - 1
        absent += [earlier + step * (place + 1) for place in range(skipped)]
    return shown[0], absent


def _cell(one: PastVerdict, *, now: bool) -> Cell:
    said = f"{when(one.window)}: {MEANINGS.get(one.outcome, one.outcome)}"
    if one.drifted:
        more = f" and {len(one.drifted) - 3} more" if len(one.drifted) > 3 else ""
        said += f" in {', '.join(one.drifted[:3])}{more}"
    elif one.outcome == "undecided" and one.reason:
        said += f" ({told(one.reason)[:120]})"
    return Cell(one.outcome, said, SYMBOLS.get(one.outcome, "?"), now)


def _absent(window: Window) -> Cell:
    return Cell("none", f"{when(window)}: {MEANINGS['none']}", SYMBOLS["none"])


def _per_row(step: timedelta) -> int:
    return min(_WIDEST, -(-_DAY // step))


def _heads(step: timedelta) -> tuple[tuple[str, ...], str]:
    if step < _DAY:
        width = _per_row(step)
        even = width * step == _DAY and step >= _HOUR
        return tuple(f"{(step * place) // _HOUR}" if even else "" for place in range(width)), "hour"
    if step < _WEEK:
        return ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), "day"
    return ("",) * -(-timedelta(days=92) // step), "week"


def _place(start: datetime, step: timedelta) -> tuple[datetime, int]:
    """Return where the row begins, and the place in it."""
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    if step < _DAY:
        width = _per_row(step) * step
        row = day + (start - day) // width * width
        return row, (start - row) // step
    if step < _WEEK:
        return day - day.weekday() * _DAY, start.weekday()
    row = day.replace(month=3 * ((day.month - 1) // 3) + 1, day=1)
    return row, (start - row) // step


def _label(row: datetime, step: timedelta) -> str:
    if step >= _WEEK:
        return f"Q{(row.month + 2) // 3} {row.year}"
    clock = f" {row:%H:%M}" if row.hour or row.minute or step * _WIDEST < _DAY else ""
    return f"{row.day} {row:%b %Y}{clock}"
