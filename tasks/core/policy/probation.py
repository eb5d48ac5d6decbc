"""Whether a new champion keeps its promise in its first windows, or the one before is to serve again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeVar

from tasks.core.policy.rows import Row
from tasks.core.policy.served import SERVING
from tasks.core.policy.standing import AHEAD
from tasks.core.window import Window, utc

Outcome = Literal["passed", "on probation", "rollback", "not on probation"]
_AUTO = "auto-rollback-"


class Checked(Protocol):
    """What a check of performance concluded about one window."""

    @property
    def window(self) -> Window:
        """When the predicted events happened."""
        ...

    @property
    def outcome(self) -> str:
        """One of ok, warn, drift and undecided."""
        ...


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True)
class Probation:
    """How a champion does in its first windows.

    `bad` are the windows in which it broke its promise, among the first `judged` that could tell. `version`
    is the champion's number, where the caller knows it.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    bad: tuple[Window, ...] = ()
    judged: int = 0
    version: int | None = None

    @property
    def span(self) -> Window | None:
        """From the first bad window to the end of the last; None where there is none."""
        return Window(self.bad[0].start, self.bad[-1].end) if self.bad else None


def judge_probation(
    checks: Iterable[Checked], promoted_at: datetime, windows: int, m_of_n: tuple[int, int]
) -> Probation:
    """Return how a champion does in the first windows after its promotion.

    Its error budget is fewer than M bad windows among them (M and N as in `drift.windows`); where there are
    fewer than M windows, every one bad spends it. A window that could not tell does not count, and another
    takes its place. Of windows that overlap the earlier counts: one bad week is one bad window. N windows
    after the last, the same time in which late labels still change a verdict, probation is over: what breaks
    then is the world rather than the promotion, and retraining answers it.

    Args:
        checks: Performance checks of this version, one per window.
        promoted_at: When it began to serve.
        windows: How many windows probation lasts (`gate.probation`); 0 is none.
        m_of_n: M and N.

    Example:
        >>> from types import SimpleNamespace as Check
        >>> from datetime import UTC, timedelta
        >>> monday, week = datetime(2026, 1, 5, tzinfo=UTC), timedelta(days=7)
        >>> def check(number, outcome):
        ...     return Check(window=Window.ending(monday + number * week, week), outcome=outcome)
        >>> judge_probation([check(1, "drift"), check(2, "ok"), check(3, "drift")], monday, 3, (2, 3)).outcome
        'rollback'
        >>> judge_probation([check(1, "drift"), check(2, "undecided")], monday, 3, (2, 3)).outcome
        'on probation'
    """
    if windows <= 0:
        return Probation("not on probation", ("gate.probation is 0",))
    budget = min(m_of_n[0], windows)
    seen = _apart(check for check in checks if check.window.end > utc(promoted_at))
    told = [check for check in seen if check.outcome != "undecided"][:windows]
    bad = tuple(check.window for check in told if check.outcome == "drift")
    found = f"{len(bad)} of {len(told)} windows since its promotion bad, {budget} of {windows} are too many"
    if len(seen) > windows + m_of_n[1]:
        return Probation("not on probation", (f"its first {windows} windows are over",), bad, len(told))
    if len(bad) >= budget:
        return Probation("rollback", (found, f"the last bad one {bad[-1]}"), bad, len(told))
    outcome: Outcome = "passed" if len(told) == windows else "on probation"
    return Probation(outcome, (found,), bad, len(told))


def on_trial(rows: Sequence[AnyRow]) -> AnyRow | None:
    """Return the promotion of the version that serves, when it serves for the first time after another.

    None for the first version of a model, which has nothing to go back to, and for one that served before:
    whoever brought it back knew how it had done.

    Example:
        >>> from types import SimpleNamespace as Row
        >>> def promoted(before, number):
        ...     return Row(decision_id="d", action="promoted", from_version=before, to_version=number)
        >>> on_trial([promoted(None, 1), promoted(1, 2)]).to_version
        2
        >>> on_trial([promoted(None, 1)]), on_trial([promoted(None, 1), promoted(1, 2), promoted(2, 1)])
        (None, None)
    """
    moves = [row for row in rows if row.action in SERVING and row.to_version is not None]
    if not moves or moves[-1].action != "promoted" or moves[-1].from_version is None:
        return None
    served = {row.to_version for row in moves[:-1]}
    return None if moves[-1].to_version in served else moves[-1]


def ahead_of_clock(promoted_at: datetime, as_of: datetime, now: datetime) -> str:
    """Return why the probation of what was promoted then cannot be judged; nothing where it can.

    A promotion that lies after `as_of` alone is no fault: that is a look at the past.

    Example:
        >>> from datetime import UTC
        >>> early, late = datetime(2026, 1, 5, tzinfo=UTC), datetime(2027, 1, 5, tzinfo=UTC)
        >>> ahead_of_clock(late, early, now=early)
        'its promotion is dated 2027-01-05 00:00 UTC, which is ahead of this clock'
        >>> ahead_of_clock(late, early, now=late), ahead_of_clock(late, late, now=early)
        ('', '')
    """
    is_ahead = utc(promoted_at) > max(utc(as_of), utc(now) + AHEAD)
    return f"{dated(promoted_at)}, which is ahead of this clock" if is_ahead else ""


def dated(promoted_at: datetime) -> str:
    """Return the date that the ledger has of a promotion, in words."""
    return f"its promotion is dated {utc(promoted_at):%Y-%m-%d %H:%M} UTC"


def auto_rollback_id(version: int, last_decision: str) -> str:
    """Return the id of the automatic rollback from this version: once, for each time that it came to serve.

    Args:
        version: what is rolled back from.
        last_decision: the decision that let it serve. Only its digest enters, so that the id of a rollback
            after a rollback is not longer than the first.

    Example:
        >>> auto_rollback_id(3, "train-decay-0123456789abcdef")
        'auto-rollback-3-d276b9d7add53a1d'
    """
    return f"{_AUTO}{version}-{hashlib.sha256(last_decision.encode()).hexdigest()[:16]}"


def is_auto_rollback(decision_id: str) -> bool:
    """Tell whether nobody decided this rollback: the champion broke, or broke its promise."""
    return decision_id.startswith(_AUTO)


def rollback_cause(version: int | None) -> str:
    """Return the cause of an incident: this version went back by itself, or was meant to and could not."""
    return f"automatic rollback of v{version}"


AnyChecked = TypeVar("AnyChecked", bound=Checked)


def _apart(checks: Iterable[AnyChecked]) -> list[AnyChecked]:
    """Return checks whose windows do not overlap, the earliest first chosen: a later one moves nothing."""
    chosen: list[AnyChecked] = []
    for check in sorted(checks, key=lambda one: one.window.end):
        if not chosen or check.window.start >= chosen[-1].window.end:
            chosen.append(check)
    return chosen
