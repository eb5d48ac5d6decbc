"""How much of the score's error budget is left: windows that may miss the promised band, and that did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from tasks.core.evaluation.intervals import share_interval
from tasks.core.window import Window

FEWEST = 3  # windows below which no share is told; our choice
_RECENT = 4  # parts of the windows of which the newest tells the present speed
_NEAR = 0.25  # of the budget, from which people should look; our choice


@dataclass(frozen=True)
class Kept:
    """One window whose realised score was told, and whether it lay in the promised band."""

    window: Window
    missed: bool


@dataclass(frozen=True)
class Budget:
    """The score's error budget over the last period.

    Attributes:
        outcome: drift when the budget is overspent, warn when little is left or nothing will be within a
            quarter of the period at the present speed, ok otherwise; undecided with fewer than three windows.
        reason: The same in words.
        windows: Whose score was told.
        missed: Those that missed the band.
        share: Missed of told.
        low: Lower end of the share's interval.
        high: Upper end.
        budget: Share of windows that may miss.
        allowed: Windows that may miss in the whole period, at least one.
        left: Share of the budget that is left; below 0 when overspent.
        burn: Speed at which it is spent; 1: used up just at the end of the period.
        spent_in: When nothing will be left at the speed of the newest quarter; None: not at that speed.
    """

    outcome: Literal["ok", "warn", "drift", "undecided"]
    reason: str
    windows: int
    missed: int
    share: float | None
    low: float | None
    high: float | None
    budget: float
    allowed: float
    left: float
    burn: float | None
    spent_in: timedelta | None

    def sentence(self) -> str:
        """Return the budget in one sentence."""
        return f"error budget {self.outcome}: {self.reason}"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the budget as JSON values."""
        spent = None if self.spent_in is None else self.spent_in.total_seconds() / 86400
        kept = ("reason", "windows", "missed", "share", "low", "high", "budget", "allowed", "left", "burn")
        return {**{name: getattr(self, name) for name in kept}, "spent_in_days": spent}


def score_budget(
    kept: Sequence[Kept], *, budget: float, period: timedelta, length: timedelta, confidence: float = 0.95
) -> Budget:
    """Return how much of the budget is left after these windows.

    A window counts as missed when its score lies below the limit, also where chance may explain it: that is
    what a budget is for.

    Args:
        kept: Windows of the last period whose score was told, oldest first.
        budget: Share of windows that may miss.
        period: Over which they are counted.
        length: Of a window.
        confidence: Of the share's interval.

    Example:
        >>> day = timedelta(days=1)
        >>> from datetime import datetime, UTC
        >>> start = datetime(2026, 1, 1, tzinfo=UTC)
        >>> days = [Kept(Window(start + n * day, start + (n + 1) * day), n in (3, 9)) for n in range(30)]
        >>> found = score_budget(days, budget=0.1, period=30 * day, length=day)
        >>> found.outcome, round(found.left, 2)
        ('ok', 0.33)
    """
    told, missed = len(kept), sum(one.missed for one in kept)
    # So few windows that the budget is less than one: one is what may miss.
    allowed = max(1.0, budget * (period / length)) if budget else 0.0
    left = 1 - missed / allowed if allowed else float(not missed)
    if told < FEWEST:
        few = f"{told} windows with a known score, {FEWEST} are needed"
        return Budget("undecided", few, told, missed, None, None, None, budget, allowed, left, None, None)
    share = share_interval(missed, told, confidence)
    spent_in = _spent_in(kept, allowed - missed, length)
    outcome, reason = _conclude(missed, told, allowed, left, spent_in, period)
    return Budget(
        outcome, reason, told, missed, share.value, share.low, share.high, budget, allowed, left,
        share.value / budget if budget else None, spent_in,
    )  # fmt: skip


def _spent_in(kept: Sequence[Kept], remaining: float, length: timedelta) -> timedelta | None:
    newest = kept[-max(FEWEST, len(kept) // _RECENT) :]
    speed = sum(one.missed for one in newest) / len(newest)
    if not speed:
        return None
    return max(remaining, 0.0) / speed * length


def _conclude(
    missed: int, told: int, allowed: float, left: float, spent_in: timedelta | None, period: timedelta
) -> tuple[Literal["ok", "warn", "drift"], str]:
    shown = f"{missed} of {told} windows missed the band, {allowed:.3g} may"
    if missed > allowed:
        return "drift", f"{shown}: the budget is overspent"
    soon = spent_in is not None and spent_in < period / _RECENT
    when = "" if spent_in is None else f", and none in {spent_in / timedelta(days=1):.3g} days at this speed"
    if missed and (left <= _NEAR or soon):
        return "warn", f"{shown}: {max(left, 0):.0%} of the budget is left{when}"
    return "ok", f"{shown}: {left:.0%} of the budget is left"
