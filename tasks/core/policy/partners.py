"""Which version answers beside the champion, from the history of moves; what may, and what a person withdrew.

A row `partnered` names the champion (`to_version`, which stays) and its partner from there on, or none. A row
that changes which version serves ends any partnership.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from tasks.core.policy.approval import Row, is_by_hand, rollback_id
from tasks.core.policy.served import SERVING, served_before
from tasks.core.window import utc

PARTNERED = "partnered"
MOVES = (*SERVING, PARTNERED)
"""The actions of the ledger that change what answers."""


class PartnerRow(Row, Protocol):
    """One row of the ledger, with the partner it names."""

    @property
    def partner(self) -> int | None:
        """The version that answers beside `to_version` from here on; None: it answers alone."""
        ...


@dataclass(frozen=True)
class ServingPair:
    """What answers: the champion, alone or with a partner that has half the vote."""

    champion: int | None
    partner: int | None = None

    def __str__(self) -> str:
        """Return it as people read it: "version 12 with version 7"."""
        return pair_text(self.champion, self.partner)


def pair_text(champion: int | None, partner: int | None = None) -> str:
    """Return what answers as people read it.

    Example:
        >>> pair_text(12, 7), pair_text(12), pair_text(None)
        ('version 12 with version 7', 'version 12', 'no version')
    """
    if champion is None:
        return "no version"
    return f"version {champion}" + (f" with version {partner}" if partner is not None else "")


def pair_after(rows: Sequence[PartnerRow]) -> ServingPair:
    """Return what answers after all these rows, which are the ledger's in the order they were recorded.

    Example:
        >>> from types import SimpleNamespace as Row
        >>> def row(action, number, partner=None):
        ...     return Row(action=action, to_version=number, partner=partner)
        >>> history = [row("promoted", 1), row("promoted", 2), row("partnered", 2, 1)]
        >>> str(pair_after(history)), str(pair_after([*history, row("promoted", 3)]))
        ('version 2 with version 1', 'version 3')
    """
    last = next((row for row in reversed(rows) if row.action in MOVES), None)
    if last is None:
        return ServingPair(None)
    return ServingPair(last.to_version, last.partner if last.action == PARTNERED else None)


def pair_at(rows: Sequence[PartnerRow], moment: datetime) -> ServingPair:
    """Return what answered at `moment`; the champion is the one of `tasks.store.ledger.serving_at`.

    Moves count in the order they were recorded: one dated before the move it followed counts from that one's
    date on.
    """
    champion, beside = standing_at(rows, moment)
    if champion is None:
        return ServingPair(None)
    return ServingPair(champion.to_version, beside.partner if beside is not None else None)


AnyRow = TypeVar("AnyRow", bound=PartnerRow)


def standing_at(rows: Sequence[AnyRow], moment: datetime) -> tuple[AnyRow | None, AnyRow | None]:
    """Return the row of this moment's champion, and the last change of partner since; None where is none.

    The second row may say that the champion answers alone again.
    """
    champion: AnyRow | None = None
    beside: AnyRow | None = None
    is_over = False
    for row in rows:
        is_later = utc(row.at) > utc(moment)
        if row.action in SERVING:
            if is_later:
                break
            champion, beside, is_over = row, None, False
        elif row.action == PARTNERED and not is_over:
            is_over = is_later  # what follows a later change of partner is later too
            beside = beside if is_later else row
    return champion, beside


def why_not_partner(rows: Sequence[PartnerRow], partner: int) -> str:
    """Return what the ledger holds against this version answering beside the champion; empty: nothing.

    It has to be a former champion that nobody rolled back from and nobody rejected since.
    """
    about = [row for row in rows if row.to_version == partner and row.action != PARTNERED]
    if not any(row.action in SERVING for row in about):
        return f"version {partner}, which never served by itself"
    if partner not in served_before(rows):
        return f"version {partner}, which was rolled back from and not promoted since"
    if about[-1].action == "rejected":
        return f"version {partner}, which was rejected after it had served"
    return ""


def withdrawn_partners(rows: Sequence[PartnerRow], champion: int) -> frozenset[int]:
    """Return the versions that a person took away from this champion's side; no rule sets them there again.

    A person who sets one beside it afterwards lifts that. `rows` are the ledger's, in the order they were
    recorded; other champions' partners do not matter.

    Example:
        >>> from types import SimpleNamespace as Row
        >>> def row(action, partner=None, decision="d"):
        ...     return Row(decision_id=decision, action=action, to_version=2, partner=partner)
        >>> by_hand = row("partnered", None, partner_rollback_id(2, "d"))
        >>> history = [row("promoted"), row("partnered", 1), by_hand]
        >>> withdrawn_partners(history, 2), withdrawn_partners(history[:2], 2)
        (frozenset({1}), frozenset())
    """
    withdrawn: set[int] = set()
    for before, row in _changes(rows):
        if row.to_version != champion or row.action != PARTNERED or not is_by_hand(row.decision_id):
            continue
        if before.partner is not None:
            withdrawn.add(before.partner)
        if row.partner is not None:
            withdrawn.discard(row.partner)
    return frozenset(withdrawn)


def earlier_partners(rows: Sequence[PartnerRow]) -> tuple[int | None, ...]:
    """Return what stood beside the champion since it serves, the newest first; None: it answered alone.

    What stands there now, and what a person took away, is left out: as with champions, a second rollback
    walks further back instead of returning to what was found bad. Empty where there is no change of partner
    to undo.
    """
    stack: list[int | None] = []
    for _, row in _changes(rows):
        if row.action in SERVING:
            stack = [None]
            continue
        if is_by_hand(row.decision_id) and row.partner in stack:
            del stack[_last(stack, row.partner) :]
        stack.append(row.partner)
    champion = pair_after(rows).champion
    withdrawn = withdrawn_partners(rows, champion) if champion is not None else frozenset()
    return tuple(
        dict.fromkeys(
            partner for partner in stack[-2::-1] if partner != stack[-1] and partner not in withdrawn
        )
    )


def partner_rollback_id(champion: int, state: str) -> str:
    """Return the id of a person's change of partner: two people at once in one state make one decision.

    `state` tells one state of the ledger from the next: the decision of its newest move.
    """
    return rollback_id(champion, f"partner of {state}")


def _changes(rows: Sequence[PartnerRow]) -> Iterator[tuple[ServingPair, PartnerRow]]:
    """Return every move with what answered before it."""
    before = ServingPair(None)
    for row in rows:
        if row.action in MOVES:
            yield before, row
            before = pair_after([row])


def _last(stack: Sequence[int | None], partner: int | None) -> int:
    return max(place for place, value in enumerate(stack) if value == partner)
