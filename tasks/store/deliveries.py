"""Messages on their way out, kept until a channel took them.

A row is written with what it tells of, in one transaction, and sent afterwards. Who sends it claims it first,
so that of several processes one sends. A sender that dies leaves its claim to run out, and the row is sent
again: a channel may then get a message twice, but none is lost.

Claimed: no `done_at`, `tries` above 0 and no `error`. Failed and waiting: `error` says how.
Delivered: `done_at` and no `error`. Given up or dropped: `done_at`, and `error` says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import alerts, deliveries, plain

LEASE = timedelta(minutes=5)
"""How long a claimed message is left alone; no channel may take longer."""
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
MOST_TRIES = 24
NO_ANSWER = "no answer in time"
GIVEN_UP = "given up"
_ALERT, _OPEN, _RESOLVED = "alert:", ":open", ":resolved"
_LONGEST_ERROR = 300
_LOUDER = "told in a louder tier instead"
_OVER = "the incident was over before this channel was told of it"
_UNSURE = "the incident was over, and nobody knows whether this arrived"


@dataclass(frozen=True)
class Delivery:
    """One message for one channel; times are by the clock, never `as_of`."""

    id: int
    model: str
    topic: str
    channel: str
    content: dict[str, Any]  # Any: JSON
    written_at: datetime
    next_at: datetime
    tries: int
    done_at: datetime | None
    error: str | None

    @property
    def delivered(self) -> bool:
        """True when the channel took it."""
        return self.done_at is not None and self.error is None

    @property
    def may_have_arrived(self) -> bool:
        """True when a sender has it, or had it when it died, or got no answer."""
        return self.done_at is None and self.tries > 0 and self.error in {None, NO_ANSWER}


def opened(alert_id: int, louder: str = "") -> str:
    """Return the topic of the message that opens this incident, or tells of it again in a louder tier."""
    return f"{_ALERT}{alert_id}{':' + louder if louder else ''}{_OPEN}"


def resolved(alert_id: int, louder: str = "") -> str:
    """Return the topic of the message that ends this incident for who got that of `opened`."""
    return opened(alert_id, louder).removesuffix(_OPEN) + _RESOLVED


def begins_incident(row: Delivery) -> bool:
    """Return True when the row tells that an incident began."""
    return row.topic.startswith(_ALERT) and row.topic.endswith(_OPEN)


def ends_incident(row: Delivery) -> bool:
    """Return True when the row tells that an incident is over."""
    return row.topic.startswith(_ALERT) and row.topic.endswith(_RESOLVED)


def wait_after(tries: int) -> timedelta:
    """Return how long to wait after this many failed tries: 1 minute, doubling, at most 1 hour.

    Example:
        >>> [wait_after(tries).seconds // 60 for tries in (1, 2, 6, 7, 24)]
        [1, 2, 32, 60, 60]
    """
    doublings = min(max(tries, 1) - 1, 20)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def write(
    connection: Connection, *, model: str, topic: str, contents: Mapping[str, object], at: datetime
) -> int:
    """Write one row per channel within the caller's transaction; return how many were new.

    `contents` is what to send, by channel, as JSON. A topic is told to a channel once, ever.
    """
    rows = [
        {
            "model": model, "topic": topic, "channel": channel, "content": plain(content),
            "written_at": at, "next_at": at, "tries": 0,
        }
        for channel, content in contents.items()
    ]  # fmt: skip
    return insert_new(connection, deliveries, rows)


def due(
    engine: Engine, model: str, now: datetime, *, without: Collection[str] = (), most: int = 200
) -> list[Delivery]:
    """Return what waits to be sent by now, oldest first, save for the channels in `without`."""
    waiting = (deliveries.c.model == model, deliveries.c.done_at.is_(None), deliveries.c.next_at <= now)
    told = deliveries.c.channel.not_in(list(without))
    query = sa.select(deliveries).where(*waiting, told).order_by(deliveries.c.id).limit(most)
    with reading(engine) as connection:
        return _rows(connection, query)


def about(engine: Engine, topics: Iterable[str]) -> list[Delivery]:
    """Return every row of these topics, oldest first, whatever became of it."""
    with reading(engine) as connection:
        return rows_about(connection, topics)


def rows_about(connection: Connection, topics: Iterable[str]) -> list[Delivery]:
    """Return every row of these topics within the caller's transaction, oldest first."""
    query = sa.select(deliveries).where(deliveries.c.topic.in_(list(topics))).order_by(deliveries.c.id)
    return _rows(connection, query)


def claim(engine: Engine, row: Delivery, now: datetime) -> str | None:
    """Return None when the caller, and nobody else, is to send this row now; else why not.

    The reason is empty when another sender has it or it is done. A row that was tried too often ends here,
    and so does one that lost its sense: the opening of an incident that is over, or the end of one whose
    opening did not arrive.
    """
    with writing(engine, lock=f"deliveries:{row.model}") as connection:
        why = _needless(connection, row, now)
        if why:
            return why if _end(connection, row, now, why) else ""
        mine = _as_seen(row).where(deliveries.c.next_at <= now)
        mine = mine.values(tries=row.tries + 1, next_at=now + LEASE, error=None)
        return None if connection.execute(mine).rowcount == 1 else ""


def delivered(engine: Engine, row: Delivery, now: datetime) -> None:
    """Note that the channel took the row; also after somebody gave it up, for that is what happened."""
    with writing(engine) as connection:
        note = deliveries.update().where(deliveries.c.id == row.id)
        connection.execute(note.values(done_at=now, error=None))


def failed(engine: Engine, row: Delivery, now: datetime, why: str) -> bool:
    """Note a failed try of a row claimed by the caller; return True when it was the last one.

    `why` is kept: the kind of an error, never its text, which may hold a webhook's address.
    """
    tries = row.tries + 1  # the claim counted this one
    last = tries >= MOST_TRIES
    with writing(engine) as connection:
        note = deliveries.update().where(deliveries.c.id == row.id, deliveries.c.done_at.is_(None))
        note = note.where(deliveries.c.tries == tries)
        if last:
            note = note.values(done_at=now, error=f"{GIVEN_UP} after {tries} tries: {why}"[:_LONGEST_ERROR])
        else:
            note = note.values(next_at=now + wait_after(tries), error=why[:_LONGEST_ERROR])
        return connection.execute(note).rowcount == 1 and last


def readdress(engine: Engine, row: Delivery, channels: Collection[str], now: datetime) -> bool:
    """Return True when this waiting row, whose channel nobody names any more, went to these channels instead.

    Only channels that were not addressed before get one.
    """
    with writing(engine, lock=f"deliveries:{row.model}") as connection:
        if not _end(connection, row, now, "the channel is not named in the spec any more"):
            return False
        contents = dict.fromkeys(channels, row.content)
        write(connection, model=row.model, topic=row.topic, contents=contents, at=now)
        return True


def end_opening(connection: Connection, alert_id: int, now: datetime, *, louder: str = "") -> list[Delivery]:
    """Return the openings of this incident that arrived or may still arrive; those that wait are dropped.

    Within the caller's transaction, which holds the lock `deliveries:<model>`.
    """
    told = []
    for row in rows_about(connection, [opened(alert_id, louder)]):
        if row.delivered or row.may_have_arrived:
            told.append(row)
        elif row.done_at is None:
            _end(connection, row, now, _OVER)
    return told


def supersede(connection: Connection, alert_id: int, channels: Collection[str], now: datetime) -> None:
    """Drop openings of the incident that nobody tried to send yet, on channels that are told it louder."""
    waits = (deliveries.c.done_at.is_(None), deliveries.c.tries == 0, deliveries.c.topic == opened(alert_id))
    mine = deliveries.update().where(*waits, deliveries.c.channel.in_(list(channels)))
    connection.execute(mine.values(done_at=now, error=_LOUDER))


def hold(engine: Engine, until: Collection[tuple[Delivery, datetime]]) -> None:
    """Let rows that wait do so until then, save for those that somebody claimed since they were read."""
    if until:
        with writing(engine) as connection:
            for row, moment in until:
                connection.execute(_as_seen(row).values(next_at=moment))


def postpone(connection: Connection, topic: str, channel: str, until: datetime) -> None:
    """Let a row of the caller's transaction wait, for what has to arrive before it is in flight."""
    found = (deliveries.c.topic == topic, deliveries.c.channel == channel, deliveries.c.done_at.is_(None))
    connection.execute(deliveries.update().where(*found).values(next_at=until))


def _needless(connection: Connection, row: Delivery, now: datetime) -> str:
    """Return why a waiting row need not be sent any more; empty when it is to be sent."""
    if begins_incident(row) and _is_over(connection, row.topic):
        return _UNSURE if row.may_have_arrived else _OVER
    if ends_incident(row):
        before = row.topic.removesuffix(_RESOLVED) + _OPEN
        first = next((one for one in rows_about(connection, [before]) if one.channel == row.channel), None)
        if first is not None and first.done_at is None:
            _end(connection, first, now, _UNSURE if first.may_have_arrived else _OVER)
        if first is None or not (first.delivered or first.may_have_arrived or first.error == _UNSURE):
            return _OVER
    return f"{GIVEN_UP} after {row.tries} tries" if row.tries >= MOST_TRIES else ""


def _is_over(connection: Connection, topic: str) -> bool:
    number = int(topic.split(":")[1])
    query = sa.select(alerts.c.resolved_at).where(alerts.c.id == number)
    return connection.execute(query).scalar() is not None


def _end(connection: Connection, row: Delivery, now: datetime, why: str) -> bool:
    ended = connection.execute(_as_seen(row).values(done_at=now, error=why))
    return ended.rowcount == 1


def _as_seen(row: Delivery) -> sa.Update:
    """Return an update of this row as the caller saw it: of several processes it is true for one."""
    seen = (deliveries.c.id == row.id, deliveries.c.tries == row.tries, deliveries.c.done_at.is_(None))
    return deliveries.update().where(*seen)


def _rows(connection: Connection, query: sa.Select[Any]) -> list[Delivery]:  # Any: the columns
    return [Delivery(**row._mapping) for row in connection.execute(query)]
