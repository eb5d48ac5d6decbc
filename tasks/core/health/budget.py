"""How much of the score's error budget is left: windows that may miss the promised band, and that did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from tasks.core.evaluation.intervals import share_interval
from tasks.core.window import Window

FEWEST = 3  # windows below which no share is told; our choice
_RECENT = 4  # parts of the windows of which the newest tells the present speed
_NEAR = 0.25  # of the budget, from which people should look; our choice


@dataclass(frozen=True)
class Kept:
    """One window whose realised score was told, and whether it lay in the promised band.

    `chance` is how likely it was to miss although the model keeps its promise, for its score is an estimate.
    """

    window: Window
    missed: bool
    chance: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The score's error budget over the last period.

    Attributes:
        outcome: drift when the budget is overspent beyond chance, warn when chance may explain it, when
            little is left or nothing will be within a quarter of the period at the present speed, ok
            otherwise; undecided with fewer than three windows.
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
        by_chance: Windows more that a model which keeps its promise may miss by chance.
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
    by_chance: int = 0

    def sentence(self) -> str:
        """Return the budget in one sentence."""
        return f"error budget {self.outcome}: {self.reason}"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the budget as JSON values."""
        spent = None if self.spent_in is None else self.spent_in.total_seconds() / 86400
        kept = ("reason", "windows", "missed", "share", "low", "high", "budget", "allowed", "left", "burn",
                "by_chance")  # fmt: skip
        return {**{name: getattr(self, name) for name in kept}, "spent_in_days": spent}


def score_budget(
    kept: Sequence[Kept],
    *,
    budget: float,
    period: timedelta,
    length: timedelta,
    confidence: float = 0.95,
    false_alarms: float = 0.01,
) -> Budget:
    """Return how much of the budget is left after these windows.

    A window counts as missed when its score lies below the limit, also where chance may explain it. Small
    windows miss often by chance alone, so it takes more than what may miss and what chance adds to alarm.

    Args:
        kept: Windows of the last period whose score was told, oldest first.
        budget: Share of windows that may miss.
        period: Over which they are counted.
        length: Of a window.
        confidence: Of the share's interval.
        false_alarms: Share of looks at a model that keeps its promise which may alarm.

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
    more = by_chance([one.chance for one in kept], false_alarms)
    outcome, reason = _conclude(missed, told, allowed, more, left, spent_in, period)
    return Budget(
        outcome, reason, told, missed, share.value, share.low, share.high, budget, allowed, left,
        share.value / budget if budget else None, spent_in, more,
    )  # fmt: skip


def chance_of_a_miss(band: float, half_width: float, confidence: float) -> float:
    """Return how likely one window's score lies below its limit although the model keeps its promise.

    The model is taken to score as low as the interval of its promise allows, which the limit allows for too;
    `band` is how far the limit lies below that, and `half_width` that of the window's interval.

    Example:
        >>> round(chance_of_a_miss(0.016, 0.08, 0.95), 2), chance_of_a_miss(0.016, 0.0, 0.95)
        (0.35, 0.0)
    """
    if half_width <= 0 or not math.isfinite(half_width):
        return 0.0
    return NormalDist().cdf(-band / half_width * NormalDist().inv_cdf((1 + confidence) / 2))


def by_chance(chances: Sequence[float], false_alarms: float) -> int:
    """Return the least number that more windows than it miss in no more than this share of cases.

    Windows miss independently, each with its own chance: the upper quantile of the Poisson binomial.

    Example:
        >>> by_chance([0.5] * 10, 0.01), by_chance([0.0] * 10, 0.01)
        (9, 0)
    """
    at = np.ones(1)  # how likely each number of misses is
    for chance in chances:
        at = np.append(at * (1 - chance), 0.0) + np.append(0.0, at * chance)
    return int(np.searchsorted(np.cumsum(at), 1 - false_alarms - 1e-12))


def _spent_in(kept: Sequence[Kept], remaining: float, length: timedelta) -> timedelta | None:
    newest = kept[-max(FEWEST, len(kept) // _RECENT) :]
    speed = sum(one.missed for one in newest) / len(newest)
    if not speed:
        return None
    return max(remaining, 0.0) / speed * length


def _conclude(
    missed: int,
    told: int,
    allowed: float,
    more: int,
    left: float,
    spent_in: timedelta | None,
    period: timedelta,
) -> tuple[Literal["ok", "warn", "drift"], str]:
    shown = f"{missed} of {told} windows missed the band, {allowed:.3g} may"
    if missed > allowed + more:
        beyond = f", beyond the {more} that chance may add" if more else ""
        return "drift", f"{shown}: the budget is overspent{beyond}"
    if missed > allowed:
        return "warn", f"{shown}: more, which chance does not rule out (it may add {more})"
    soon = spent_in is not None and spent_in < period / _RECENT
    when = "" if spent_in is None else f", and none in {spent_in / timedelta(days=1):.3g} days at this speed"
    if missed and (left <= _NEAR or soon):
        return "warn", f"{shown}: {max(left, 0):.0%} of the budget is left{when}"
    return "ok", f"{shown}: {left:.0%} of the budget is left"
