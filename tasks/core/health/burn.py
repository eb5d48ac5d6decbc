"""How fast a service spends its error budget, over a long window and a short one together.

A long window alone alarms long after an outage is over, a short one for every hiccup; both together mean
that much was lost and that it is still being lost.

Source: Beyer et al., The Site Reliability Workbook (2018), chapter 5, table 5-8, for a period of 30 days: 2 %
of the budget within an hour and 5 % within six page, 10 % within three days is a ticket. For other periods
the windows shrink or grow with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

_DAYS_30 = timedelta(days=30)
_LEAST = timedelta(minutes=5)  # of the short window; traffic is counted by the minute
# Speed at which the budget is spent (1: just used up at the end of the period), long window, short window.
_RULES: tuple[tuple[Literal["critical", "warning"], float, timedelta, timedelta], ...] = (
    ("critical", 14.4, timedelta(hours=1), timedelta(minutes=5)),
    ("critical", 6.0, timedelta(hours=6), timedelta(minutes=30)),
    ("warning", 1.0, timedelta(days=3), timedelta(hours=6)),
)


@dataclass(frozen=True)
class Burn:
    """One rule: `long` and `short` are how many times too fast the budget was spent in each window.

    `is_told` says whether the long window had requests enough to tell, and the short one any.
    """

    tier: Literal["critical", "warning"]
    limit: float
    window: timedelta
    long: float
    short: float
    requests: int
    fires: bool
    is_told: bool = True

    def sentence(self) -> str:
        """Return what the rule found."""
        hours = self.window.total_seconds() / 3600
        return f"the error budget is spent {self.long:.3g} times too fast over the last {hours:.3g} hours"


def lookbacks(period: timedelta) -> tuple[timedelta, ...]:
    """Return every window that `burns` wants the counts of, and the period itself, longest first."""
    found = {period}
    for _, _, long, short in _RULES:
        found |= {_scaled(long, period), max(_scaled(short, period), _LEAST)}
    return tuple(sorted(found, reverse=True))


def burns(
    counts: Mapping[timedelta, tuple[int, int]], *, availability: float, period: timedelta, min_requests: int
) -> tuple[Burn, ...]:
    """Return what each rule says of these counts.

    Args:
        counts: By lookback (see `lookbacks`): requests that had to be answered, and those that were not.
        availability: Share that is promised.
        period: Over which the budget is counted.
        min_requests: Of the long window, fewer of which let no rule fire: one failure of ten is no trend.
    """
    allowed = 1 - availability
    found = []
    for tier, limit, long, short in _RULES:
        window, last = _scaled(long, period), max(_scaled(short, period), _LEAST)
        requests = counts[window][0]
        speeds = [_speed(counts[span], allowed) for span in (window, last)]
        # Who answers nothing at all loses nothing that is counted: silence is no good news.
        is_told = requests >= min_requests and counts[last][0] > 0
        fires = is_told and min(speeds) > limit
        found.append(Burn(tier, limit, window, speeds[0], speeds[1], requests, fires, is_told))
    return tuple(found)


@dataclass(frozen=True)
class Burning:
    """What the burn rules say at one moment, whatever window was checked last.

    `drift` where a rule fires, `ok` where none does and the requests were enough for one of them to tell.
    """

    rules: tuple[Burn, ...] = ()

    @property
    def firing(self) -> Burn | None:
        """The loudest rule that fires."""
        return next((rule for rule in self.rules if rule.fires), None)

    @property
    def told(self) -> Burn | None:
        """The rule of the longest window, where that had requests enough."""
        return max((rule for rule in self.rules if rule.is_told), key=lambda rule: rule.window, default=None)

    @property
    def outcome(self) -> Literal["ok", "drift", "undecided"]:
        """Whether people must act."""
        return "drift" if self.firing else "ok" if self.told else "undecided"

    def sentence(self) -> str:
        """Return what is lost right now, in words."""
        if self.firing:
            return self.firing.sentence()
        if self.told is None:
            return "too few requests to tell how fast the error budget is spent"
        hours = self.told.window.total_seconds() / 3600
        return f"the error budget is not spent too fast: {self.told.requests:,} requests in {hours:.3g} hours"


def _speed(counts: tuple[int, int], allowed: float) -> float:
    requests, failed = counts
    return failed / requests / allowed if requests else 0.0


def _scaled(span: timedelta, period: timedelta) -> timedelta:
    return span * (period / _DAYS_30)
