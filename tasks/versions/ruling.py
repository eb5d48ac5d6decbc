"""What a person's word on a version came to, entered in the ledger and read back from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from prefect.states import Completed, State
from sqlalchemy.engine import Engine

from tasks.core.errors import RegistryError
from tasks.core.policy.approval import Waiting, is_by_hand, waiting_versions
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import ledger, moves
from tasks.store.engine import open_store
from tasks.store.locks import model_lock


@dataclass(frozen=True)
class Ruling:
    """What a person's word came to, as the ledger has it; `left` still waits.

    `is_news` is False where an earlier call, or somebody else, had settled the matter before.
    """

    model: str
    action: Literal["promoted", "rejected", "refused", "nothing waits"]
    why: str
    version: int | None = None
    from_version: int | None = None
    attempt: str = ""
    actor: str = ""
    digest: str = ""
    is_news: bool = True
    left: tuple[int, ...] = ()

    def sentence(self) -> str:
        """Return the ruling as one line."""
        if self.version is None:
            return f"{self.action}: {self.why}"
        already = "" if self.is_news else "already "
        return f"{already}{self.action} version {self.version} by {self.actor}: {self.why}"

    def state(self) -> State[Any]:
        """Return a completed state whose name says what happened."""
        return Completed(name=self.action.capitalize(), message=self.sentence()[:400], data=self)


@dataclass(frozen=True)
class Wish:
    """What somebody wants, before it is known what becomes of it."""

    spec: ModelSpec
    place: Settings
    number: int
    waiting: Waiting | None
    actor: str
    reason: str
    as_of: datetime

    @property
    def note(self) -> dict[str, Any]:  # Any: JSON
        """What the ledger keeps of the wish, whatever comes of it."""
        kept: dict[str, Any] = {"asked": {"actor": self.actor, "reason": self.reason}}
        return {**kept, "waited_as": self.waiting.attempt} if self.waiting else kept


def recorded(
    wish: Wish,
    decision: str,
    action: Literal["refused", "rejected"],
    from_version: int | None,
    actor: str,
    reason: str,
) -> Ruling:
    """Return the ruling after it was entered, or the one that stood there; call it under the model's lock."""
    engine, model = open_store(wish.place), wish.spec.name
    standing = ledger.find(engine, model, decision)
    if standing is None:
        standing = ledger.record(
            engine,
            model=model,
            decision_id=decision,
            action=action,
            from_version=from_version,
            to_version=wish.number,
            actor=actor,
            reason=reason,
            evidence=wish.note,
            at=wish.as_of,
        )
        task_logger(__name__).info("%s: version %d %s by %s", model, wish.number, action, actor)
        return as_recorded(engine, wish.spec, standing, wish.as_of, is_news=True)
    return as_recorded(engine, wish.spec, standing, wish.as_of)


def as_recorded(
    engine: Engine, spec: ModelSpec, row: ledger.LedgerRow, as_of: datetime, *, is_news: bool = False
) -> Ruling:
    """Return the ruling that stands in the ledger."""
    if row.action not in {"promoted", "rejected", "refused"}:
        raise RegistryError(
            f"decision {row.decision_id} in the ledger as {row.action}",
            "promoted, rejected or refused",
            "use a new decision id for a new outcome",
            model=spec.name,
        )
    return Ruling(
        model=spec.name,
        action=row.action,  # type: ignore[arg-type]  # one of the three, as checked above
        why=row.reason,
        version=row.to_version,
        from_version=row.from_version,
        attempt=row.decision_id,
        actor=row.actor,
        digest=str(row.evidence.get("digest") or ""),
        is_news=is_news,
        left=tuple(one.version for one in still_waiting(engine, spec, as_of)),
    )


def nothing_waits(spec: ModelSpec, rows: Sequence[ledger.LedgerRow]) -> Ruling:
    """Return that nothing waits, and what the last word was."""
    ruled = [row for row in rows if is_by_hand(row.decision_id)]
    last = f"; the last word was {_told(ruled[-1])}" if ruled else ""
    return Ruling(spec.name, "nothing waits", f"no version of {spec.name} waits for approval{last}")


def _told(row: ledger.LedgerRow) -> str:
    return f"{row.action} version {row.to_version} by {row.actor} at {row.at:%Y-%m-%d %H:%M}Z"


def said_before(
    rows: Sequence[ledger.LedgerRow], number: int, actor: str, reason: str
) -> ledger.LedgerRow | None:
    """Return the row of the same words about the same version, if nothing has moved since they were said."""
    for row in reversed(rows):
        asked = row.evidence.get("asked") or {}
        ours = is_by_hand(row.decision_id) and row.action != "rolled_back" and row.to_version == number
        if ours and (asked.get("actor"), asked.get("reason")) == (actor, reason):
            return row
        if row.action in moves.SERVING:
            return None
    return None


def still_waiting(engine: Engine, spec: ModelSpec, as_of: datetime) -> tuple[Waiting, ...]:
    """Return what waits for a person at this moment, oldest first."""
    return waiting_versions(ledger.history(engine, spec.name), spec.gate.approval, as_of)


def newest(waits: Sequence[Waiting]) -> int | None:
    """Return the number of the newest version that waits; None when none does."""
    return waits[-1].version if waits else None


def last_moved(rows: Sequence[ledger.LedgerRow]) -> str:
    """Return the decision that moved the champion last: it tells one state of the ledger from the next."""
    return next((row.decision_id for row in reversed(rows) if row.action in moves.SERVING), "")


@contextmanager
def ending_moves(spec: ModelSpec, place: Settings) -> Iterator[None]:
    """Hold the model's lock after a move that was under way has ended, so that the ledger is complete."""
    with model_lock(f"{spec.name}.move", place):
        moves.finish_pending(spec.name, settings=place)
        yield
