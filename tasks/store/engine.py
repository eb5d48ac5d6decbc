"""Connections to the store: opened, migrated and locked in one place."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, Connection, Engine, make_url

from tasks.core.errors import SpecError, StoreError
from tasks.settings import Settings
from tasks.store.schema import REVISION, dump_json

BUSY_SECONDS = 60  # how long a writer waits for another before it gives up
# A connection whose other end is gone ends after some 20 s; a long query that is alive does not.
_POSTGRES = {
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "evergreen",
}
_engines: dict[tuple[int, str], Engine] = {}
_opening = Lock()


def open_store(settings: Settings | None = None) -> Engine:
    """Return the engine of this place's store, existing and at the newest schema.

    One engine per URL and process; the first call of a process migrates when needed, under a lock that makes
    any number of first callers wait for one.

    Raises:
        SpecError: when the URL is neither SQLite on disk nor Postgres, or the store is newer than this code.
        StoreError: when the store does not answer.
    """
    url = _url((settings or Settings()).store_url)
    key = (os.getpid(), url.render_as_string(hide_password=False))
    with _opening:
        if key not in _engines:
            engine = _connectable(url)
            try:
                _migrate(engine)
            except (sa.exc.DatabaseError, sqlite3.Error) as err:
                engine.dispose()
                said = str(getattr(err, "orig", err)).strip().splitlines()[:1]
                raise StoreError(
                    f"store on {_shown(url)} unusable: {''.join(said)[:160]}",
                    "a SQLite file that may be written, or Postgres that answers",
                    "check EVERGREEN_STORE, the network and the credentials",
                ) from err
            except BaseException:
                engine.dispose()
                raise
            if not _engines:
                os.register_at_fork(after_in_child=_forget)
            _engines[key] = engine
        return _engines[key]


def close_stores() -> None:
    """Close every connection of this process; the next `open_store` opens anew."""
    with _opening:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one consistent state and waits for no writer."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, lock: str = "") -> Iterator[Connection]:
    """Give a connection whose changes are kept whole or not at all.

    What is read in the block cannot change before its end: SQLite admits one writer at a time; on Postgres
    writers that name the same `lock` wait for each other.
    """
    with engine.connect().execution_options(evergreen_writes=True) as connection, connection.begin():
        if lock and engine.dialect.name == "postgresql":
            _advisory_lock(connection, f"evergreen:{lock}")
        yield connection


def insert_new(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> int:
    """Insert the rows whose unique key is not there yet; return how many were new."""
    if not rows:
        return 0
    if (
        connection.dialect.name == "postgresql"
    ):  # its driver counts no rows of many inserts: they are returned
        first = next(iter(table.primary_key))
        statement = pg_insert(table).on_conflict_do_nothing().returning(first)
        return len(connection.execute(statement, rows).all())
    return connection.execute(sqlite_insert(table).on_conflict_do_nothing(), rows).rowcount


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except sa.exc.ArgumentError as err:
        raise SpecError("EVERGREEN_STORE is not a URL", "sqlite:///… or postgresql://…") from err
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg2"}:
        return url.set(drivername="postgresql+psycopg")  # SQLAlchemy's default driver differs by version
    if url.drivername == "postgresql+psycopg":
        return url
    if url.get_backend_name() != "sqlite":
        raise SpecError(f"a store on {url.get_backend_name()}", "SQLite or Postgres", "set EVERGREEN_STORE")
    if not url.database or url.database == ":memory:":
        raise SpecError(
            "a store in memory", "a file: other processes must see it", "write sqlite:///store.db"
        )
    return url.set(database=str(Path(url.database).expanduser().resolve()))


def _shown(url: URL) -> str:
    return f"{url.get_backend_name()} at {url.host or url.database}"


def _connectable(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        query = {**_POSTGRES, **url.query}
        return sa.create_engine(url.set(query=query), pool_pre_ping=True, json_serializer=dump_json)
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise StoreError(
            f"no folder {folder} for the store ({type(err).__name__})",
            "a folder that this user may make and write",
            "correct EVERGREEN_STORE, or the rights of its folder",
        ) from err
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=dump_json)
    sa.event.listen(engine, "connect", _own_transactions)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _own_transactions(connection: Any, record: object) -> None:  # Any: the driver's connection
    # The driver would begin late and commit before DDL; with this a migration is one transaction.
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("evergreen_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    if _revision(engine) == REVISION:
        return
    if engine.dialect.name == "sqlite":
        _keep_a_log(engine)
    _upgrade(engine)


def _keep_a_log(engine: Engine) -> None:
    """Switch the file to write-ahead logging, where readers never wait; the file remembers it.

    SQLite answers "locked" at once where another process is about to do the same, however long it may wait.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    connection = engine.raw_connection()
    try:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as err:
                if "locked" not in str(err) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return
    finally:
        connection.close()


def _upgrade(engine: Engine) -> None:
    from tasks.store.migrations import upgrade  # Alembic is slow to import and seldom needed

    with writing(engine, lock="migrate") as connection:
        upgrade(connection)


def _revision(engine: Engine) -> str | None:
    """Return the revision the store stands at, None when it is new or in the middle of being made."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _advisory_lock(connection: Connection, name: str) -> None:
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def _forget() -> None:
    """In a forked child: leave the parent's connections to the parent."""
    for engine in _engines.values():
        engine.dispose(close=False)
    _engines.clear()
