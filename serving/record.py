"""The prediction log of the app: many answers, one transaction, and none acknowledged before it is kept.

Requests hand their rows over and wait; one thread writes whatever has come together (group commit). A commit
costs the same for one row as for a thousand, so under load the log costs each request little.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError

from tasks.core.errors import StoreError
from tasks.store.engine import insert_new, writing
from tasks.store.schema import predictions

MOST_WAITING = 10_000
"""Requests that may wait for their commit; beyond it a request is refused at once, our choice."""
MOST_TOGETHER = 5_000
"""Rows of one transaction, at most; our choice: a commit of it takes a fraction of a second."""

_END = None
Record = dict[str, Any]  # Any: column values of `predictions`


class Recorder:
    """Writes predictions; `record` gives a future that is done once the rows are in the store."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._waiting: queue.Queue[tuple[Sequence[Record], Future[None]] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="prediction log", daemon=True)
        self._is_open = True
        self.written = 0
        self.commits = 0
        self.failed = 0
        self._thread.start()

    def record(self, rows: Sequence[Record]) -> Future[None]:
        """Return a future that is done when these rows are kept, or holds why they are not.

        Raises:
            StoreError: when the log is closed, or more requests wait than it can take.
        """
        done: Future[None] = Future()
        if not self._is_open:
            raise StoreError("a closed prediction log", "a running app")
        try:
            self._waiting.put_nowait((rows, done))
        except queue.Full as err:
            raise StoreError(
                f"{MOST_WAITING} requests waiting for the prediction log",
                "a store that keeps up",
                "ask again later",
            ) from err
        return done

    @property
    def is_alive(self) -> bool:
        """Whether what is recorded will be written."""
        return self._is_open and self._thread.is_alive()

    def close(self) -> None:
        """Write what waits, then end."""
        self._is_open = False
        self._waiting.put(_END)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not _END:
            together, rows, is_last = [first], len(first[0]), False
            while rows < MOST_TOGETHER:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is _END:
                    is_last = True
                    break
                together.append(more)
                rows += len(more[0])
            self._write(together)
            if is_last:
                return

    def _write(self, given: list[tuple[Sequence[Record], Future[None]]]) -> None:
        # Whoever has given up waiting is left out; from here on nobody can.
        together = [one for one in given if one[1].set_running_or_notify_cancel()]
        try:
            self._commit([row for rows, _ in together for row in rows])
        except DataError:  # a row that the database cannot take is its request's fault, nobody else's
            for one in together:
                self._write_alone(*one)
            return
        except Exception as err:  # whatever it is, those who wait are told and the thread goes on
            self.failed += len(together)
            for _, done in together:
                done.set_exception(_not_kept(err))
            return
        for _, done in together:
            done.set_result(None)

    def _write_alone(self, rows: Sequence[Record], done: Future[None]) -> None:
        try:
            self._commit(rows)
        except Exception as err:
            self.failed += 1
            done.set_exception(_not_kept(err))
        else:
            done.set_result(None)

    def _commit(self, rows: Sequence[Record]) -> None:
        if not rows:
            return
        with writing(self._engine) as connection:
            insert_new(connection, predictions, list(rows))
        self.commits += 1
        self.written += len(rows)


def _not_kept(err: Exception) -> StoreError:
    return StoreError(
        f"a prediction log that cannot be written ({type(err).__name__})",
        "a store that answers",
        "ask again; nothing of this request was kept",
    )
