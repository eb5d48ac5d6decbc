"""Half-open windows of aware UTC time, and the durations they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tasks.core.errors import SpecError

DURATION_PATTERN = r"^[0-9]{1,8}(s|m|h|d|w)$"  # nine digits of weeks would overflow a timedelta
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """Return the length of time written as a whole number and a unit: s, m, h, d or w.

    Raises:
        SpecError: when the text has another form.

    Example:
        >>> parse_duration("90d").days
        90
    """
    if not re.fullmatch(DURATION_PATTERN.strip("^$"), text):  # `$` alone lets a line end pass
        raise SpecError(
            f"duration {text!r}", "a whole number and one of s, m, h, d, w", "write for example 90d or 12h"
        )
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def utc(moment: datetime) -> datetime:
    """Return the same moment in UTC.

    Raises:
        SpecError: when the datetime is naive, because guessing its zone loses or doubles rows.
    """
    if moment.tzinfo is None:
        raise SpecError(
            f"naive datetime {moment.isoformat()}", "an aware datetime", "add an offset, e.g. +00:00"
        )
    return moment.astimezone(UTC)


@dataclass(frozen=True, order=True)
class Window:
    """Half-open interval `[start, end)` of aware UTC time.

    Example:
        >>> str(Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC)))
        '2026-01-01T00:00Z..2026-01-08T00:00Z'
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", utc(self.start))
        object.__setattr__(self, "end", utc(self.end))
        if self.end <= self.start:
            raise SpecError(
                f"window from {self.start.isoformat()} to {self.end.isoformat()}", "a start before its end"
            )

    @classmethod
    def ending(cls, end: datetime, length: str | timedelta) -> Window:
        """Return the window of this length that ends at `end`."""
        span = parse_duration(length) if isinstance(length, str) else length
        try:
            return cls(utc(end) - span, end)
        except OverflowError as err:
            raise SpecError(
                f"a window of {length} before {utc(end).isoformat()}", "a start after year 1"
            ) from err

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= utc(moment) < self.end

    def __str__(self) -> str:
        return f"{_stamp(self.start)}..{_stamp(self.end)}"

    @property
    def length(self) -> timedelta:
        """How much time the window covers."""
        return self.end - self.start

    def before(self, count: int = 1) -> Window:
        """Return the window of equal length, `count` lengths earlier."""
        return Window(self.start - count * self.length, self.end - count * self.length)

    def split(self, step: timedelta) -> Iterator[Window]:
        """Yield consecutive windows of length `step` that fit whole, oldest first."""
        if step <= timedelta(0):
            raise SpecError(f"a step of {step}", "a step longer than nothing")
        start = self.start
        while start + step <= self.end:
            yield Window(start, start + step)
            start += step


def _stamp(moment: datetime) -> str:
    spec = "minutes" if not (moment.second or moment.microsecond) else "auto"
    return moment.replace(tzinfo=None).isoformat(timespec=spec) + "Z"
