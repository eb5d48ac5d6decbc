"""Requests of the same moment, scored together: what came while the last batch ran is the next one.

Nobody waits for company. Under load a batch costs little more than a row, so its requests share the price;
alone a request goes at once.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

Row = Mapping[str, Any]  # Any: checked values
Answer = dict[str, Any]  # Any: JSON

MOST_WAITING = 1_000
"""Requests of one model that may wait for their scores; beyond it one is refused at once, our choice."""
MOST_TOGETHER = 1_000
"""Rows of one batch, at most, but for a request that has more; our choice, as many as one may hold."""


class TooBusy(Exception):
    """More requests wait than can be answered soon."""


class Scores(Protocol):
    """What answers rows: `serving.scoring.Scorer`, or a test's own."""

    is_rowwise: bool

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """Return one answer per row."""
        ...


@dataclass
class _Asked:
    scorer: Scores
    rows: Sequence[Row]
    future: asyncio.Future[list[Answer]]
    answers: list[Answer] | None = None
    error: Exception | None = None


class Batcher:
    """Scores one model's requests in one thread; made and asked on one event loop.

    Only requests to the same version go together, and only where a row gets the same bits in any company. An
    error is its own request's: the others of its batch are asked again without it.
    """

    def __init__(self, name: str, *, most_waiting: int = MOST_WAITING, most_together: int = MOST_TOGETHER):
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._most_waiting = most_waiting
        self._most_together = most_together
        self._waiting = 0  # of the loop's thread alone
        self._is_open = True
        self.batches = 0
        self.requests = 0
        self._since: float | None = None  # when the present call of a scorer began
        self._thread = threading.Thread(target=self._run, name=f"scoring {name}", daemon=True)
        self._thread.start()

    async def answers(self, scorer: Scores, rows: Sequence[Row]) -> list[Answer]:
        """Return the answers to one request's rows.

        Raises:
            TooBusy: when too many requests wait, or the app ends.
            Exception: what the scorer raised for these rows.
        """
        if not self._is_open:
            raise TooBusy("the app is ending")
        if self._waiting >= self._most_waiting:
            raise TooBusy(f"{self._waiting} requests wait for their scores")
        one = _Asked(scorer, rows, self._loop.create_future())
        self._waiting += 1
        self._asked.put(one)
        return await one.future

    @property
    def is_alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    def scoring_seconds(self) -> float:
        """Return how long the present call of a scorer takes already; 0 while there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def end(self) -> None:
        """Take nothing more; what waits is still answered."""
        self._is_open = False
        self._asked.put(None)

    async def close(self, seconds: float | None = None) -> None:
        """Answer what waits, then end; wait for that no longer than these seconds, if any are given."""
        self.end()
        await asyncio.to_thread(self._thread.join, seconds)

    def _run(self) -> None:
        ends, held = False, None
        while not ends or held:
            together, held, ends = self._next(held, ends)
            if not together:
                continue
            self.batches += 1
            self.requests += len(together)
            for group in _groups(together):
                self._score([one for one in group if not one.future.cancelled()])
                try:
                    self._loop.call_soon_threadsafe(self._deliver, group)  # one for all: it wakes the loop
                except RuntimeError:  # the loop has ended, so nobody waits any more
                    return

    def _next(self, held: _Asked | None, ends: bool) -> tuple[list[_Asked], _Asked | None, bool]:
        """Return what has come, up to a batch; then what was too much for it; then whether no more comes."""
        together: list[_Asked] = []
        rows = 0
        one = held
        while True:
            if one is not None:
                if together and rows + len(one.rows) > self._most_together:
                    return together, one, ends
                together.append(one)
                rows += len(one.rows)
            try:
                one = self._asked.get(block=not together and not ends)
            except queue.Empty:
                return together, None, ends
            if one is None:
                ends = True

    def _score(self, group: Sequence[_Asked]) -> None:
        if not group:
            return
        try:
            found = self._answers(group[0].scorer, [row for one in group for row in one.rows])
        except Exception as err:  # whose it is shows when each is asked alone
            if len(group) == 1:
                group[0].error = err
            else:
                self._score_alone(group)
            return
        at = 0
        for one in group:
            one.answers = found[at : at + len(one.rows)]
            at += len(one.rows)

    def _score_alone(self, group: Sequence[_Asked]) -> None:
        for one in group:
            try:
                one.answers = self._answers(one.scorer, one.rows)
            except Exception as err:  # told to the one who asked
                one.error = err

    def _answers(self, scorer: Scores, rows: Sequence[Row]) -> list[Answer]:
        self._since = time.monotonic()
        try:
            return scorer.answers(rows)
        finally:
            self._since = None

    def _deliver(self, together: Sequence[_Asked]) -> None:
        self._waiting -= len(together)
        for one in together:
            if one.future.done():  # its caller has gone
                continue
            if one.answers is not None:
                one.future.set_result(one.answers)
            else:
                one.future.set_exception(one.error or TooBusy("no answer was found in time"))


def _groups(together: Sequence[_Asked]) -> list[list[_Asked]]:
    """Return the requests that one call may answer: of one version, where company changes no bit."""
    groups: dict[int, list[_Asked]] = {}
    for one in together:
        groups.setdefault(id(one.scorer) if one.scorer.is_rowwise else id(one), []).append(one)
    return list(groups.values())


class Bell:
    """Lets one loop wait for futures of other threads; it is woken once for all that end together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: deque[tuple[asyncio.Future[None], Future[None]]] = deque()
        self._is_rung = False

    async def wait(self, work: Future[None]) -> None:
        """Return when the work is done.

        Raises:
            BaseException: what the work ended with.
        """
        if work.done():
            work.result()
            return
        mine: asyncio.Future[None] = self._loop.create_future()
        work.add_done_callback(lambda done: self._ring(mine, done))
        await mine

    def _ring(self, mine: asyncio.Future[None], done: Future[None]) -> None:
        self._ended.append((mine, done))
        if not self._is_rung:  # the loop clears it before it looks, so that nothing is left behind
            self._is_rung = True
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._is_rung = False
        while self._ended:
            mine, done = self._ended.popleft()
            if mine.done():  # its caller has gone
                continue
            err = done.exception() if not done.cancelled() else asyncio.CancelledError()
            if err is None:
                mine.set_result(None)
            else:
                mine.set_exception(err)
