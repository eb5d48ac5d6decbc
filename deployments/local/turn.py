"""One start at a time on this machine: from choosing ports until every service listens on its own."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from deployments.local.supervise import Stopped


def turn_file() -> Path:
    """Return the file whose lock is the turn: one per user of this machine."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(folder) / f"evergreen-ports-{os.getuid()}.lock"


@contextmanager
def my_turn(say: Callable[[str], None], stop: Event) -> Iterator[None]:
    """Wait until no other place of this user is starting, and let none start until the end of the block.

    A port that is free when it is chosen is bound half a minute later; meanwhile another would choose it too.
    The system gives the turn back however this process ends.

    Raises:
        Stopped: when `stop` is set while waiting.
    """
    try:
        lock = os.open(turn_file(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as err:  # no such place, or somebody else's file: whose a port is gets checked anyway
        say(f"no lock at {turn_file()} ({type(err).__name__}): going on without")
        yield
        return
    try:
        _wait_for(lock, say, stop)
        yield
    finally:
        os.close(lock)


def _wait_for(lock: int, say: Callable[[str], None], stop: Event) -> None:
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                say("waiting: another `make up` of yours is starting on this machine")
            told = True
            if stop.wait(0.1):
                raise Stopped from None
        else:
            return
