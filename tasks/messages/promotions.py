"""The message that a version serves now, which the deployer gets once per move in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy.engine import Engine

from tasks.core.kpi.facts import moment_in
from tasks.core.policy.served import SERVING
from tasks.core.window import utc
from tasks.messages.deliver import DEPLOYER
from tasks.store import deliveries, ledger
from tasks.store.engine import writing
from tasks.store.ledger import LedgerRow

RECENT = timedelta(days=7)
"""How old a move may be that the deployer is told of although nobody announced it. Our choice: longer than a
loop stands still over a holiday, and short enough that a deployer set up later is not told of history."""


@dataclass(frozen=True)
class Served:
    """A move as the deployer is told of it; the fields are those of the message.

    `sequence` counts the model's moves in the order in which they were made, from 1.
    """

    model: str
    version: int
    from_version: int | None
    action: str
    decision_id: str
    digest: str
    at: str
    sequence: int


def topic_of(model: str, decision_id: str) -> str:
    """Return the topic of the message about this decision: a channel is told of it once, ever."""
    return f"promotion:{model}:{decision_id}"


def sequence_of(rows: Sequence[LedgerRow], decision_id: str) -> int | None:
    """Return which of the moves in these rows, a model's whole history, the decision is, from 1; None: none.

    The ledger only grows, and moves of one model wait for each other: later moves have higher numbers,
    whatever moment they act as of.
    """
    moves = [row.decision_id for row in rows if row.action in SERVING]
    return moves.index(decision_id) + 1 if decision_id in moves else None


def put(engine: Engine, served: Served, now: datetime) -> bool:
    """Return True when this wrote the message, to be sent; False when it was written before."""
    topic, contents = topic_of(served.model, served.decision_id), {DEPLOYER: asdict(served)}
    with writing(engine) as connection:
        return deliveries.write(connection, model=served.model, topic=topic, contents=contents, at=now) == 1


def put_missing(engine: Engine, model: str, now: datetime) -> Served | None:
    """Return the newest move of the model when nobody had announced it and this wrote its message; else None.

    A process that dies between a move and its announcement leaves one behind. Only a move of the last 7 days
    counts: by the clock where the ledger says when it was made, else by the moment it acts as of.
    """
    rows = ledger.history(engine, model)
    last = next((row for row in reversed(rows) if row.action in SERVING), None)
    if last is None or last.to_version is None:
        return None
    if now - (moment_in(last.evidence, "moved_at") or last.at) > RECENT:
        return None
    served = Served(
        model=model,
        version=last.to_version,
        from_version=last.from_version,
        action=last.action,
        decision_id=last.decision_id,
        digest=str(last.evidence.get("digest") or ""),
        at=utc(last.at).isoformat(),
        sequence=sequence_of(rows, last.decision_id) or 0,
    )
    return served if put(engine, served, now) else None
