"""Fast insertion of many predictions: the one statement that every answer of the app waits for.

SQLAlchemy's own insert asks of every value how to bind it; here that is known beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.store.schema import dump_json, predictions

Record = dict[str, Any]  # Any: column values of `predictions`

_COLUMNS = tuple(column.name for column in predictions.columns)
_JSON = frozenset(name for name in _COLUMNS if isinstance(predictions.c[name].type, sa.JSON))
_TIMES = ("event_time", "served_at")
_KINDS = {
    **dict.fromkeys(_COLUMNS, "text"),
    **dict.fromkeys(_TIMES, "timestamptz"),
    **{"version": "int", "partner": "int", "status": "int", "latency_ms": "float8"},
}
_CHUNK = 5_000  # ids per query, below the bound-parameter limits of both databases
_encode = json.JSONEncoder(
    allow_nan=False, sort_keys=True, ensure_ascii=False, separators=(",", ":")
).encode  # made once: json.dumps would make one per value


def insert_predictions(connection: Connection, rows: Sequence[Record]) -> int:
    """Insert the rows whose prediction id is not there yet; return how many were new.

    A column that a row does not name is null.
    """
    if not rows:
        return 0
    if connection.dialect.name == "postgresql":
        columns = zip(*(_values(row, lambda moment: moment) for row in rows), strict=True)
        given = {name: list(column) for name, column in zip(_COLUMNS, columns, strict=True)}
        return int(connection.exec_driver_sql(_POSTGRES, given).rowcount)
    return int(connection.exec_driver_sql(_SQLITE, [_values(row, _naive) for row in rows]).rowcount)


def standing(connection: Connection, rows: Sequence[Record]) -> dict[tuple[str, str], datetime]:
    """Return when those of the rows that are there already were served, by model and prediction id."""
    known: dict[tuple[str, str], datetime] = {}
    table = predictions.c
    for model in {row["model"] for row in rows}:
        ids = [row["prediction_id"] for row in rows if row["model"] == model]
        for start in range(0, len(ids), _CHUNK):
            query = sa.select(table.prediction_id, table.served_at).where(
                table.model == model, table.prediction_id.in_(ids[start : start + _CHUNK])
            )
            known.update(((model, row.prediction_id), row.served_at) for row in connection.execute(query))
    return known


def _values(row: Record, moment: Callable[[datetime], Any]) -> tuple[Any, ...]:  # Any: what drivers take
    return tuple(
        None
        if (value := row.get(name)) is None
        else _json(value)
        if name in _JSON
        else moment(value)
        if name in _TIMES
        else value
        for name in _COLUMNS
    )


def _json(value: Any) -> str:  # Any: a tree of whatever was predicted
    try:
        return _encode(value)
    except (TypeError, ValueError):
        return dump_json(value)


def _naive(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


# Nothing but the names of our own columns goes into these texts.
_NAMES = ", ".join(_COLUMNS)
_MARKS = ", ".join("?" for _ in _COLUMNS)
_SQLITE = f"INSERT INTO predictions ({_NAMES}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"  # noqa: S608
_GIVEN = ", ".join(f"{name}::json" if name in _JSON else name for name in _COLUMNS)
_ARRAYS = ", ".join(f"%({name})s::{_KINDS[name]}[]" for name in _COLUMNS)
_POSTGRES = (
    f"INSERT INTO predictions ({_NAMES}) "  # noqa: S608
    f"SELECT {_GIVEN} FROM unnest({_ARRAYS}) AS given({_NAMES}) ON CONFLICT DO NOTHING"
)
