"""The prediction log of the app: many answers, one transaction, and none acknowledged before it is kept.

Requests hand their rows over and wait; one thread writes whatever has come together (group commit). A commit
costs the same for one row as for a thousand, so under load the log costs each request little. While the
store cannot be written, or does not answer in time, requests are refused, or their rows are spooled to disk,
as the place wants it. Nobody waits for a `fast` log: what it could not keep, it counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Literal

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from serving.hand import Hand, TooSlow, too_slow
from serving.keeping import UNFIT, AlreadyKept, Keeper, already_kept
from serving.spool import Spool
from serving.waiting import Given, Waiting, portions
from tasks.core.errors import StoreError

__all__ = ["AlreadyKept", "Recorder"]

MOST_WAITING = 10_000
"""Requests that may wait for their commit; beyond it a request is refused at once, our choice."""
MOST_ROWS = 100_000
"""Rows that may wait in memory, our choice: about 110 MB of them."""
MOST_TOGETHER = 5_000
"""Rows of one transaction, about; our choice: a commit of it takes a fraction of a second."""
REPLAYED = 1_000
"""Spooled rows of one transaction, our choice: requests that come meanwhile wait for it."""
AGAIN_SECONDS = 1.0
"""How soon a store that failed is asked again, by rows that wait on disk or in memory."""
PATIENCE_SECONDS = 5.0
"""How long a commit may take before those who wait for it are told, our choice."""

Record = dict[str, Any]  # Any: column values of `predictions`
Mode = Literal["durable", "fast"]
Lost = Callable[[Sequence[Record]], None]
_NEVER = float("-inf")


class Recorder:
    """Writes predictions; `record` gives a future that is done once the rows are kept.

    Args:
        engine: the store.
        mode: `durable`: kept before the future is done; `fast`: soon after, and `lost` counts what was not.
        spool: where rows wait that the store does not take; those of a process that died are taken over.
        spools: whether new rows may go there; otherwise they are refused while the store fails.
        lost: told of every row that was answered and not kept.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        mode: Mode = "durable",
        spool: Spool | None = None,
        spools: bool = False,
        lost: Lost | None = None,
    ):
        self._keeper = Keeper(engine)
        self._hand = Hand("prediction store")
        self._mode = mode
        self._spool = spool
        self._spools = spools and spool is not None
        self._tell_lost = lost
        self._waiting = Waiting(MOST_WAITING, MOST_ROWS)
        self._held: list[Given] = []  # of a fast log, while the store fails
        self._replayed: tuple[list[Record], Future[list[Record]]] | None = None
        self._failed_at = _NEVER
        self._thread = threading.Thread(target=self._run, name="prediction log", daemon=True)
        self._is_open, self._ends = True, False
        self.failed = self.lost = self.spooled = 0
        self.on_disk = spool.rows if spool else 0  # rows that wait there, as the thread last saw it
        self.damaged = 0  # rows there that the store can never take
        self._thread.start()

    def record(self, rows: Sequence[Record]) -> Future[None]:
        """Return a future that is done when these rows are kept, or holds why they are not.

        A fast log gives one that is done already.

        Raises:
            StoreError: when the log is closed, or more requests wait than it can take, or, of a fast log,
                while the store cannot be written.
        """
        done: Future[None] = Future()
        if not self._is_open:
            raise StoreError("a closed prediction log", "a running app")
        if self._mode == "fast":
            self._hand_over(rows, done)
            return done
        self._waiting.put((rows, done))
        return done

    @property
    def written(self) -> int:
        """Rows that this process brought into the store."""
        return self._keeper.written

    @property
    def commits(self) -> int:
        """Transactions that took."""
        return self._keeper.commits

    @property
    def is_alive(self) -> bool:
        """Whether what is recorded will be written."""
        return self._is_open and self._thread.is_alive()

    def close(self) -> None:
        """Write what waits, then end."""
        self._is_open = False
        self._waiting.end()
        self._thread.join()

    def _hand_over(self, rows: Sequence[Record], done: Future[None]) -> None:
        if self._held and not self._spools:
            raise StoreError("a prediction log that cannot be written", "a store that answers", "ask again")
        try:
            self._waiting.put((rows, Future()))
        except StoreError:
            self._lose(rows)
        done.set_result(None)

    def _run(self) -> None:
        while not self._ends:
            together = self._next()
            if self._ends:
                self._hand.free_within(PATIENCE_SECONDS)
            if self._held and (self._is_due() or self._ends):
                self._held, together = [], [*self._held, *together]
            if together:
                for some in portions(together, MOST_TOGETHER):
                    self._write(some)
            elif self._spool and self.on_disk and self._is_due():
                self._replay(self._spool)
        for rows, _ in self._held:
            self._lose(rows)
        self._hand.close()
        if self._spool:
            self._spool.close()

    def _next(self) -> list[Given]:
        """Return what has come together; nothing after a while in which nothing came."""
        is_idle = not self._held and not self.on_disk
        # A spool that is being replayed is read on at once; otherwise the store is given a while.
        wait = None if is_idle else AGAIN_SECONDS / 4 if not self._is_due() or self._held else 0.0
        together, self._ends = self._waiting.taken(MOST_TOGETHER, wait)
        return together

    def _write(self, given: list[Given]) -> None:
        # Whoever has given up waiting is left out; from here on nobody can.
        together = []
        for one in given:
            if one[1].running() or one[1].set_running_or_notify_cancel():
                together.append(one)
            else:
                self._waiting.let_go(one[0])
        if self._spools and not self._is_due():  # nobody waits for it to fail again
            self._put_aside(together, StoreError("a store that failed a moment ago", "one that answers"))
            return
        try:
            refused = self._commit(together)
        except UNFIT:  # a row that the database cannot take is its request's fault, nobody else's
            for one in together:
                self._write_alone(one)
            return
        except Exception as err:  # whatever it is, those who wait are told and the thread goes on
            self._failed_at = time.monotonic()
            self._put_aside(together, err)
            return
        self._failed_at = _NEVER
        for rows, done in together:
            self._settle(rows, done, already_kept() if done in refused else None)

    def _write_alone(self, one: Given) -> None:
        try:
            self._settle(*one, already_kept() if self._commit([one]) else None)
        except UNFIT as err:
            self._settle(*one, _not_kept(err))
        except Exception as err:
            self._failed_at = time.monotonic()
            self._put_aside([one], err)

    def _commit(self, together: list[Given]) -> set[Future[None]]:
        """Return whose ids were answered before, the rest being kept.

        Raises:
            TooSlow: when the store does not answer in time. Rows that wait elsewhere may get into it yet,
                which does no harm; those of requests that are refused are taken back if that is possible.
        """
        left = threading.Event()
        is_refused = self._mode == "durable" and not self._spools
        job = self._hand.start(lambda: self._keeper.commit(together, left.is_set))
        try:
            return job.result(PATIENCE_SECONDS if is_refused else self._patience())
        except TimeoutError as err:
            if is_refused:
                left.set()
            raise too_slow() from err

    def _put_aside(self, together: list[Given], err: Exception) -> None:
        """Do with rows that the store does not take what the place wants."""
        why = err
        if self._spools and self._spool:
            rows = [row for given, _ in together for row in given]
            try:
                self._spool.append(rows)
            except StoreError as full:
                why = full
            else:
                self.spooled, self.on_disk = self.spooled + len(rows), self._spool.rows
                self._waiting.let_go(rows)
                for _, done in together:
                    done.set_result(None)
                return
        if self._mode == "fast" and isinstance(err, DBAPIError | TooSlow) and not self._spools:
            self._held += together
            return
        for one in together:
            self._settle(*one, why if isinstance(why, StoreError) else _not_kept(err))

    def _settle(self, rows: Sequence[Record], done: Future[None], err: StoreError | None) -> None:
        self._waiting.let_go(rows)
        if err is None:
            done.set_result(None)
            return
        self.failed += 1
        done.set_exception(err)
        if self._mode == "fast":
            self._lose(rows)

    def _replay(self, spool: Spool) -> None:
        """Bring some spooled rows into the store; rows that it has already change nothing there.

        Those that it never takes, or has another answer for under their id, are set aside and counted.
        """
        try:
            if self._replayed is None:
                rows = spool.waiting(REPLAYED)
                self._replayed = rows, self._hand.start(lambda: self._keeper.replay(rows))
            rows, job = self._replayed
            odd = job.result(self._patience())  # what takes longer is asked for again later
            for row in odd:
                spool.refuse(row)
            self._lose(odd)
            spool.taken(rows)
            self._replayed, self._failed_at = None, _NEVER
        except Exception:  # tried again soon: until then the rows wait on disk, and /metrics says how many
            self._failed_at = time.monotonic()
            if self._hand.is_free:
                self._replayed = None
        self.on_disk, self.damaged = spool.rows, spool.damaged

    def _patience(self) -> float:
        """Return how long to wait for the store: a short while if it failed when it was asked last."""
        return PATIENCE_SECONDS if self._failed_at == _NEVER else min(PATIENCE_SECONDS, AGAIN_SECONDS)

    def _lose(self, rows: Sequence[Record]) -> None:
        self.lost += len(rows)
        if self._tell_lost:
            self._tell_lost(rows)

    def _is_due(self) -> bool:
        return self._hand.is_free and time.monotonic() - self._failed_at >= AGAIN_SECONDS


def _not_kept(err: Exception) -> StoreError:
    return StoreError(
        f"a prediction log that cannot be written ({type(err).__name__})",
        "a store that answers",
        "ask again; nothing of this request was kept",
    )
