"""The one place that reads the clock."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.core.window import utc


def now_or(as_of: datetime | None) -> datetime:
    """Return `as_of` in UTC, or the present moment where none was given."""
    return utc(as_of) if as_of else datetime.now(UTC)
