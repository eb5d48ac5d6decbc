"""What has not happened for too long: rows, labels, predictions, checks, runs and trainings that are due."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from tasks.core.messages import Tier
from tasks.core.window import Window

PATIENCE = 3  # usual intervals that may pass; our choice
FEWEST_RUNS = 3  # of which an interval can be told
_CAUSE = "stale "


@dataclass(frozen=True)
class Stale:
    """One thing that should keep happening.

    Attributes:
        what: E.g. data, predictions, labels, champion, `run of monitor`, `checks of drift`.
        newest: When it happened last; None: never, which nobody alarms about.
        limit: How long ago that may be.
        is_stale: Whether it is longer ago.
        message: One sentence for people.
        tier: How loudly they are told.
        is_forgotten: Whether it is not expected any more, which ends what was told of it.
    """

    what: str
    newest: datetime | None
    limit: timedelta
    is_stale: bool
    message: str
    tier: Tier = "warning"
    is_forgotten: bool = False


@dataclass(frozen=True)
class Freshness:
    """Everything that was looked at."""

    looked: tuple[Stale, ...]

    @property
    def outcome(self) -> Literal["ok", "warn", "drift", "undecided"]:
        """`drift` where something people must act on is overdue, `warn` where it is only to be known."""
        late = {one.tier for one in self.looked if one.is_stale}
        known = any(one.newest is not None for one in self.looked)
        return "drift" if late - {"info"} else "warn" if late else "ok" if known else "undecided"

    @property
    def reason(self) -> str:
        """What is overdue, in words."""
        late = [one.message for one in self.looked if one.is_stale]
        return "; ".join(late) if late else "nothing is overdue"

    def sentence(self) -> str:
        """Return all of it in one sentence."""
        return f"freshness {self.outcome}: {self.reason}"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return what was looked at as JSON values: when it was last, not how long ago that is."""
        return {
            "reason": self.reason,
            "looked": [
                {"what": one.what, "newest": one.newest, "limit_s": one.limit.total_seconds(),
                 "is_stale": one.is_stale}
                for one in self.looked
            ],
        }  # fmt: skip


def judge_age(
    what: str,
    newest: datetime | None,
    limit: timedelta,
    as_of: datetime,
    *,
    said: str,
    tier: Tier = "warning",
) -> Stale:
    """Return whether `newest` is longer ago than the limit; what never was is not overdue.

    Example:
        >>> from datetime import UTC
        >>> day = timedelta(days=1)
        >>> now = datetime(2026, 1, 9, tzinfo=UTC)
        >>> judge_age("data", now - 5 * day, 3 * day, now, said="the newest row").message
        'the newest row is 5.0 days old, 3.0 days are usual at most'
    """
    if newest is None:
        return Stale(what, None, limit, False, f"{said}: none yet", tier)
    age = as_of - newest
    shown = f"{said} is {_span(age)} old, {_span(limit)} are usual at most"
    return Stale(what, newest, limit, age > limit, shown, tier)


def forgotten(open_causes: Iterable[str], looked: Iterable[Stale], failing: Iterable[str]) -> list[Stale]:
    """Return a clean word on everything that an open incident calls overdue and that nobody expects any more.

    A flow that was retired has no rhythm after a while, and an incident about it would never end. What was
    tried and only failed is expected all the same.

    Args:
        open_causes: Of the incidents that are open.
        looked: What was looked at.
        failing: What was tried lately and failed, named as `Stale.what` is.

    Example:
        >>> [one.what for one in forgotten(["stale run of score", "decay"], [], [])]
        ['run of score']
    """
    known = {one.what for one in looked} | set(failing)
    gone = sorted(
        cause.removeprefix(_CAUSE)
        for cause in open_causes
        if cause.startswith(_CAUSE) and cause.removeprefix(_CAUSE) not in known
    )
    said = "is not expected any more: it is not looked at"
    return [Stale(what, None, timedelta(), False, f"{what} {said}", is_forgotten=True) for what in gone]


def judge_runs(
    flow: str, succeeded: Sequence[datetime], failed_since: int, as_of: datetime, *, least: timedelta
) -> Stale | None:
    """Return whether a flow that used to succeed at intervals is overdue; None where no interval can be told.

    What is expected is the median of its own intervals, since a schedule is not known here.

    Args:
        flow: Its name.
        succeeded: The moments of its runs that came to a good end, oldest first; the last dozen will do.
        failed_since: Runs that failed after the last of them.
        as_of: Now.
        least: No limit is shorter: a run of a window cannot be expected before the window is over.
    """
    if len(succeeded) < FEWEST_RUNS:
        return None
    gaps = [(after - before).total_seconds() for before, after in pairwise(succeeded)]
    usual = timedelta(seconds=statistics.median(gaps))
    limit = max(PATIENCE * usual, least)
    found = judge_age(f"run of {flow}", succeeded[-1], limit, as_of, said=f"the last good run of {flow}")
    failed = f"; {failed_since} failed since" if failed_since else ""
    return Stale(found.what, found.newest, limit, found.is_stale, found.message + failed)


def judge_gaps(kind: str, checked: Sequence[Window], length: timedelta, since: datetime) -> Stale | None:
    """Return whether windows between the checked ones were left out; None with less than two of them.

    Only what lies between checks is told here: that none came at the end is for `judge_age` to say. Less than
    a whole window is no gap.

    Args:
        kind: Of check.
        checked: Windows with a check of it, in any order.
        length: Of a window.
        since: Windows that began earlier are forgotten.
    """
    spans = sorted(window for window in checked if window.start >= since)
    if len(spans) < 2:
        return None
    missing, reached = 0, spans[0].end
    for window in spans[1:]:
        missing += max(0, (window.start - reached) // length)
        reached = max(reached, window.end)
    said = f"{missing} windows since {since:%Y-%m-%d} have no {kind} check"
    return Stale(f"checks of {kind}", reached, length, missing > 0, said, "info")


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.1f} hours" if abs(hours) < 48 else f"{hours / 24:.1f} days"
