"""Requests by the minute, as the processes of the app counted them: what was refused stands only here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.store.engine import reading, writing
from tasks.store.schema_serving import traffic

_SUMS = ("requests", "rows", "lost", "latency")


@dataclass(frozen=True)
class Traffic:
    """The requests of one model and window that one version ended with one status.

    `latency` counts requests by the upper edge of their bucket in milliseconds; version 0: none answered.
    """

    model: str
    version: int
    status: int
    requests: int
    rows: int
    lost: int
    latency: Mapping[float, int] = field(default_factory=dict)


def write_traffic(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:  # Any: column values
    """Store what each process counted of each minute so far; a later count of the same replaces it."""
    if not rows:
        return
    with writing(engine) as connection:
        insert = pg_insert if connection.dialect.name == "postgresql" else sqlite_insert
        statement = insert(traffic)
        counted = {name: statement.excluded[name] for name in _SUMS}
        connection.execute(
            statement.on_conflict_do_update(index_elements=traffic.primary_key.columns, set_=counted),
            sorted(rows, key=lambda row: tuple(str(row[column.name]) for column in traffic.primary_key)),
        )


def read_traffic(engine: Engine, model: str, window: Window) -> list[Traffic]:
    """Return the sums of each version and status over the minutes that begin in the window, in order."""
    query = sa.select(traffic).where(
        traffic.c.model == model, traffic.c.minute >= window.start, traffic.c.minute < window.end
    )
    sums: dict[tuple[int, int], tuple[Counter[str], Counter[float]]] = {}
    with reading(engine) as connection:
        for row in connection.execute(query).mappings():
            known, latency = sums.setdefault((row["version"], row["status"]), (Counter(), Counter()))
            known.update({name: row[name] for name in ("requests", "rows", "lost")})
            latency.update({float(edge): times for edge, times in row["latency"].items()})
    return [
        Traffic(model, *key, known["requests"], known["rows"], known["lost"], dict(latency))
        for key, (known, latency) in sorted(sums.items())
    ]


def latency_ms(counts: Iterable[Traffic], share: float) -> float | None:
    """Return the latency that this share of the requests did not exceed, up to the width of a bucket.

    It is never below the exact one and at most 19 % above it; infinite beyond the highest bucket. None where
    there is no request.

    Example:
        >>> latency_ms([Traffic("churn", 1, 200, 4, 4, 0, {8.0: 3, 64.0: 1})], 0.75)
        8.0
    """
    total: Counter[float] = Counter()
    for one in counts:
        total.update(one.latency)
    needed, seen = math.ceil(share * total.total()), 0
    for edge in sorted(total):
        seen += total[edge]
        if seen >= needed:
            return edge
    return None
