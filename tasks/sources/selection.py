"""Filters that bring every row a window needs, and the plan of an incremental fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.sources import Source
from tasks.sources.increments import Increment, fingerprint
from tasks.sources.where import Clause, Where, between, just_after, within

MOST_INCREMENTS = 16  # our choice: then one whole fetch replaces them, so that old rows do not pile up


@dataclass(frozen=True)
class Plan:
    """What to read now, and which committed increments it stands beside (none: it stands alone)."""

    increment: Increment
    where: Where
    keep: tuple[str, ...] = ()


def known_at(spec: ModelSpec, as_of: datetime, *bounds: Clause) -> Where:
    """Return the filter for rows within the bounds that were already written at `as_of`."""
    updated = spec.source.updated
    if updated is None:
        return (bounds,)
    return (*bounds, Clause(updated, "lt", just_after(as_of))), (*bounds, Clause(updated, "null"))


def whole(source: Source, spec: ModelSpec, window: Window, as_of: datetime) -> Where:
    """Return the filter that brings every version that can decide about the window's rows.

    Without `updated` these are the rows dated in the window. With it, a correction may have moved a row out
    of the window, so every version written since the window's start is read: one that corrects a row of the
    window was written after that row, and so after the start. Only rows dated after they were written
    break this; where there are such rows, the older versions are read as well.
    """
    dated, updated = spec.source.timestamp, spec.source.updated
    if updated is None:
        return within(dated, window)
    since = Clause(dated, "ge", window.start)
    early = (since, Clause(updated, "lt", window.start)), (since, Clause(updated, "null"))
    written = between(updated, window.start, just_after(as_of))
    if not source.count(early):
        return (written,)
    return (written[1],), early[1]


def plan_whole(source: Source, spec: ModelSpec, window: Window, as_of: datetime) -> Plan:
    """Return the plan that reads everything the training window needs."""
    column = spec.source.updated or spec.source.timestamp
    high = just_after(as_of) if spec.source.updated else window.end
    settled, checksum = _settled(source, spec, window)
    increment = Increment(fingerprint(spec), column, None, high, window.start, as_of, settled, checksum)
    return Plan(increment, whole(source, spec, window, as_of))


def plan_next(
    source: Source,
    spec: ModelSpec,
    window: Window,
    as_of: datetime,
    committed: Sequence[tuple[str, Increment]],
) -> Plan | None:
    """Return the plan that reads only what may have changed since the committed increments.

    None when they do not cover the window, or the source no longer holds what they hold.
    """
    last = committed[-1][1]
    covered = all(increment.since <= window.start for _, increment in committed)
    if not covered or as_of < last.as_of or len(committed) >= MOST_INCREMENTS:
        return None
    names = tuple(name for name, _ in committed)
    if spec.source.updated:
        return _plan_by_updated(spec, window, as_of, last, names)
    return _plan_by_timestamp(source, spec, window, as_of, last=last, names=names)


def _plan_by_updated(
    spec: ModelSpec, window: Window, as_of: datetime, last: Increment, names: tuple[str, ...]
) -> Plan:
    source = spec.source
    updated = str(source.updated)
    low, high = last.high - parse_duration(source.overlap), just_after(as_of)
    never = (Clause(updated, "null"), Clause(source.timestamp, "ge", window.start))
    increment = Increment(fingerprint(spec), updated, low, high, window.start, as_of)
    return Plan(increment, (between(updated, low, high), never), names)


def _plan_by_timestamp(
    source: Source,
    spec: ModelSpec,
    window: Window,
    as_of: datetime,
    *,
    last: Increment,
    names: tuple[str, ...],
) -> Plan | None:
    if last.settled is None or last.checksum is None:
        return None
    # The new digest is taken before the old one is verified, and that before rows are read: a change
    # in between makes the next comparison fail and costs a whole fetch, never a row.
    settled, checksum = _settled(source, spec, window)
    dated = spec.source.timestamp
    if source.checksum((between(dated, last.since, last.settled),)) != last.checksum:
        return None
    low = max(last.settled, window.start)
    increment = Increment(fingerprint(spec), dated, low, window.end, window.start, as_of, settled, checksum)
    return Plan(increment, (between(dated, low, window.end),), names)


def _settled(source: Source, spec: ModelSpec, window: Window) -> tuple[datetime | None, str | None]:
    settled = window.end - parse_duration(spec.source.overlap)
    if spec.source.updated or settled <= window.start:
        return None, None
    return settled, source.checksum((between(spec.source.timestamp, window.start, settled),))
