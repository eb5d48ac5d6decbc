"""What the ledgers say that an indicator may rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    `data_end` is the end of the window its version was trained on, None where it moved nothing. `commit` is
    the code its version was made by and `committed_at` when that was written; None where that is not known.
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
    commit: str | None = None
    committed_at: datetime | None = None

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
    message: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether something was broken: news is not, and neither is a version that waits for a person."""
        return self.tier != "info" and not self.cause.startswith("approval")


@dataclass(frozen=True)
class Judged:
    """A window in which the score (`performance`) or the inputs (`drift`) were judged, by its end."""

    kind: str
    end: datetime
    is_bad: bool


@dataclass(frozen=True)
class Ran:
    """A run of a flow that came to an end: when it counts for, and how long it took in seconds.

    `started_at` is by the clock; None where that is not known.
    """

    flow: str
    at: datetime
    seconds: float
    started_at: datetime | None = None


@dataclass(frozen=True)
class Answered:
    """How many labelled predictions of one version were answered so; `label` and `prediction` as text."""

    version: int
    label: str
    prediction: str
    rows: int


@dataclass(frozen=True)
class Prices:
    """What the spec says of money: what runs cost, and the worth of an answer by (label, prediction)."""

    currency: str = ""
    per_hour: float = 0.0
    per_retraining: float = 0.0
    per_month: float = 0.0
    worth: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def any_cost(self) -> bool:
        """Whether anything has a price at all."""
        return self.per_hour > 0 or self.per_retraining > 0 or self.per_month > 0


@dataclass(frozen=True)
class Facts:
    """Everything on record about one model up to `until`, oldest first, and from when on to count it.

    `answered` counts the labelled predictions of events between `since` and `until`. `gains` is what an
    answer of a version was worth beyond one of the version before it, on the rows both were judged on.
    """

    model: str
    since: datetime
    until: datetime
    outcomes: tuple[Outcome, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    judged: tuple[Judged, ...] = ()
    runs: tuple[Ran, ...] = ()
    answered: tuple[Answered, ...] = ()
    gains: Mapping[int, float] = field(default_factory=dict)
    prices: Prices = Prices()

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
