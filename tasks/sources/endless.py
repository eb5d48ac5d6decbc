"""Postgres' times beyond those that Python has: infinity, years after 9999, years before Christ."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from tasks.sources.time_texts import FIRST, LAST

_NAIVE = (FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None))
_ENDS = {"timestamptz": (FIRST, LAST), "timestamp": _NAIVE, "date": (date.min, date.max)}


def read_endless_times(connection: Any) -> None:  # Any: a psycopg connection, which may not be installed
    """Let this connection give the first or the last moment there is instead of an error."""
    from psycopg.pq import Format

    for name, ends in _ENDS.items():
        oid = connection.adapters.types[name].oid
        for format_ in (Format.TEXT, Format.BINARY):
            standard = connection.adapters.get_loader(oid, format_)
            connection.adapters.register_loader(oid, _bounded(standard, *ends))


def _bounded(standard: type[Any], first: date | datetime, last: date | datetime) -> type[Any]:
    """Return a loader that reads what the standard one reads, and gives an end where that one refuses."""
    from psycopg import DataError
    from psycopg.adapt import Loader

    class Bounded(Loader):
        format = standard.format

        def __init__(self, oid: int, context: Any = None):
            super().__init__(oid, context)
            self._load = standard(oid, context).load

        def load(self, data: Any) -> Any:
            try:
                return self._load(data)
            except (DataError, OverflowError) as err:
                return first if "before year 1" in str(err) else last

    return Bounded
