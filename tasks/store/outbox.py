"""Decisions that have to leave this process: written with the decision, kept until it was carried out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import utc
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import outbox, promotions


@dataclass(frozen=True)
class Asked:
    """A retraining that was asked for.

    `written_at` is when, by the clock; `sent_at` when it was last sent, None before the first time; `tries`
    counts how often.
    """

    model: str
    decision_id: str
    written_at: datetime
    sent_at: datetime | None
    tries: int


def put(connection: Connection, model: str, decision_id: str, now: datetime) -> None:
    """Note within the caller's transaction that the decision has to be sent; a second call does nothing."""
    row = {"model": model, "decision_id": decision_id, "written_at": utc(now), "sent_at": None, "tries": 0}
    insert_new(connection, outbox, [row])


def find(engine: Engine, model: str, decision_id: str) -> Asked | None:
    """Return what was asked for under this decision; None when nothing was."""
    query = _columns().where(outbox.c.model == model, outbox.c.decision_id == decision_id)
    with reading(engine) as connection:
        row = connection.execute(query).mappings().first()
    return Asked(**row) if row else None


def unanswered(engine: Engine, model: str, *, since: datetime) -> list[Asked]:
    """Return what was asked for at `since` or later and has no outcome in the ledger, oldest first."""
    ended = sa.select(promotions.c.id).where(
        promotions.c.model == outbox.c.model, promotions.c.decision_id == outbox.c.decision_id
    )
    query = (
        _columns()
        .where(outbox.c.model == model, outbox.c.written_at >= utc(since), ~ended.exists())
        .order_by(outbox.c.id)
    )
    with reading(engine) as connection:
        return [Asked(**row) for row in connection.execute(query).mappings()]


def take(engine: Engine, seen: Asked, now: datetime) -> bool:
    """Return whether the caller is to send it now; of any number that saw the same row, one is.

    It counts as sent from here on. A sender that dies in between leaves it to be sent again later.
    """
    with writing(engine) as connection:
        taken = outbox.update().where(*_row(seen), outbox.c.tries == seen.tries)
        return connection.execute(taken.values(sent_at=utc(now), tries=seen.tries + 1)).rowcount > 0


def give_back(engine: Engine, seen: Asked) -> None:
    """Let what `take` gave stand as it was before: nothing left this process."""
    with writing(engine) as connection:
        back = outbox.update().where(*_row(seen), outbox.c.tries == seen.tries + 1)
        connection.execute(back.values(sent_at=seen.sent_at, tries=seen.tries))


def _columns() -> sa.Select[tuple[str, str, datetime, datetime | None, int]]:
    columns = outbox.c
    return sa.select(columns.model, columns.decision_id, columns.written_at, columns.sent_at, columns.tries)


def _row(asked: Asked) -> tuple[sa.ColumnElement[bool], ...]:
    return outbox.c.model == asked.model, outbox.c.decision_id == asked.decision_id
