"""The one place that reads the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tasks.core.window import utc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def window_edge(as_of: datetime | None, length: timedelta) -> datetime:
    """Return where the newest window of this length ends: at `as_of`, or at the last whole day, or hour.

    A scheduled run starts when a worker has time. Windows that ended at its very moment would leave rows
    between them; cut at midnight UTC, or for shorter windows at multiples of their length, they join, and
    two runs of one day look at the same window.
    """
    if as_of:
        return utc(as_of)
    grid = min(length, timedelta(days=1))
    return _EPOCH + (datetime.now(UTC) - _EPOCH) // grid * grid


def now_or(as_of: datetime | None) -> datetime:
    """Return `as_of` in UTC, or the present moment where none was given."""
    return utc(as_of) if as_of else datetime.now(UTC)


def is_present(as_of: datetime | None) -> bool:
    """Return whether this moment is now, give or take a day: the past that a run acts in is not."""
    return as_of is None or abs(datetime.now(UTC) - utc(as_of)) <= timedelta(days=1)
