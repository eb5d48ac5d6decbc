"""What waits for a person, until when, and whether approving it is still the question that was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tasks.core.errors import PromotionRefused, SpecError
from tasks.core.policy.rows import Row as Ended
from tasks.core.policy.served import SERVING
from tasks.core.window import parse_duration, utc

SILENCE = "silence"
"""The actor in the ledger where nobody decided in time."""

_APPROVAL, _PROMOTION, _ROLLBACK = "approval-v", "promotion-v", "rollback-v"


class Row(Ended, Protocol):
    """One row of the ledger, with what was said."""

    @property
    def reason(self) -> str:
        """Why."""
        ...

    @property
    def evidence(self) -> Mapping[str, Any]:  # Any: JSON
        """What it rests on."""
        ...

    @property
    def at(self) -> datetime:
        """When it counts as done."""
        ...


@dataclass(frozen=True)
class Waiting:
    """A version that the gate would have promoted, had a person not been asked first.

    `against` is the champion it was compared with (None: there was none); approving it says that it is better
    than that one, so it can be approved only while that one serves. From `until` on it counts as rejected.
    `digest` is that of the files the gate compared; empty where the ledger has none.
    """

    version: int
    attempt: str
    against: int | None
    why: str
    since: datetime
    until: datetime
    digest: str = ""

    def is_over(self, moment: datetime) -> bool:
        """Tell whether it has waited for longer than the spec allows."""
        return utc(moment) >= self.until

    def is_overtaken(self, serving: int | None) -> bool:
        """Tell whether another version serves than the one it was compared with."""
        return serving != self.against


def waiting_versions(rows: Sequence[Row], valid_for: str) -> tuple[Waiting, ...]:
    """Return what waits for a person, oldest first.

    A version waits from its row `waiting` until any later row settles it: its approval (whatever that came
    to), or a promotion by other means. `rows` are the ledger's, in the order they were recorded, and that
    order alone counts: a moment given by a caller cannot make a version look as if it did not wait.
    """
    found: dict[int, Waiting] = {}
    for row in rows:
        if row.to_version is None:
            continue
        if row.action == "waiting":
            since = utc(row.at)
            until = since + parse_duration(valid_for)
            found[row.to_version] = Waiting(
                row.to_version,
                row.decision_id,
                row.from_version,
                row.reason,
                since,
                until,
                str(row.evidence.get("digest") or ""),
            )
        elif row.decision_id == approval_id(row.to_version) or row.action in SERVING:
            found.pop(row.to_version, None)
    return tuple(found.values())


def approval_id(version: int) -> str:
    """Return the id of the one decision about a version that waits.

    Example:
        >>> approval_id(7)
        'approval-v7'
    """
    return f"{_APPROVAL}{version}"


def approval_cause(version: int) -> str:
    """Return the cause of the incident that this version waits: each that waits is told of by itself.

    Example:
        >>> approval_cause(7)
        'approval v7'
    """
    return f"approval v{version}"


def promotion_id(version: int, state: str, actor: str, reason: str) -> str:
    """Return the id of a promotion by hand: the same wish in the same state is the same decision.

    Args:
        version: what shall serve.
        state: what tells one state of the ledger from the next: the decision that moved the champion last.
        actor: who wishes it.
        reason: why.
    """
    return f"{_PROMOTION}{version}-{_short_digest(state, actor, reason)}"


def rollback_id(version: int, state: str) -> str:
    """Return the id of a rollback to this version: two people at once in one state make one decision."""
    return f"{_ROLLBACK}{version}-{_short_digest(state)}"


def is_by_hand(decision_id: str) -> bool:
    """Tell whether a person ruled on a version that existed, so that nothing was trained for this row.

    Example:
        >>> is_by_hand("approval-v7"), is_by_hand("train-decay-0123456789abcdef")
        (True, False)
    """
    return decision_id.startswith((_APPROVAL, _PROMOTION, _ROLLBACK))


def check_signed(actor: str, reason: str, *, model: str) -> None:
    """Return nothing when somebody stands behind a ruling, with a reason.

    Raises:
        SpecError: naming the field that is empty.
    """
    for field, given, example in (
        ("actor", actor, "--actor ann@example.org"),
        ("reason", reason, '--reason "checked with sales"'),
    ):
        if not given.strip():
            raise SpecError(
                f"{field}: nothing", "who decides and why, for the ledger", f"give {example}", model=model
            )


def check_named(version: int | None, waits: Sequence[Waiting], *, model: str) -> int:
    """Return the version that somebody rules on, where they said which.

    There is no default: words that are said twice, or while another version begins to wait, would be heard
    about a version that nobody has looked at.

    Raises:
        SpecError: naming the field and what waits, when no version is given.
    """
    if version is not None:
        return version
    waiting = ", ".join(str(one.version) for one in waits)
    raise SpecError(
        "version: nothing",
        f"the number of the version that is meant; {f'waiting: {waiting}' if waits else 'nothing waits'}",
        f"look at it, then give --version {waits[-1].version if waits else 'N'}",
        model=model,
    )


def check_not_backdated(moment: datetime, rows: Sequence[Row], *, model: str) -> None:
    """Return nothing when no row of the ledger has a later moment than this one.

    What a person decides rests on everything that stands in the ledger, so it cannot count from before it.

    Raises:
        PromotionRefused: when one has.
    """
    last = max(rows, key=lambda row: utc(row.at), default=None)
    if last is not None and utc(moment) < utc(last.at):
        raise PromotionRefused(
            f"as_of {utc(moment).isoformat()}, before the ledger's newest row, {last.decision_id} of "
            f"{utc(last.at).isoformat()}",
            "a moment not before it",
            "leave out --as-of, or give that one",
            model=model,
        )


def _short_digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
