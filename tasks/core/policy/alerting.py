"""When people are told: after how many looks, how loudly, how soon again, and not in their sleep.

A look is one judgement of one cause: of a window, say. One bad look may be chance, so an incident opens
when `k` of the last `n` looks were bad and the newest was, and ends after `m` clean looks in a row. What is a
fact and no measurement (a rollback that happened, a run that failed) is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, get_args
from zoneinfo import ZoneInfo

from tasks.core.messages import Tier
from tasks.core.policy.decision import Decision
from tasks.core.policy.tiers import HARM
from tasks.core.spec_alerts import Alerts, Quiet
from tasks.core.window import parse_duration, utc

_FACTS = (
    *("launch", "retraining", "training data", "champion cannot serve", "automatic rollback", "approval"),
    *("first", "staleness", "new_labels", "futility", "canary"),
)
_OF_THE_MOMENT = ("stale", "burn")
_LOUDEST_FIRST: tuple[Tier, ...] = get_args(Tier)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Look:
    """What one look found of one cause: bad in this tier, with words for people, or clean."""

    cause: str
    tier: Tier
    is_bad: bool
    message: str = ""

    def __post_init__(self) -> None:
        if self.tier not in _LOUDEST_FIRST:
            raise ValueError(f"tier {self.tier!r} is none of {', '.join(_LOUDEST_FIRST)}")


class Seen(Protocol):
    """Anything that says of a cause what a look does."""

    @property
    def cause(self) -> str:
        """What was looked at."""

    @property
    def tier(self) -> Tier:
        """How loud it is while it is bad."""

    @property
    def is_bad(self) -> bool:
        """Whether it is bad."""

    @property
    def message(self) -> str:
        """What people are told."""


@dataclass(frozen=True)
class Patience:
    """An incident opens when `bad` of the last `of` looks were bad, and ends after `clean` clean ones."""

    bad: int = 1
    of: int = 1
    clean: int = 1

    @property
    def is_none(self) -> bool:
        """True where one look decides, so that no earlier one has to be known."""
        return (self.bad, self.of, self.clean) == (1, 1, 1)

    @property
    def memory(self) -> int:
        """How many looks of a cause have to be known."""
        return max(self.of, self.clean)


def patience_with(cause: str, alerts: Alerts) -> Patience:
    """Return how patient people asked to be with this cause; with facts nobody is.

    Example:
        >>> patience_with("decay", Alerts(open_after=(2, 3), close_after=2))
        Patience(bad=2, of=3, clean=2)
        >>> patience_with("automatic rollback of v3", Alerts(open_after=(2, 3))).is_none
        True
    """
    if is_fact(cause):
        return Patience()
    return Patience(*alerts.open_after, alerts.close_after)


def is_fact(cause: str) -> bool:
    """Return True when the cause is something that happened, not something that was measured."""
    return _is_among(cause, _FACTS)


def look_of(decision: Decision, cause: str) -> str:
    """Return the name of the look at this cause on which the decision rests: the window that was checked.

    Decisions are reached more often than windows end; the same window is no second look.
    """
    checks = decision.evidence.get({"decay": "performance", "drift": "drift", HARM: "drift"}.get(cause, ""))
    if isinstance(checks, list) and checks:
        return f"window {checks[-1]['window']}"
    return f"window {decision.window}" if decision.window else str(decision.evidence.get("as_of"))


def look_at(cause: str, name: str, at: datetime) -> str:
    """Return the name of a look at this cause within the look of that name, a window's or a run's.

    What is overdue becomes so at any moment of a window that was looked at before, and so does an outage:
    those looks are by the moment.

    Example:
        >>> moment = datetime.fromisoformat("2026-01-05T23:30+00:00")
        >>> look_at("service", "w1", moment), look_at("stale source", "w1", moment)
        ('w1', '2026-01-05T23:30:00+00:00')
    """
    return utc(at).isoformat() if _is_among(cause, _OF_THE_MOMENT) else name


def opens_as(looks: Sequence[Look], patience: Patience) -> Tier | None:
    """Return the tier of the incident that these looks at one cause, oldest first, call for; None: of none.

    It is the loudest that enough of them reach, and the newest too: one critical look among warnings is no
    critical incident yet where people asked for two.

    Example:
        >>> warned, clean = Look("decay", "warning", True), Look("decay", "warning", False)
        >>> [opens_as([warned, *more], Patience(2, 3)) for more in ([clean, warned], [warned, clean])]
        ['warning', None]
    """
    recent = looks[-patience.of :]
    if not recent or not recent[-1].is_bad:
        return None
    for tier in _LOUDEST_FIRST:
        loud = [look.is_bad and not louder(tier, look.tier) for look in recent]
        if loud[-1] and sum(loud) >= patience.bad:
            return tier
    return None


def is_over(looks: Sequence[Look], patience: Patience) -> bool:
    """Return True when the last looks, oldest first, were clean, and as many as people asked for.

    Example:
        >>> bad, clean = Look("decay", "warning", True), Look("decay", "warning", False)
        >>> is_over([bad, clean], Patience(clean=2)), is_over([bad, clean, clean], Patience(clean=2))
        (False, True)
    """
    last = looks[-patience.clean :]
    return len(last) == patience.clean and not any(look.is_bad for look in last)


def one_per_cause(looks: Iterable[Seen]) -> list[Look]:
    """Return the looks with those at one cause made one: bad when one was, as loud as the loudest bad one.

    Example:
        >>> silent = [Look("freshness", "warning", True, message) for message in ("no rows", "no runs")]
        >>> one_per_cause([*silent, Look("freshness", "critical", False)])
        [Look(cause='freshness', tier='warning', is_bad=True, message='no rows; no runs')]
    """
    found: dict[str, Look] = {}
    for look in looks:
        before, tier, message = found.get(look.cause), look.tier, look.message
        if before is not None and not look.is_bad:
            continue
        if before is not None and before.is_bad:
            tier = tier if louder(tier, before.tier) else before.tier
            message = f"{before.message}; {message}"
        found[look.cause] = Look(look.cause, tier, look.is_bad, message)
    return list(found.values())


def louder(tier: str, than: str) -> bool:
    """Return True when the first tier is louder than the second.

    Example:
        >>> louder("critical", "warning"), louder("warning", "warning")
        (True, False)
    """
    order = list[str](_LOUDEST_FIRST)
    return order.index(tier) < order.index(than)


def is_overdue(tier: str, opened_at: datetime, as_of: datetime, alerts: Alerts) -> bool:
    """Return True when a warning has lasted longer than people wanted to leave it one."""
    if tier != "warning" or alerts.escalate_after is None:
        return False
    return utc(as_of) - utc(opened_at) > parse_duration(alerts.escalate_after)


def quiet_until(quiet: Quiet | None, now: datetime) -> datetime | None:
    """Return when the quiet hours end in which this moment lies, in UTC; None when it lies in none.

    They are hours of the wall clock, so that a night in which clocks change is an hour shorter or longer. An
    hour that clocks skip counts as the one after it; of an hour that comes twice the first one counts.

    Example:
        >>> night = Quiet(start="22:00", end="07:00", timezone="Europe/Berlin")
        >>> quiet_until(night, datetime.fromisoformat("2026-01-05T23:30+00:00")).isoformat()
        '2026-01-06T06:00:00+00:00'
        >>> quiet_until(night, datetime.fromisoformat("2026-01-05T12:00+00:00")) is None
        True
    """
    if quiet is None:
        return None
    moment, until = utc(now), None
    for start, end in _nights(quiet, moment):
        if start <= moment < end:  # the next may begin before this one ends, where clocks change
            moment = until = end
    return until


def _nights(quiet: Quiet, moment: datetime) -> list[tuple[datetime, datetime]]:
    """Return the quiet hours around the moment in UTC, earliest first."""
    zone = ZoneInfo(quiet.timezone)
    begins, ends = _clock(quiet.start), _clock(quiet.end)
    today = utc(moment).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    nights = []
    for day in (today - _DAY, today, today + _DAY):
        until = day + ends if ends > begins else day + _DAY + ends
        nights.append((utc((day + begins).replace(tzinfo=zone)), utc(until.replace(tzinfo=zone))))
    return nights


def _is_among(cause: str, kinds: Iterable[str]) -> bool:
    return any(cause == kind or cause.startswith(f"{kind} ") for kind in kinds)


def _clock(text: str) -> timedelta:
    hours, _, minutes = text.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))
