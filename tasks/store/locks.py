"""Locks: between processes of one machine as a file, between machines in the Postgres that they share."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from tasks.core.errors import WorkflowError
from tasks.settings import Settings
from tasks.store.engine import open_store

_TIMEOUT_SECONDS = 300.0


@contextmanager
def model_lock(name: str, settings: Settings, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> Iterator[None]:
    """Hold the lock of this name for the block, on this machine and on every other with the same store.

    SQLite is a file of one machine, so a file lock is enough there; on Postgres the database holds the lock
    too, and frees it when the connection of a dead process ends.

    Raises:
        WorkflowError: when another process holds it for longer than `timeout_seconds`.
    """
    path = settings.root / "locks" / f"{name}.lock"
    with file_lock(path, timeout_seconds=timeout_seconds), _shared_lock(name, settings, timeout_seconds):
        yield


@contextmanager
def file_lock(path: Path, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> Iterator[None]:
    """Hold the lock named by `path` for the block; it is freed by the system if the process dies.

    Raises:
        WorkflowError: when another process holds it for longer than `timeout_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with path.open("a") as handle:
        while not _taken(handle.fileno()):
            if time.monotonic() > deadline:
                raise _held(path.name, timeout_seconds)
            time.sleep(0.02)
        yield  # closing the file frees the lock


@contextmanager
def _shared_lock(name: str, settings: Settings, timeout_seconds: float) -> Iterator[None]:
    engine = open_store(settings)
    if engine.dialect.name != "postgresql":
        yield
        return
    key, deadline = {"name": f"evergreen:lock:{name}"}, time.monotonic() + timeout_seconds
    take = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(take, key).scalar():
            if time.monotonic() > deadline:
                raise _held(name, timeout_seconds)
            time.sleep(0.1)
        try:
            yield
        finally:
            connection.invalidate()  # ends the session and with it the lock, whatever became of the block


def _held(name: str, seconds: float) -> WorkflowError:
    return WorkflowError(
        f"{name} held by another process for {seconds:.0f} s",
        "a free lock",
        "end the process that hangs, then run again",
    )


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
