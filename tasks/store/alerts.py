"""Open incidents, so that one incident sends one message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.window import utc
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import alerts


@dataclass(frozen=True)
class Incident:
    """Something a person was told, from when to when; `resolved_at` is None while it lasts."""

    model: str
    cause: str
    tier: str
    message: str
    opened_at: datetime
    resolved_at: datetime | None


def open_once(engine: Engine, *, model: str, cause: str, tier: str, message: str, at: datetime) -> bool:
    """Return True when this opens a new incident, False when one of the same cause is open already."""
    row = {"model": model, "cause": cause, "tier": tier, "message": message, "opened_at": utc(at)}
    with writing(engine) as connection:
        return insert_new(connection, alerts, [row]) == 1


def resolve(engine: Engine, model: str, cause: str, at: datetime) -> bool:
    """Return True when an open incident of this cause ended by this call."""
    still_open = (alerts.c.model == model, alerts.c.cause == cause, alerts.c.resolved_at.is_(None))
    with writing(engine) as connection:
        ended = connection.execute(alerts.update().where(*still_open).values(resolved_at=utc(at)))
    return ended.rowcount > 0


def history(engine: Engine, model: str, *, open_only: bool = False) -> list[Incident]:
    """Return the model's incidents, oldest first."""
    query = sa.select(alerts).where(alerts.c.model == model).order_by(alerts.c.id)
    if open_only:
        query = query.where(alerts.c.resolved_at.is_(None))
    with reading(engine) as connection:
        return [
            Incident(row.model, row.cause, row.tier, row.message, row.opened_at, row.resolved_at)
            for row in connection.execute(query)
        ]
