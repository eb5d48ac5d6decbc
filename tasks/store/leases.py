"""Leases: who may do a thing right now, until when, and a token that tells a late holder from today's.

A lock of the system is gone with its process or its connection, and its holder may not notice. A lease has an
owner and an end, and its token rises with every holder: what a holder writes is checked against the token in
the same transaction, so one that was paused while another took over writes nothing (Kleppmann, "How to do
distributed locking", 2016: fencing tokens).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.errors import RegistryError
from tasks.core.window import utc
from tasks.store.claims import is_gone, this_process
from tasks.store.engine import reading, writing
from tasks.store.schema_versions import leases

TTL = timedelta(minutes=3)
"""Longer than a move's few calls to the registry, each with its retries: it is taken after the probe."""
_PATIENCE_SECONDS = 240.0  # longer than the lease of a holder that died on another machine
_FREE = ""  # the owner of a lease that was given back: the row stays, so that its token keeps rising


@dataclass(frozen=True)
class Lease:
    """A lease as it was taken; `token` is higher than that of every holder before."""

    name: str
    owner: str
    token: int
    expires_at: datetime


def take(engine: Engine, name: str, owner: str, *, ttl: timedelta = TTL, now: datetime) -> Lease:
    """Return the lease, which is this owner's until `now + ttl`.

    It is free when nobody has it, its time is over, or its owner's process ran on this machine and is gone.
    Whoever asks for what they hold already holds it longer, under the same token.

    Raises:
        RegistryError: when another holds it, naming who and until when.
    """
    now = utc(now)
    row = sa.select(leases).where(leases.c.name == name)
    with writing(engine, lock=f"lease:{name}") as connection:
        held = connection.execute(row.with_for_update()).first()
        lease = Lease(name, owner, 1, now + ttl)
        values = {"owner": owner, "taken_at": now, "expires_at": lease.expires_at}
        if held is None:
            connection.execute(leases.insert(), {"name": name, "token": 1, **values})
            return lease
        is_mine = held.owner == owner
        if not is_mine and held.owner != _FREE and held.expires_at > now and not is_gone(held.owner):
            raise RegistryError(
                f"{name} held by {held.owner} until {held.expires_at:%Y-%m-%d %H:%M:%S}Z",
                "a free lease",
                "wait until then, or end that process",
            )
        token = held.token if is_mine else held.token + 1
        connection.execute(leases.update().where(leases.c.name == name).values(token=token, **values))
        return Lease(name, owner, token, lease.expires_at)


def renew(engine: Engine, lease: Lease, *, ttl: timedelta = TTL, now: datetime) -> Lease:
    """Return the lease with a later end.

    Raises:
        RegistryError: when another has taken it over.
    """
    ends = utc(now) + ttl
    with writing(engine) as connection:
        check(connection, lease)
        connection.execute(leases.update().where(*_row(lease)).values(expires_at=ends))
    return Lease(lease.name, lease.owner, lease.token, ends)


def release(engine: Engine, lease: Lease) -> bool:
    """Give the lease back; False when another has taken it over."""
    with writing(engine) as connection:
        freed = leases.update().where(*_row(lease)).values(owner=_FREE)
        return connection.execute(freed).rowcount > 0


def check(connection: Connection, lease: Lease) -> None:
    """Return nothing while the lease is this holder's, and keep it so until the transaction ends.

    Its time may be over: as long as nobody took it, what its holder writes disturbs nobody.

    Raises:
        RegistryError: when another has taken it over; nothing of the transaction is kept then.
    """
    query = sa.select(leases.c.owner).where(*_row(lease)).with_for_update()
    if connection.execute(query).first() is None:
        raise RegistryError(
            f"{lease.name}: lost the lease {lease.token} of {lease.owner}, another took it over",
            "the holder of the lease",
            "run again: what the other did counts",
        )


def is_held(engine: Engine, lease: Lease) -> bool:
    """Tell whether nobody has taken the lease over."""
    with reading(engine) as connection:
        return connection.execute(sa.select(leases.c.token).where(*_row(lease))).first() is not None


def expired(engine: Engine, now: datetime) -> list[Lease]:
    """Return the leases whose time is over and that nobody gave back; `release` frees one."""
    query = sa.select(leases.c.name, leases.c.owner, leases.c.token, leases.c.expires_at)
    over = query.where(leases.c.expires_at <= utc(now), leases.c.owner != _FREE).order_by(leases.c.name)
    with reading(engine) as connection:
        return [Lease(**row) for row in connection.execute(over).mappings()]


@contextmanager
def held(
    engine: Engine, name: str, *, ttl: timedelta = TTL, timeout_seconds: float = _PATIENCE_SECONDS
) -> Iterator[Lease]:
    """Hold the lease for the block, by the store's own clock, on which every machine agrees.

    Raises:
        RegistryError: when another holds it for longer than `timeout_seconds`.
    """
    owner, deadline = this_process(), time.monotonic() + timeout_seconds
    while True:
        try:
            lease = take(engine, name, owner, ttl=ttl, now=clock(engine))
            break
        except RegistryError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
    try:
        yield lease
    finally:
        release(engine, lease)


def clock(engine: Engine) -> datetime:
    """Return the moment by the clock of the store's machine."""
    is_postgres = engine.dialect.name == "postgresql"
    query = "SELECT extract(epoch FROM clock_timestamp())" if is_postgres else _SQLITE_NOW
    with reading(engine) as connection:
        return datetime.fromtimestamp(float(connection.exec_driver_sql(query).scalar_one()), UTC)


_SQLITE_NOW = "SELECT (julianday('now') - 2440587.5) * 86400.0"  # seconds since 1970, with their fraction


def _row(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return leases.c.name == lease.name, leases.c.token == lease.token, leases.c.owner == lease.owner
