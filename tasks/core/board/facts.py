"""What the store knows of one model that a board shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.core.kpi.facts import Trouble
from tasks.core.policy.partners import PARTNERED
from tasks.core.records.drift_rows import PastVerdict
from tasks.core.window import Window

KINDS = ("performance", "drift", "data", "service", "labels", "predictions", "slices", "budget", "freshness")
"""Kinds of checks a board shows, in the order they stand in its table of records."""


@dataclass(frozen=True)
class Line:
    """One check as it stands on record; `summary` may be empty where only its outcome is shown."""

    kind: str
    window: Window
    version: int | None
    outcome: str
    summary: Mapping[str, Any]  # Any: JSON
    reason: str = ""
    run_id: str | None = None
    decision_id: str = ""

    def number(self, name: str) -> float | None:
        """Return the summary's number under this name; None where there is none.

        Example:
            >>> from datetime import UTC, timedelta
            >>> day = datetime(2026, 1, 5, tzinfo=UTC)
            >>> span = Window(day, day + timedelta(days=1))
            >>> line = Line("labels", span, 1, "ok", {"coverage": 1, "x": "?"})
            >>> line.number("coverage"), line.number("x")
            (1.0, None)
        """
        return finite(self.summary.get(name))

    @property
    def anchor(self) -> str:
        """Name of its row in the table of records."""
        return f"{self.kind}-{stamp(self.window)}"


@dataclass(frozen=True)
class Move:
    """A change of the version that serves, or an outcome that changed none."""

    action: str
    at: datetime
    version: int | None
    from_version: int | None
    actor: str
    reason: str
    decision_id: str = ""
    cause: str = ""
    partner: int | None = None

    @property
    def serves(self) -> bool:
        """Whether another version answers from here on."""
        return self.action in ("promoted", "rolled_back")


@dataclass(frozen=True)
class Asked:
    """Requests of a stretch of time: all, those refused as the caller's fault (4xx), and those we failed."""

    requests: int = 0
    refused: int = 0
    failed: int = 0

    @property
    def due(self) -> int:
        """How many requests we owed an answer."""
        return self.requests - self.refused


@dataclass(frozen=True)
class Board:
    """One model as it stood at `as_of`, everything oldest first.

    `lines` holds the newest conclusion of every window and kind, `reports` the stamps of those windows whose
    drift report is kept beside the board.
    """

    model: str
    as_of: datetime
    lines: tuple[Line, ...] = ()
    drift: tuple[PastVerdict, ...] = ()
    moves: tuple[Move, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    metric: str = ""
    reports: frozenset[str] = frozenset()

    def of(self, kind: str) -> tuple[Line, ...]:
        """Return the checks of this kind, oldest first."""
        return tuple(one for one in self.lines if one.kind == kind)

    def newest(self, kind: str) -> Line | None:
        """Return the newest check of this kind, None where none was made."""
        return next(reversed(self.of(kind)), None)

    @property
    def serving(self) -> Move | None:
        """The move after which the present champion serves; None where nothing ever did."""
        return next((one for one in reversed(self.moves) if one.serves), None)

    @property
    def second_opinion(self) -> Move | None:
        """The change after which another version answers beside the champion; None where it answers alone."""
        last = next((one for one in reversed(self.moves) if one.serves or one.action == PARTNERED), None)
        return last if last is not None and last.partner is not None else None

    @property
    def champion(self) -> int | None:
        """The version that serves; None where nothing does."""
        return self.serving.version if self.serving else None

    @property
    def open_troubles(self) -> tuple[Trouble, ...]:
        """Incidents that lasted at `as_of`."""
        return tuple(one for one in self.troubles if not one.resolved_at or one.resolved_at > self.as_of)


def apart(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Return the checks of each kind whose windows do not overlap, the newest first chosen; in order.

    Where windows are longer than the time between checks, one bad day counts once.
    """
    chosen: dict[str, list[Line]] = {}
    given = list(lines)
    for one in sorted(given, key=lambda each: (each.window.end, each.window.start), reverse=True):
        before = chosen.setdefault(one.kind, [])
        if not before or one.window.end <= before[-1].window.start:
            before.append(one)
    kept = {id(one) for some in chosen.values() for one in some}
    return tuple(one for one in given if id(one) in kept)


def finite(value: object) -> float | None:
    """Return the value as a number; None where it is none, or not finite.

    Example:
        >>> finite(2), finite(float("nan")), finite(True), finite("3")
        (2.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def stamp(window: Window) -> str:
    """Return the window as its drift report is named.

    Example:
        >>> from datetime import UTC, timedelta
        >>> day = datetime(2026, 1, 5, tzinfo=UTC)
        >>> stamp(Window(day, day + timedelta(days=7)))
        '20260105T000000Z_20260112T000000Z'
    """
    return f"{window.start:%Y%m%dT%H%M%S}Z_{window.end:%Y%m%dT%H%M%S}Z"
