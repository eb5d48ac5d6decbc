"""One deadline for a call to something elsewhere, whatever it does: hang, drip bytes, or never get a name."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 20.0
"""How long anything elsewhere may be silent: a registry, a source, a webhook."""
LEAST_BYTES = 64 * 1024  # our choice: what a transfer has to bring in that time, 3 KiB/s
MOST_ABANDONED = 16  # our choice: calls that were given up and still wait in their threads
_abandoned: set[threading.Thread] = set()


class NoAnswer(TimeoutError):
    """A call did not end in time."""


def within(
    seconds: float,
    work: Callable[[], T],
    *,
    progress: Callable[[], int] | None = None,
    give_up: Callable[[], None] | None = None,
) -> T:
    """Return what the call returns, or raise what it raises.

    It runs in a thread of its own, because no client bounds the time of a name look-up or of a server that
    sends one byte after the other. A call that is given up goes on there until its own socket ends; only so
    many may, and no call is begun while they do.

    Args:
        seconds: how long it may take; with `progress`, between two signs of life.
        work: the call.
        progress: bytes moved so far. A transfer may take its time as long as `LEAST_BYTES` come in `seconds`.
        give_up: called when it takes too long, to close what it waits for.

    Raises:
        NoAnswer: when it does not end in time.
    """
    _abandoned.difference_update([thread for thread in _abandoned if not thread.is_alive()])
    if len(_abandoned) >= MOST_ABANDONED:
        raise NoAnswer(f"{MOST_ABANDONED} earlier calls still without an answer")
    ended: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            ended.append((work(), None))
        except BaseException as err:  # whatever it is, the caller gets it
            ended.append((None, err))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    _wait(thread, seconds, progress)
    if not ended:
        _abandoned.add(thread)
        if give_up is not None:
            give_up()
        raise NoAnswer(f"no end within {seconds:g} seconds")
    value, err = ended[0]
    if err is not None:
        raise err
    return value  # type: ignore[return-value]  # None only where the call returns None


def _wait(thread: threading.Thread, seconds: float, progress: Callable[[], int] | None) -> None:
    """Return when the thread has ended, or was silent for so long."""
    moved = 0
    until = time.monotonic() + seconds
    while thread.is_alive() and (left := until - time.monotonic()) > 0:
        thread.join(left if progress is None else min(left, seconds / 20))
        if progress is not None and (now := progress()) >= moved + LEAST_BYTES:
            moved, until = now, time.monotonic() + seconds
