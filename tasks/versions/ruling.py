"""What a person's word on a version came to, entered in the ledger and read back from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from prefect.states import State
from sqlalchemy.engine import Engine

from tasks.core.errors import RegistryError
from tasks.core.policy.approval import Waiting, is_by_hand, waiting_versions
from tasks.core.policy.served import SERVING
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import ledger, lifecycle, moves
from tasks.store.engine import open_store
from tasks.store.locks import model_lock
from tasks.versions.filing import filed


@dataclass(frozen=True)
class Ruling:
    """What a person's word came to, as the ledger has it; `left` still waits.

    `is_news` is False where an earlier call, or somebody else, had settled the matter before.
    """

    model: str
    action: Literal["promoted", "rejected", "refused"]
    why: str
    version: int
    from_version: int | None = None
    attempt: str = ""
    actor: str = ""
    digest: str = ""
    is_news: bool = True
    left: tuple[int, ...] = ()

    def sentence(self) -> str:
        """Return the ruling as one line."""
        already = "" if self.is_news else "already "
        return f"{already}{self.action} version {self.version} by {self.actor}: {self.why}"

    def state(self) -> State[Any]:
        """Return a completed state that says what happened."""
        return completed(self.action.capitalize(), self.sentence(), self)


@dataclass(frozen=True)
class Wish:
    """What somebody wants, before it is known what becomes of it."""

    spec: ModelSpec
    place: Settings
    number: int
    waiting: Waiting | None
    verdict: Literal["approve", "reject"]
    actor: str
    reason: str
    as_of: datetime

    @property
    def note(self) -> dict[str, Any]:  # Any: JSON
        """What the ledger keeps of the wish, whatever comes of it."""
        kept: dict[str, Any] = {"asked": _asked(self.verdict, self.actor, self.reason)}
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
        why = lifecycle.Why(actor, moves.short(reason), decision, wish.as_of)
        filed(model, wish.number, action, why, settings=wish.place)
        task_logger(__name__).info("%s: version %d %s by %s", model, wish.number, action, actor)
        return as_recorded(engine, wish.spec, standing, is_news=True)
    return as_recorded(engine, wish.spec, standing)


def as_recorded(engine: Engine, spec: ModelSpec, row: ledger.LedgerRow, *, is_news: bool = False) -> Ruling:
    """Return the ruling that stands in the ledger."""
    if row.action not in {"promoted", "rejected", "refused"} or row.to_version is None:
        raise RegistryError(
            f"decision {row.decision_id} in the ledger as {row.action} version {row.to_version}",
            "a version promoted, rejected or refused",
            "use a new decision id for a new outcome",
            model=spec.name,
        )
    return Ruling(
        model=spec.name,
        action=row.action,
        why=row.reason,
        version=row.to_version,
        from_version=row.from_version,
        attempt=row.decision_id,
        actor=row.actor,
        digest=str(row.evidence.get("digest") or ""),
        is_news=is_news,
        left=tuple(one.version for one in still_waiting(engine, spec)),
    )


def said_before(
    rows: Sequence[ledger.LedgerRow],
    number: int,
    verdict: Literal["approve", "reject"],
    actor: str,
    reason: str,
) -> ledger.LedgerRow | None:
    """Return the row of the same wish about the same version, if nothing has moved since it was said.

    The same words under another verdict are another wish: somebody who rejects a version and then approves
    it with the same reason has changed their mind, not clicked twice.
    """
    asked = _asked(verdict, actor, reason)
    for row in reversed(rows):
        ours = is_by_hand(row.decision_id) and row.action != "rolled_back" and row.to_version == number
        if ours and row.evidence.get("asked") == asked:
            return row
        if row.action in SERVING:
            return None
    return None


def still_waiting(engine: Engine, spec: ModelSpec) -> tuple[Waiting, ...]:
    """Return what waits for a person, oldest first."""
    return waiting_versions(ledger.history(engine, spec.name), spec.gate.approval)


def last_moved(rows: Sequence[ledger.LedgerRow]) -> str:
    """Return the decision that moved the champion last: it tells one state of the ledger from the next."""
    return next((row.decision_id for row in reversed(rows) if row.action in SERVING), "")


@contextmanager
def ending_moves(spec: ModelSpec, place: Settings) -> Iterator[None]:
    """Hold the model's lock after a move that was under way has ended, so that the ledger is complete."""
    with model_lock(f"{spec.name}.move", place):
        moves.finish_pending(spec.name, settings=place)
        yield


def _asked(verdict: str, actor: str, reason: str) -> dict[str, str]:
    return {"actor": actor, "reason": reason, "verdict": verdict}
