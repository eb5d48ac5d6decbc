"""What a window is fairly compared with: the champion's rows, those of the same slot, or recent windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tasks.core.drift.counting.bins import Bins
from tasks.core.drift.past.cycles import FEWEST_ROUNDS, Cycle, find_cycle
from tasks.core.drift.past.history import History, Ints
from tasks.core.drift.profile import Profile, Reference
from tasks.core.window import Window

if TYPE_CHECKING:
    from tasks.core.spec import ModelSpec

Pattern = Literal["none", "weekday", "hour", "weekday_hour"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
CHAMPION = "the champion's reference rows"
LEVEL = 0.001  # of finding a pattern where there is none, over all features; our choice
# Our choice: a pattern that makes up less of the variation between blocks helps little, and one whose oddest
# slot is nearer to all rows than this (a fifth of where PSI begins to warn) never alarms anyway.
EXPLAINED = 0.2
SIZE = 0.02
GROUPS = 10
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFF_GRID = 0.1  # of a block or day that a window may start beside the history's grid
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Against:
    """What a window is compared with.

    Attributes:
        profile: The rows compared with.
        kind: Whose they are.
        reason: Plain words that finish "compared with ...".
        blocks: Of the history, where they come from it.
    """

    profile: Profile
    kind: Literal["champion", "calendar", "rolling"]
    reason: str
    blocks: tuple[int, ...] = ()


def find_pattern(history: History, bins: Sequence[Bins]) -> tuple[Pattern, str]:
    """Return the calendar pattern in what the blocks held, and why, for people.

    Blocks of whole days, shorter than a week, may differ by weekday; blocks that divide a day by hour, by
    weekday or by both. A pattern counts when some feature follows it beyond chance (one level for all
    features together) and by enough to matter.

    Args:
        history: Of the reference.
        bins: The reference's cells.
    """
    length = history.length
    if length is None:
        return "none", "the times of the rows are not known"
    by_day = length % _DAY == timedelta(0)
    if length >= _WEEK or not (by_day or _DAY % length == timedelta(0)):
        return "none", f"windows of {_span(length)} have no place in a week or a day"
    kinds = {cell.name: cell.kind for cell in bins}
    numbers = np.array([(start - _EPOCH) // length for start in history.starts], dtype=np.int64)
    pooled = {name: _pooled(history, name, kinds[name]) for name in history.features}
    if by_day:
        week = _search(pooled, numbers, 7)
        return ("weekday", week.says("weekday")) if week.found else ("none", week.says("weekday"))
    per_day = _DAY // length
    hour = _search(pooled, numbers, per_day)
    days, first = np.unique(numbers // per_day, return_index=True)
    week = _search({n: np.add.reduceat(c, first, axis=0) for n, c in pooled.items()}, days, 7)
    if hour.found and week.found:
        return "weekday_hour", f"{week.says('weekday')}; {hour.says('time of day')}"
    if week.found:
        return "weekday", week.says("weekday")
    return ("hour" if hour.found else "none"), f"{hour.says('time of day')}; {week.says('weekday')}"


def choose(
    reference: Reference, window: Window | None, spec: ModelSpec, *, earlier: Sequence[Profile] = ()
) -> Against:
    """Return what `spec.drift.reference` compares this window with, and the champion where that cannot be.

    Features that a chosen part does not know (scores, when only the holdout was scored) are the champion's.

    Args:
        reference: The champion's.
        window: The one to check; None when its time is not known.
        spec: Of which `drift.reference`, `drift.rolling` and `drift.min_rows` are used.
        earlier: Profiles of the windows before, newest last; those of other references are left out.
    """
    wanted = spec.drift.reference
    if wanted == "rolling":
        return _rolling(reference, spec, earlier)
    if wanted == "champion":
        return Against(reference.profile, "champion", CHAMPION)
    found = _calendar(reference, window, spec.drift.min_rows)
    if isinstance(found, Against):
        return found
    silent = wanted == "auto" and reference.pattern == "none"
    return Against(reference.profile, "champion", CHAMPION if silent else f"{CHAMPION}: {found}")


def slot_of(start: datetime, length: timedelta, pattern: Pattern) -> int:
    """Return the place in the calendar of what starts then: 0 is Monday, the day's first block, or both.

    Blocks of several days take the weekday they start on; a start a little off the hour or day counts as
    the nearest.

    Example:
        >>> slot_of(datetime(2026, 1, 6, tzinfo=UTC), timedelta(days=1), "weekday")
        1
    """
    if pattern == "none":
        return 0
    middle = start.astimezone(UTC) + min(length, _DAY) / 2
    if pattern == "weekday":
        return middle.weekday()
    hour = (middle - _EPOCH) % _DAY // length
    return hour if pattern == "hour" else middle.weekday() * (_DAY // length) + hour


@dataclass(frozen=True)
class _Search:
    """What was found of one cycle: the features that follow it, plainest first, of how many."""

    followers: tuple[tuple[str, Cycle], ...]
    looked: int
    rounds: int

    @property
    def found(self) -> bool:
        return bool(self.followers)

    def says(self, what: str) -> str:
        if self.rounds < FEWEST_ROUNDS:
            return f"the history is too short to tell a pattern by {what}"
        if not self.followers:
            return f"none of {self.looked} features follows the {what} beyond chance and by enough to matter"
        names = [name for name, _ in self.followers[:3]]
        more = [f"{len(self.followers) - 3} more"] if len(self.followers) > 3 else []
        best = self.followers[0][1].explained
        verb = "follows" if len(self.followers) == 1 else "follow"
        return (
            f"{_listed(names + more)} {verb} the {what}, which explains {best:.0%} of how {names[0]} varies"
        )


def _search(pooled: dict[str, Ints], numbers: Ints, period: int) -> _Search:
    rounds = int(numbers[-1] - numbers[0] + 1) // period
    cycles = {name: find_cycle(counts, numbers, period) for name, counts in pooled.items()}
    known = {name: cycle for name, cycle in cycles.items() if cycle is not None}
    plain = [
        (name, cycle)
        for name, cycle in known.items()
        if cycle.p_value * len(known) < LEVEL and cycle.explained >= EXPLAINED and cycle.size >= SIZE
    ]
    plain.sort(key=lambda pair: (-pair[1].explained, pair[0]))
    return _Search(tuple(plain), len(pooled), rounds if period > 1 else 0)


def _pooled(history: History, name: str, kind: str) -> Ints:
    """Return the feature's rows per block in at most ten groups of like share, and one of no value."""
    cells = history.cells(name)
    total = cells.sum(axis=0)
    if kind == "numeric":
        middle = np.cumsum(total) - total / 2
        place = np.minimum(middle * GROUPS / max(int(total.sum()), 1), GROUPS - 1).astype(np.intp)
    else:
        place = np.full(len(total), GROUPS - 1, dtype=np.intp)
        place[np.argsort(-total, kind="stable")[: GROUPS - 1]] = np.arange(min(GROUPS - 1, len(total)))
    groups = np.zeros((GROUPS + 1, len(history)), dtype=np.int64)
    np.add.at(groups, place, cells.T)
    groups[GROUPS] = history.features[name][:, 1:4].sum(axis=1)
    return groups.T[:, groups.sum(axis=1) > 0]


