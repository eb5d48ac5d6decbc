"""What the ledgers say that an indicator may rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.core.policy.approval import is_by_hand
from tasks.core.window import utc

TRAINED = ("promoted", "kept", "refused", "waiting")
"""Outcomes of an attempt that spent a training."""


@dataclass(frozen=True)
class Outcome:
    """One row of the ledger of promotions.

    `at` is the moment it counts for. `asked_at` and `moved_at` are moments by the clock: when the decision
    behind it was written down, and when its version began to serve; None where that is not on record.
    `data_end` is the end of the window its version was trained on, None where it moved nothing.
    """

    decision_id: str
    action: str
    at: datetime
    actor: str
    version: int | None = None
    from_version: int | None = None
    asked_at: datetime | None = None
    moved_at: datetime | None = None
    data_end: datetime | None = None

    @property
    def is_training(self) -> bool:
        """Whether a training was spent on it; a person's word on a version costs none."""
        return self.action in TRAINED and not is_by_hand(self.decision_id)


@dataclass(frozen=True)
class Trouble:
    """An incident a person was told of; `resolved_at` is None while it lasts."""

    cause: str
    tier: str
    opened_at: datetime
    resolved_at: datetime | None = None

    @property
    def is_failure(self) -> bool:
        """Whether something was broken: news is not, and neither is a version that waits for a person."""
        return self.tier != "info" and not self.cause.startswith("approval")


@dataclass(frozen=True)
class Facts:
    """Everything on record about one model up to `until`, oldest first, and from when on to count it."""

    model: str
    since: datetime
    until: datetime
    outcomes: tuple[Outcome, ...] = ()
    troubles: tuple[Trouble, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "since", utc(self.since))
        object.__setattr__(self, "until", utc(self.until))

    @property
    def days(self) -> float:
        """How much time is counted."""
        return max(0.0, (self.until - self.since).total_seconds() / 86_400)

    @property
    def counted(self) -> tuple[Outcome, ...]:
        """The outcomes of the time that is counted."""
        return tuple(one for one in self.outcomes if self.since <= one.at < self.until)

    @property
    def troubles_counted(self) -> tuple[Trouble, ...]:
        """The incidents that opened in the time that is counted."""
        return tuple(one for one in self.troubles if self.since <= one.opened_at < self.until)


def moment_in(evidence: Mapping[str, Any], name: str) -> datetime | None:  # Any: JSON
    """Return the moment kept under this name, or None where it is missing or unreadable.

    Example:
        >>> moment_in({"moved_at": "2026-01-05T10:00:00+00:00"}, "moved_at").hour
        10
        >>> moment_in({"moved_at": "soon"}, "moved_at") is None
        True
    """
    try:
        found = datetime.fromisoformat(str(evidence.get(name)))
    except ValueError:
        return None
    return utc(found) if found.tzinfo else None


def window_end_in(evidence: Mapping[str, Any]) -> datetime | None:  # Any: JSON
    """Return the end of the training window that a promotion's evidence names; None where it names none.

    Example:
        >>> window_end_in({"train_window": "2026-01-01T00:00Z..2026-01-29T12:30Z"}).isoformat()
        '2026-01-29T12:30:00+00:00'
    """
    _, dots, end = str(evidence.get("train_window") or "").partition("..")
    return moment_in({"end": end}, "end") if dots else None
