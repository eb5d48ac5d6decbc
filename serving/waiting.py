"""What waits for its commit: bounded in requests and in rows, and taken out together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from tasks.core.errors import StoreError

Record = dict[str, Any]  # Any: column values of `predictions`
Given = tuple[Sequence[Record], "Future[None]"]


class Waiting:
    """A queue of requests' rows; those that were taken out count until `let_go` is told of them."""

    def __init__(self, most_requests: int, most_rows: int):
        self._queue: queue.Queue[Given | None] = queue.Queue(most_requests)
        self._most_requests, self._most_rows = most_requests, most_rows
        self._lock = threading.Lock()
        self.rows = 0

    def put(self, given: Given) -> None:
        """Let this request wait.

        Raises:
            StoreError: when there are too many, or too many rows.
        """
        count = len(given[0])
        with self._lock:
            if self.rows and self.rows + count > self._most_rows:
                raise _full(f"{self.rows} rows")
            self.rows += count
        try:
            self._queue.put_nowait(given)
        except queue.Full as err:
            self.let_go(given[0])
            raise _full(f"{self._most_requests} requests") from err

    def end(self) -> None:
        """Tell that nothing comes after this."""
        self._queue.put(None)

    def qsize(self) -> int:
        """Requests that nobody took out yet."""
        return self._queue.qsize()

    def let_go(self, rows: Sequence[Record]) -> None:
        """Note that these rows, taken out before, wait no longer."""
        with self._lock:
            self.rows -= len(rows)

    def taken(self, most_rows: int, wait: float | None) -> tuple[list[Given], bool]:
        """Return what has come together, and whether that was the last.

        Args:
            most_rows: enough for now; the request that reaches it is the last one taken.
            wait: seconds to wait for the first; None for ever.
        """
        together: list[Given] = []
        try:
            given = self._queue.get(block=wait != 0.0, timeout=wait)
            rows = 0
            while given is not None:
                together.append(given)
                rows += len(given[0])
                if rows >= most_rows:
                    return together, False
                given = self._queue.get_nowait()
        except queue.Empty:
            return together, False
        return together, True


def portions(given: Sequence[Given], most_rows: int) -> Iterator[list[Given]]:
    """Give the requests in order, at most about `most_rows` rows at a time."""
    together: list[Given] = []
    rows = 0
    for one in given:
        together.append(one)
        rows += len(one[0])
        if rows >= most_rows:
            yield together
            together, rows = [], 0
    if together:
        yield together


def _full(found: str) -> StoreError:
    return StoreError(f"{found} waiting for the prediction log", "a store that keeps up", "ask again later")