def _calendar(reference: Reference, window: Window | None, min_rows: int) -> Against | str:
    history, pattern = reference.history, reference.pattern
    if pattern == "none" or history is None or history.length is None:
        return "its history shows no pattern by weekday or hour"
    if window is None:
        return "the window's time is not known"
    if window.length != history.length:
        return (
            f"a window of {_span(window.length)} is no slot of a history in blocks of {_span(history.length)}"
        )
    grid = min(history.length, _DAY)
    off = (window.start - _EPOCH) % grid
    if min(off, grid - off) > _OFF_GRID * grid:
        return f"the window starts at {window.start:%H:%M} UTC, between two blocks of the history"
    slot = slot_of(window.start, history.length, pattern)
    blocks = [i for i, at in enumerate(history.starts) if slot_of(at, history.length, pattern) == slot]
    which = _slot_name(window.start, history.length, pattern)
    rows = int(history.rows[blocks].sum()) if blocks else 0
    if len(blocks) < FEWEST_ROUNDS or rows < min_rows:
        return f"its history has {len(blocks)} {which} with {rows} rows, too few"
    days = max((history.starts[-1] + history.length - history.starts[0]) // _DAY, 1)
    reason = f"the {len(blocks)} {which} of the champion's {days} days"
    return Against(_filled(history.profile(blocks), reference), "calendar", reason, tuple(blocks))


def _rolling(reference: Reference, spec: ModelSpec, earlier: Sequence[Profile]) -> Against:
    mine = [p for p in earlier if p.reference_id == reference.id and p.rows]
    others = len(earlier) - len(mine)
    left_out = f"; {others} of other versions or without rows left out" if others else ""
    mine = mine[-spec.drift.rolling :]
    if len(mine) < FEWEST_ROUNDS or sum(p.rows for p in mine) < spec.drift.min_rows:
        why = f"only {len(mine)} earlier windows to compare with{left_out}"
        return Against(reference.profile, "champion", f"{CHAMPION}: {why}")
    shared = set.intersection(*(set(p.features) for p in mine))
    parts = [replace(p, features={n: c for n, c in p.features.items() if n in shared}) for p in mine]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return Against(_filled(total, reference), "rolling", f"the {len(mine)} windows before{left_out}")


def _filled(profile: Profile, reference: Reference) -> Profile:
    return replace(profile, features={**reference.profile.features, **profile.features})


def _slot_name(start: datetime, length: timedelta, pattern: Pattern) -> str:
    middle = start + min(length, _DAY) / 2
    begin = _EPOCH + (middle - _EPOCH) // min(length, _DAY) * min(length, _DAY)
    if pattern == "weekday":
        plural = f"{_DAYS[begin.weekday()]}s"
        return plural if length == _DAY else f"windows of {_span(length)} on {plural}"
    hours = f"windows at {begin:%H:%M} UTC"
    return hours if pattern == "hour" else f"{hours} on {_DAYS[begin.weekday()]}s"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _span(length: timedelta) -> str:
    for unit, name in ((_DAY, "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if length >= unit and length % unit == timedelta(0):
            count = length // unit
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{length.total_seconds():g} seconds"
