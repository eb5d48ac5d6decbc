"""One indicator: its value, what it rests on, and how one reads it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["per week", "share", "seconds", "money", "ratio"]

_HOUR, _DAY = 3600.0, 86_400.0
LACKING = "not enough history"


@dataclass(frozen=True)
class Kpi:
    """One indicator: `value` is None where it cannot be told; `cases` is how many it rests on.

    `share` is 0..1, times are in seconds, money is in `currency`, `meaning` says how it was counted.
    """

    key: str
    title: str
    value: float | None
    unit: Unit
    cases: int
    meaning: str
    currency: str = ""

    def shown(self) -> str:
        """Return the value as one reads it.

        Example:
            >>> Kpi("a", "A", 0.25, "share", 4, "").shown(), Kpi("b", "B", 5400.0, "seconds", 1, "").shown()
            ('25 %', '1.5 h')
            >>> Kpi("c", "C", None, "share", 0, "").shown()
            'not enough history'
            >>> Kpi("d", "D", 1234.4, "money", 1, "", "EUR").shown()
            '1,234 EUR'
            >>> Kpi("e", "E", -0.5, "ratio", 1, "").shown()
            '-50 %'
        """
        if self.value is None:
            return LACKING
        if self.unit == "money":
            digits = 2 if abs(self.value) < 100 else 0
            return f"{self.value:,.{digits}f} {self.currency}".rstrip()
        if self.unit in ("share", "ratio"):
            return f"{100 * self.value:,.0f} %"
        return f"{self.value:.2g} per week" if self.unit == "per week" else span(self.value)


def median_of(key: str, title: str, seconds: Sequence[float], meaning: str) -> Kpi:
    """Return the median of these times; none gives no value."""
    value = statistics.median(seconds) if seconds else None
    return Kpi(key, title, value, "seconds", len(seconds), meaning)


def share_of(key: str, title: str, part: int, whole: int, meaning: str) -> Kpi:
    """Return the part as a share of the whole; of nothing there is no share."""
    return Kpi(key, title, part / whole if whole else None, "share", whole, meaning)


def span(seconds: float) -> str:
    """Return a length of time in the unit one would use.

    Example:
        >>> span(42), span(90), span(7200), span(200000)
        ('42 s', '1.5 min', '2 h', '2.3 d')
    """
    for unit, size in (("d", _DAY), ("h", _HOUR), ("min", 60.0)):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"
