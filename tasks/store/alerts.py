"""Open incidents, so that one incident sends one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.messages import Message, resolution
from tasks.core.window import utc
from tasks.store import deliveries
from tasks.store.deliveries import Delivery
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import alerts

Wait = Callable[[str, Message], datetime | None]
"""Until when a channel is to be left alone with a message; None: not at all."""
LOUDER_TIERS = ("warning", "critical")
"""What an incident that began in another tier may become."""


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
    wait: Wait | None = None,
) -> tuple[Incident, bool]:
    """Return the open incident of this cause, and whether this call opened it.

    What each channel is to be told of it is written in the same transaction: either both stand or neither.
    `at` is the moment of the incident, `now` the clock's, from which deliveries are counted.
    """
    row = {"model": model, "cause": cause, "tier": tier, "message": message, "opened_at": utc(at)}
    with writing(engine, lock=f"deliveries:{model}") as connection:
        return begin(connection, row, contents or {}, now=utc(now or at), wait=wait)


def begin(
    connection: Connection,
    row: dict[str, Any],  # Any: of each column its own
    contents: Mapping[str, Message],
    *,
    now: datetime,
    wait: Wait | None = None,
) -> tuple[Incident, bool]:
    """Do as `open_incident` within the caller's transaction, which holds the lock `deliveries:<model>`."""
    is_new = insert_new(connection, alerts, [row]) == 1
    incident = opened_by(connection, row["model"], row["cause"])
    if incident is None:  # under the lock nobody can have ended it
        raise LookupError(f"the incident of {row['cause']} is gone")
    if is_new:
        write(connection, incident, deliveries.opened(incident.id), contents, now=now, wait=wait)
    return incident, is_new


def note_once(
    engine: Engine,
    *,
    model: str,
    cause: str,
    message: str,
    at: datetime,
    contents: Mapping[str, Message],
    now: datetime,
    wait: Wait | None = None,
) -> Incident | None:
    """Return what was noted of something that happened and is over; None where it was noted before.

    It is an incident that began and ended at once, so it is told once, stands in the history, is never open
    and nobody is told of its end.
    """
    row = {"model": model, "cause": cause, "tier": "info", "message": message, "opened_at": utc(at)}
    known = sa.select(alerts.c.id).where(alerts.c.model == model, alerts.c.cause == cause).limit(1)
    with writing(engine, lock=f"deliveries:{model}") as connection:
        if connection.execute(known).first() is not None:
            return None
        incident, _ = begin(connection, row, contents, now=utc(now), wait=wait)
        connection.execute(alerts.update().where(alerts.c.id == incident.id).values(resolved_at=utc(at)))
    return incident


def end_incident(
    engine: Engine,
    model: str,
    cause: str,
    at: datetime,
    *,
    now: datetime | None = None,
    link: str = "",
    wait: Wait | None = None,
) -> Incident | None:
    """Return the incident that ended by this call; None when none of this cause was open.

    Every channel that was told of it is to be told of its end, written in the same transaction. A channel
    that was not told yet is told neither.
    """
    with writing(engine, lock=f"deliveries:{model}") as connection:
        return end(connection, model, cause, at, now=utc(now or at), link=link, wait=wait)


def end(
    connection: Connection,
    model: str,
    cause: str,
    at: datetime,
    *,
    now: datetime,
    link: str = "",
    wait: Wait | None = None,
) -> Incident | None:
    """Do as `end_incident` within the caller's transaction, which holds the lock `deliveries:<model>`."""
    still_open = (alerts.c.model == model, alerts.c.cause == cause, alerts.c.resolved_at.is_(None))
    query = alerts.update().where(*still_open).values(resolved_at=utc(at)).returning(*alerts.c)
    ended = connection.execute(query).first()
    if ended is None:
        return None
    incident = _incident(ended)
    for topic, told in _told(connection, incident, now):
        said = resolution(Message.from_dict(told.content), link=link, lasted=utc(at) - incident.opened_at)
        write(connection, incident, topic, {told.channel: said}, now=now, wait=wait)
        if not told.delivered:  # in flight: known for sure when its claim has run out
            deliveries.postpone(connection, topic, told.channel, told.next_at)
    return incident


def write(
    connection: Connection,
    incident: Incident,
    topic: str,
    contents: Mapping[str, Message],
    *,
    now: datetime,
    wait: Wait | None = None,
) -> None:
    """Write what the channels are to be told of the incident, within the caller's transaction."""
    notes = {channel: said.to_dict() for channel, said in contents.items()}
    deliveries.write(connection, model=incident.model, topic=topic, contents=notes, at=now)
    for channel, said in contents.items():
        until = wait(channel, said) if wait else None
        if until is not None and until > now:
            deliveries.postpone(connection, topic, channel, until)


def history(engine: Engine, model: str, *, open_only: bool = False) -> list[Incident]:
    """Return the model's incidents, oldest first."""
    with reading(engine) as connection:
        return of_model(connection, model, open_only=open_only)


def of_model(connection: Connection, model: str, *, open_only: bool = False) -> list[Incident]:
    """Return the model's incidents within the caller's transaction, oldest first."""
    query = sa.select(alerts).where(alerts.c.model == model).order_by(alerts.c.id)
    if open_only:
        query = query.where(alerts.c.resolved_at.is_(None))
    return [_incident(row) for row in connection.execute(query)]


def opened_by(connection: Connection, model: str, cause: str) -> Incident | None:
    """Return the open incident of this cause, None where there is none."""
    still_open = (alerts.c.model == model, alerts.c.cause == cause, alerts.c.resolved_at.is_(None))
    row = connection.execute(sa.select(alerts).where(*still_open)).first()
    return None if row is None else _incident(row)


def _told(connection: Connection, incident: Incident, now: datetime) -> list[tuple[str, Delivery]]:
    """Return who was told that the incident began, once each, with the topic under which it ended.

    Whoever was told louder as well is told of the end once; a pager that opened an incident for each of the
    two, under a key of its own, closes both.
    """
    found = [
        (deliveries.resolved(incident.id, tier), row)
        for tier in ("", *LOUDER_TIERS)
        for row in deliveries.end_opening(connection, incident.id, now, louder=tier)
    ]
    sure_first = sorted(found, key=lambda one: not one[1].delivered)
    once: dict[tuple[str, object], tuple[str, Delivery]] = {}
    for topic, row in sure_first:
        once.setdefault((row.channel, row.content.get("key")), (topic, row))
    return list(once.values())


def _incident(row: Any) -> Incident:  # Any: a row of the table
    return Incident(
        row.model, row.cause, row.tier, row.message, row.opened_at, row.resolved_at, row.id
    )  # fmt: skip
