"""The prediction log of the app: many answers, one transaction, and none acknowledged before it is kept.

Requests hand their rows over and wait; one thread writes whatever has come together (group commit). A commit
costs the same for one row as for a thousand, so under load the log costs each request little. While the
store cannot be written, requests are refused, or their rows are spooled to disk, as the place wants it.
Nobody waits for a `fast` log: what it could not keep, it counts.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Literal

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError, DBAPIError

from serving.spool import Spool
from tasks.core.errors import StoreError
from tasks.store.engine import writing
from tasks.store.recorded import insert_predictions, standing

MOST_WAITING = 10_000
"""Requests that may wait for their commit; beyond it a request is refused at once, our choice."""
MOST_TOGETHER = 5_000
"""Rows of one transaction, at most; our choice: a commit of it takes a fraction of a second."""
REPLAYED = 1_000
"""Spooled rows of one transaction, our choice: requests that come meanwhile wait for it."""
AGAIN_SECONDS = 1.0
"""How soon a store that failed is asked again, by rows that wait on disk or in memory."""

Record = dict[str, Any]  # Any: column values of `predictions`
Mode = Literal["durable", "fast"]
Lost = Callable[[Sequence[Record]], None]
_Given = tuple[Sequence[Record], "Future[None]"]
_NEVER = float("-inf")
_UNFIT = (DataError, UnicodeError, ValueError, TypeError, OverflowError)  # as drivers refuse a value


class AlreadyKept(StoreError):
    """Another answer was kept under this id before; nothing of this one was."""


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
        self._engine = engine
        self._mode = mode
        self._spool = spool
        self._spools = spools and spool is not None
        self._tell_lost = lost
        self._waiting: queue.Queue[_Given | None] = queue.Queue(MOST_WAITING)
        self._held: list[_Given] = []  # of a fast log, while the store fails
        self._failed_at = _NEVER
        self._thread = threading.Thread(target=self._run, name="prediction log", daemon=True)
        self._is_open, self._ends = True, False
        self.written = self.commits = self.failed = self.lost = self.spooled = 0
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
        self._waiting.put(None)
        self._thread.join()

    def _hand_over(self, rows: Sequence[Record], done: Future[None]) -> None:
        if self._held and not self._spools:
            raise StoreError("a prediction log that cannot be written", "a store that answers", "ask again")
        try:
            self._waiting.put_nowait((rows, Future()))
        except queue.Full:
            self._lose(rows)
        done.set_result(None)

    def _run(self) -> None:
        while not self._ends:
            together = self._next()
            if self._held and (self._is_due() or self._ends):
                self._held, together = [], [*self._held, *together]
            if together:
                self._write(together)
            elif self._spool and self.on_disk and self._is_due():
                self._replay(self._spool)
        for rows, _ in self._held:
            self._lose(rows)
        if self._spool:
            self._spool.close()

    def _next(self) -> list[_Given]:
        """Return what has come together; nothing after a while in which nothing came."""
        is_idle = not self._held and not self.on_disk
        try:
            # A spool that is being replayed is read on at once; otherwise the store is given a while.
            wait = None if is_idle else AGAIN_SECONDS / 4 if not self._is_due() or self._held else 0.0
            given = self._waiting.get(block=wait != 0.0, timeout=wait)
        except queue.Empty:
            return []
        together, rows = [], 0
        while given is not None:
            together.append(given)
            rows += len(given[0])
            if rows >= MOST_TOGETHER:
                return together
            try:
                given = self._waiting.get_nowait()
            except queue.Empty:
                return together
        self._ends = True
        return together

    def _write(self, given: list[_Given]) -> None:
        # Whoever has given up waiting is left out; from here on nobody can.
        together = [one for one in given if one[1].running() or one[1].set_running_or_notify_cancel()]
        if self._spools and not self._is_due():  # nobody waits for it to fail again
            self._put_aside(together, StoreError("a store that failed a moment ago", "one that answers"))
            return
        try:
            refused = self._commit(together)
        except _UNFIT:  # a row that the database cannot take is its request's fault, nobody else's
            for one in together:
                self._write_alone(one)
            return
        except Exception as err:  # whatever it is, those who wait are told and the thread goes on
            self._failed_at = time.monotonic()
            self._put_aside(together, err)
            return
        self._failed_at = _NEVER
        for rows, done in together:
            self._settle(rows, done, _again() if done in refused else None)

    def _write_alone(self, one: _Given) -> None:
        try:
            self._settle(*one, _again() if self._commit([one]) else None)
        except Exception as err:
            self._settle(*one, _not_kept(err))

    def _put_aside(self, together: list[_Given], err: Exception) -> None:
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
                for _, done in together:
                    done.set_result(None)
                return
        if self._mode == "fast" and isinstance(err, DBAPIError) and not self._spools:
            self._held += together
            return
        for one in together:
            self._settle(*one, why if isinstance(why, StoreError) else _not_kept(err))

    def _settle(self, rows: Sequence[Record], done: Future[None], err: StoreError | None) -> None:
        if err is None:
            done.set_result(None)
            return
        self.failed += 1
        done.set_exception(err)
        if self._mode == "fast" and not isinstance(err, AlreadyKept):
            self._lose(rows)

    def _replay(self, spool: Spool) -> None:
        """Bring some spooled rows into the store; rows that it has already change nothing there."""
        try:
            rows = spool.waiting(REPLAYED)
            try:
                self._insert(rows)
            except _UNFIT:  # the rest goes in alone; what the database will never take is set aside
                for row in rows:
                    try:
                        self._insert([row])
                    except _UNFIT:
                        spool.refuse(row)
            spool.taken(rows)
            self.on_disk, self.damaged = spool.rows, spool.damaged
        except Exception:  # tried again soon: until then the rows wait on disk, and /metrics says how many
            self._failed_at = time.monotonic()

    def _commit(self, together: list[_Given]) -> set[Future[None]]:
        """Keep what can be kept; return which requests were answered under their id before."""
        refused: set[Future[None]] = set()
        rows = [row for given, _ in together for row in given]
        if not rows or self._insert(rows, whole=True):
            return refused
        with writing(self._engine) as connection:
            known = standing(connection, rows)
            fresh: list[Record] = []
            for given, done in together:
                if any(known.get(_name(row), row["served_at"]) != row["served_at"] for row in given):
                    refused.add(done)
                    continue
                fresh += given
                known.update((_name(row), row["served_at"]) for row in given)
            insert_predictions(connection, fresh)
        self.commits, self.written = self.commits + 1, self.written + len(fresh)
        return refused

    def _insert(self, rows: Sequence[Record], *, whole: bool = False) -> bool:
        """Return whether the rows were kept; with `whole` nothing is unless every row is new.

        A lost connection is tried once more.
        """
        for is_last in (False, True):
            try:
                with writing(self._engine) as connection:
                    new = insert_predictions(connection, rows)
                    if whole and new < len(rows):
                        connection.rollback()
                        return False
            except DBAPIError as err:
                if is_last or not err.connection_invalidated:
                    raise
            else:
                self.commits, self.written = self.commits + 1, self.written + new
                return True
        return False

    def _lose(self, rows: Sequence[Record]) -> None:
        self.lost += len(rows)
        if self._tell_lost:
            self._tell_lost(rows)

    def _is_due(self) -> bool:
        return time.monotonic() - self._failed_at >= AGAIN_SECONDS


def _name(row: Record) -> tuple[str, str]:
    return row["model"], row["prediction_id"]


def _again() -> AlreadyKept:
    return AlreadyKept(
        "an id that was answered before", "a new X-Request-ID", "read the first answer's record"
    )


def _not_kept(err: Exception) -> StoreError:
    return StoreError(
        f"a prediction log that cannot be written ({type(err).__name__})",
        "a store that answers",
        "ask again; nothing of this request was kept",
    )
