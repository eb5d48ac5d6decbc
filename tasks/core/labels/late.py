"""Which windows of the past are judged again, because labels came after they had been judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.window import Window

LOOK_BACK = 30
"""Windows of the past whose labels may still change what is on record; our choice: a month of days."""
MOST_AT_ONCE = 5
"""Windows that one run judges again beside the newest; our choice: the rest has its turn in the next runs."""


@dataclass(frozen=True)
class Judged:
    """A window that was judged: how many labels its predictions had then, and how many they have now.

    `heard` is None where the check was made before this was kept.
    """

    window: Window
    heard: int | None
    heard_now: int


def reopened(judged: Sequence[Judged]) -> list[Window]:
    """Return the windows that labels came for since they were judged, oldest first, the newest few of them.

    A window comes up once for everything that had come by then: judged again, it is known with its labels.

    Example:
        >>> from datetime import UTC, datetime
        >>> day = Window.ending(datetime(2026, 1, 8, tzinfo=UTC), "1d")
        >>> reopened([Judged(day, 7, 9)]) == [day], reopened([Judged(day, 9, 9)])
        (True, [])
    """
    late = [one.window for one in judged if one.heard_now > (one.heard or 0)]
    return sorted(late, key=lambda window: window.end)[-MOST_AT_ONCE:]
