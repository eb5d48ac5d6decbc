"""Moves of a champion as they were noted before they were done, and what became of each.

They are kept here and nowhere else: whoever can write to the registry cannot write what we intended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import utc
from tasks.store.engine import reading
from tasks.store.schema import plain
from tasks.store.schema_versions import intents

State = Literal["open", "done", "superseded", "dropped"]
"""Open: under way, or interrupted. Done: by the one who noted it. Superseded: ended by another, who took over
from them. Dropped: nothing had moved when another took over. In the last two whoever noted it may still be
alive, and late."""
NONE = 0  # as the version that an alias points to: there is no alias; MLflow counts versions from 1
_MAY_COME_LATE = ("superseded", "dropped")


@dataclass(frozen=True)
class Intent:
    """A move as it was noted, by the holder of the lease with this token."""

    id: int
    decision_id: str
    content: dict[str, Any]  # Any: JSON
    token: int


def note(
    connection: Connection,
    model: str,
    decision_id: str,
    to_version: int,
    content: Mapping[str, Any],  # Any: JSON
    *,
    token: int,
    at: datetime,
    state: State = "open",
) -> Intent:
    """Return the intent, noted within the caller's transaction, which checked the lease with this token.

    Of a model one move at a time is open; a second one is refused by the database.
    """
    row = {
        "model": model,
        "decision_id": decision_id,
        "to_version": to_version,
        "content": plain(dict(content)),
        "token": token,
        "written_at": utc(at),
        "state": state,
    }
    number = connection.execute(intents.insert().returning(intents.c.id), row).scalar_one()
    return Intent(number, decision_id, row["content"], token)


def end(connection: Connection, noted: Intent, state: State) -> None:
    """Keep what became of the intent, within the caller's transaction."""
    connection.execute(intents.update().where(intents.c.id == noted.id).values(state=state))


def find_open(engine: Engine, model: str) -> Intent | None:
    """Return the model's move that is under way or was interrupted; None: there is none."""
    table = intents.c
    query = sa.select(table.id, table.decision_id, table.content, table.token)
    query = query.where(table.model == model, table.state == "open")
    with reading(engine) as connection:
        found = connection.execute(query).mappings().first()
        return Intent(**found) if found else None


def late_versions(engine: Engine, model: str) -> set[int]:
    """Return the versions to which somebody who was overtaken may have set the alias after the fact.

    `NONE` is among them where somebody may have taken the alias away.
    """
    query = sa.select(intents.c.to_version).distinct()
    query = query.where(intents.c.model == model, intents.c.state.in_(_MAY_COME_LATE))
    with reading(engine) as connection:
        return set(connection.execute(query).scalars())
