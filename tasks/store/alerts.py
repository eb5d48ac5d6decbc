"""Open incidents, so that one incident sends one message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.messages import Message, resolution
from tasks.core.window import utc
from tasks.store import deliveries
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
    id: int = 0


def open_incident(
    engine: Engine,
    *,
    model: str,
    cause: str,
    tier: str,
    message: str,
    at: datetime,
    contents: Mapping[str, Message] | None = None,
    now: datetime | None = None,
) -> tuple[Incident, bool]:
    """Return the open incident of this cause, and whether this call opened it.

    What each channel is to be told of it is written in the same transaction: either both stand or neither.
    `at` is the moment of the incident, `now` the clock's, from which deliveries are counted.
    """
    row = {"model": model, "cause": cause, "tier": tier, "message": message, "opened_at": utc(at)}
    with writing(engine, lock=f"deliveries:{model}") as connection:
        is_new = insert_new(connection, alerts, [row]) == 1
        incident = _open(connection, model, cause)
        if is_new and contents:
            notes = {channel: said.to_dict() for channel, said in contents.items()}
            topic = deliveries.opened(incident.id)
            deliveries.write(connection, model=model, topic=topic, contents=notes, at=utc(now or at))
    return incident, is_new


def end_incident(
    engine: Engine, model: str, cause: str, at: datetime, *, now: datetime | None = None, link: str = ""
) -> Incident | None:
    """Return the incident that ended by this call; None when none of this cause was open.

    Every channel that was told of it is to be told of its end, written in the same transaction. A channel
    that was not told yet is told neither.
    """
    clock = utc(now or at)
    with writing(engine, lock=f"deliveries:{model}") as connection:
        still_open = (alerts.c.model == model, alerts.c.cause == cause, alerts.c.resolved_at.is_(None))
        query = alerts.update().where(*still_open).values(resolved_at=utc(at)).returning(*alerts.c)
        ended = connection.execute(query).first()
        if ended is None:
            return None
        topic = deliveries.resolved(ended.id)
        for told in deliveries.end_opening(connection, ended.id, clock):
            said = resolution(Message.from_dict(told.content), link=link)
            contents = {told.channel: said.to_dict()}
            deliveries.write(connection, model=model, topic=topic, contents=contents, at=clock)
            if not told.delivered:  # in flight: known for sure when its claim has run out
                deliveries.postpone(connection, topic, told.channel, told.next_at)
        return _incident(ended)


def history(engine: Engine, model: str, *, open_only: bool = False) -> list[Incident]:
    """Return the model's incidents, oldest first."""
    query = sa.select(alerts).where(alerts.c.model == model).order_by(alerts.c.id)
    if open_only:
        query = query.where(alerts.c.resolved_at.is_(None))
    with reading(engine) as connection:
        return [_incident(row) for row in connection.execute(query)]


def _open(connection: Connection, model: str, cause: str) -> Incident:
    still_open = (alerts.c.model == model, alerts.c.cause == cause, alerts.c.resolved_at.is_(None))
    return _incident(connection.execute(sa.select(alerts).where(*still_open)).one())


def _incident(row: Any) -> Incident:  # Any: a row of the table
    return Incident(
        row.model, row.cause, row.tier, row.message, row.opened_at, row.resolved_at, row.id
    )  # fmt: skip
