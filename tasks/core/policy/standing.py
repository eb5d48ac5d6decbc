"""Whether a decision made earlier may still start something, and when it is asked for again.

A decision travels: through an event, a queue, a worker that was down for a week. What arrives late, or from a
clock that is wrong, must not start a training nobody wants any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from tasks.core.policy.approval import is_by_hand
from tasks.core.policy.rows import Outcome

AHEAD = timedelta(minutes=5)  # how far two honest clocks may differ
# The server drops an event whose id it saw in the last five minutes, and so does our trigger; a minute more.
AGAIN = timedelta(minutes=6)
TRAINED = ("promoted", "kept", "refused", "waiting")  # ledger actions that spent a training
MOST_SENDS = 5  # a launch that led to nothing so often needs a person, not another launch


def objection(
    *, written_at: datetime, acts_as_of: datetime | None, valid_for: timedelta, now: datetime
) -> str:
    """Return why the decision may start nothing, or nothing when it may.

    Args:
        written_at: when it was written down, by the clock.
        acts_as_of: the moment a run of it would act as if it were; None where the caller answers for that.
        valid_for: how long a decision stands.
        now: the present moment, by the clock.

    Example:
        >>> from datetime import UTC
        >>> monday, day = datetime(2026, 1, 5, tzinfo=UTC), timedelta(days=1)
        >>> objection(written_at=monday, acts_as_of=monday, valid_for=3 * day, now=monday + 4 * day)
        'decided 4 days ago, a decision stands for 3 days'
        >>> objection(written_at=monday, acts_as_of=monday, valid_for=3 * day, now=monday + day)
        ''
    """
    for what, moment in (("written", written_at), ("dated", acts_as_of)):
        if moment is not None and moment > now + AHEAD:
            return f"{what} {moment:%Y-%m-%d %H:%M} UTC, which is {_told(moment - now)} ahead of this clock"
    if now - written_at > valid_for:
        return f"decided {_told(now - written_at)} ago, a decision stands for {_told(valid_for)}"
    return ""


class Row(Outcome, Protocol):
    """One row of the ledger, with its moment."""

    @property
    def at(self) -> datetime:
        """When it counts as done."""
        ...


def overtaken(rows: Iterable[Row], decision_id: str, decided_at: datetime) -> str:
    """Return why a decision is moot because the model was trained after it was made; nothing while it is not.

    Its evidence is about a champion and rows that another retraining has dealt with since, and every further
    training is another draw at the gate. What a person moved by hand was no training.
    """
    later = (
        row.decision_id
        for row in rows
        if row.action in TRAINED
        and row.decision_id != decision_id
        and row.at > decided_at
        and not is_by_hand(row.decision_id)
    )
    other = next(later, None)
    return f"overtaken by {other}, a retraining after it was decided" if other else ""


def due(*, sent_at: datetime | None, now: datetime) -> bool:
    """Return whether a decision without outcome is to be sent now: never sent, or long enough ago.

    Example:
        >>> due(sent_at=None, now=datetime(2026, 1, 5))
        True
    """
    return sent_at is None or now - sent_at > AGAIN


def _told(span: timedelta) -> str:
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = int(span.total_seconds() // seconds)
        if count:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"
