"""A month as a window of time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tasks.core.errors import SpecError
from tasks.core.window import Window


def month_window(month: str) -> Window:
    """Return the month written as YYYY-MM, in UTC.

    Raises:
        SpecError: when it is written otherwise.

    Example:
        >>> str(month_window("2026-12"))
        '2026-12-01T00:00Z..2027-01-01T00:00Z'
    """
    found = re.fullmatch(r"(\d{4})-(\d{2})", month)
    if not found or not 1 <= int(found[2]) <= 12 or not 1 <= int(found[1]) <= 9998:
        raise SpecError("a month that is none", "YYYY-MM, for example 2026-11", "write it so")
    year, number = int(found[1]), int(found[2])
    after = (year + 1, 1) if number == 12 else (year, number + 1)
    return Window(datetime(year, number, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC))


def month_name(window: Window) -> str:
    """Return the month as one says it.

    Example:
        >>> month_name(month_window("2026-11"))
        'November 2026'
    """
    return f"{window.start:%B %Y}"


def month_before(moment: datetime) -> str:
    """Return the last month that was over at this moment, as YYYY-MM.

    Example:
        >>> month_before(datetime(2026, 1, 1, tzinfo=UTC)), month_before(datetime(2026, 11, 23, tzinfo=UTC))
        ('2025-12', '2026-10')
    """
    at = moment.astimezone(UTC)
    year, number = (at.year - 1, 12) if at.month == 1 else (at.year, at.month - 1)
    return f"{year:04d}-{number:02d}"
