"""A thread that does one job at a time and may be left with it, so that nobody waits for a store that hangs.

A server that is stopped keeps its connections open and says nothing: only the clock of who asks tells it
from one that works. What was left goes on alone, and nothing new is begun before it has ended.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from tasks.core.errors import StoreError

T = TypeVar("T")


class TooSlow(StoreError):
    """A store that did not answer in time; it is not known whether what was asked of it was done."""


class Hand:
    """One thread, started with the first job; it never keeps the process from ending."""

    def __init__(self, name: str):
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._last: Future[Any] | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_free(self) -> bool:
        """Whether the last job has ended."""
        return self._last is None or self._last.done()

    def start(self, job: Callable[[], T]) -> Future[T]:
        """Begin a job.

        Raises:
            TooSlow: while an earlier one has not ended.
        """
        if not self.is_free:
            raise too_slow("ask again; nothing of this request was kept")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: Future[T] = Future()
        self._last = done
        self._jobs.put((job, done))
        return done

    def free_within(self, seconds: float) -> bool:
        """Return whether the last job ends within this time."""
        if self._last is not None and not self._last.done():
            try:
                self._last.exception(seconds)
            except TimeoutError:
                return False
        return True

    def close(self) -> None:
        """End once the last job has ended; wait for neither."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (given := self._jobs.get()) is not None:
            job, done = given
            try:
                done.set_result(job())
            except BaseException as err:  # whatever it is, it is told
                done.set_exception(err)
            del given, job, done  # their rows are kept alive by nobody here


def too_slow(todo: str = "ask again; 409 for the same X-Request-ID says that it was kept") -> TooSlow:
    """Return the error of a store that does not answer in time."""
    return TooSlow("a prediction log that does not answer in time", "a store that answers", todo)
