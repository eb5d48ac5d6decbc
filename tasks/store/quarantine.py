"""Which rows were set aside, how many and why; the rows themselves stand in a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import dump_json, quarantine


@dataclass(frozen=True)
class Quarantined:
    """Rows of one window that the contract set aside; `reasons` counts rows by reason code."""

    model: str
    attempt: str
    window: Window
    rows: int
    reasons: dict[str, int]
    path: str


def record(
    engine: Engine,
    *,
    model: str,
    attempt: str,
    window: Window,
    rows: int,
    reasons: Mapping[str, int],
    path: str,
) -> None:
    """Keep that these rows were set aside; the same finding of the same attempt is kept once."""
    finding = {"rows": int(rows), "reasons": dict(reasons)}
    row = {
        "model": model,
        "attempt": attempt,
        "window_start": window.start,
        "window_end": window.end,
        **finding,
        "path": str(path),
        "digest": sha256(dump_json(finding).encode()).hexdigest(),
    }
    with writing(engine) as connection:
        insert_new(connection, quarantine, [row])


def history(engine: Engine, model: str) -> list[Quarantined]:
    """Return everything ever set aside for the model, oldest first."""
    query = sa.select(quarantine).where(quarantine.c.model == model).order_by(quarantine.c.id)
    with reading(engine) as connection:
        return [
            Quarantined(
                row.model,
                row.attempt,
                Window(row.window_start, row.window_end),
                row.rows,
                dict(row.reasons),
                row.path,
            )
            for row in connection.execute(query)
        ]
