"""Answers into the store: all rows of a request or none, and never a second answer under one id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError, DBAPIError

from serving.hand import too_slow
from serving.waiting import Given
from tasks.core.errors import StoreError
from tasks.store.engine import writing
from tasks.store.recorded import insert_predictions, standing

UNFIT = (DataError, UnicodeError, ValueError, TypeError, OverflowError)  # as drivers refuse a value
_ATTEMPTS = 10  # each sees what others kept under the same ids since the one before

Record = dict[str, Any]  # Any: column values of `predictions`


class AlreadyKept(StoreError):
    """Another answer was kept under this id before; nothing of this one was."""


class Keeper:
    """Writes rows; one thread at a time may use it. `written` and `commits` count what took."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self.written = self.commits = 0

    def commit(
        self, together: Sequence[Given], is_left: Callable[[], bool] = lambda: False
    ) -> set[Future[None]]:
        """Keep what can be kept; return which requests were answered under their id before.

        Args:
            together: requests' rows.
            is_left: whether those who asked have been told that it failed: then nothing is kept.

        Raises:
            TooSlow: when it was left.
        """
        rows = [row for given, _ in together for row in given]
        if not rows or self._insert(rows, is_left):
            return set()
        for _ in range(_ATTEMPTS):
            refused = self._insert_new(together, is_left)
            if refused is not None:
                return refused
        raise StoreError("ids that are taken by others again and again", "ids of one's own", "ask again")

    def replay(self, rows: Sequence[Record]) -> list[Record]:
        """Keep rows that may be kept already; return those that never can be.

        These are rows that the database cannot take, and rows under whose id it has another answer.
        """
        try:
            with writing(self._engine) as connection:
                new = insert_predictions(connection, rows)
                known = standing(connection, rows) if new < len(rows) else {}
        except UNFIT:
            if len(rows) == 1:
                return list(rows)
            half = len(rows) // 2
            return [*self.replay(rows[:half]), *self.replay(rows[half:])]
        self._count(new)
        return [row for row in rows if known.get(_name(row), row["served_at"]) != row["served_at"]]

    def _insert(self, rows: Sequence[Record], is_left: Callable[[], bool]) -> bool:
        """Return whether the rows were kept; nothing is unless every row is new.

        A lost connection is tried once more.
        """
        for is_last in (False, True):
            try:
                with writing(self._engine) as connection:
                    new = insert_predictions(connection, rows)
                    if is_left():
                        raise too_slow()  # rolls back
                    if new < len(rows):
                        connection.rollback()
                        return False
            except DBAPIError as err:
                if is_last or not err.connection_invalidated or is_left():
                    raise
            else:
                self._count(new)
                return True
        return False

    def _insert_new(self, together: Sequence[Given], is_left: Callable[[], bool]) -> set[Future[None]] | None:
        """Return whose ids were answered before, the rest being kept; None when others came between."""
        refused: set[Future[None]] = set()
        fresh: list[Record] = []
        with writing(self._engine) as connection:
            known = standing(connection, [row for given, _ in together for row in given])
            for given, done in together:
                if any(known.get(_name(row), row["served_at"]) != row["served_at"] for row in given):
                    refused.add(done)
                    continue
                fresh += [row for row in given if _name(row) not in known]
                known.update((_name(row), row["served_at"]) for row in given)
            new = insert_predictions(connection, fresh)
            if is_left():
                raise too_slow()
            if new < len(fresh):  # on Postgres somebody kept another answer since the look
                connection.rollback()
                return None
        self._count(new)
        return refused

    def _count(self, new: int) -> None:
        self.commits, self.written = self.commits + 1, self.written + new


def already_kept() -> AlreadyKept:
    """Return the error of an id that was answered before."""
    return AlreadyKept(
        "an id that was answered before", "a new X-Request-ID", "read the first answer's record"
    )


def _name(row: Record) -> tuple[str, str]:
    return row["model"], row["prediction_id"]
