"""How far a model's training has consumed its source, and from which increments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import utc
from tasks.store.engine import reading, writing
from tasks.store.schema import watermarks


@dataclass(frozen=True)
class Watermark:
    """Upper edge of the data consumed, and the increments that hold it, oldest first."""

    moment: datetime
    increments: list[str]


def get(engine: Engine, model: str) -> Watermark | None:
    """Return where the model stands; None before its first commit."""
    with reading(engine) as connection:
        return _standing(connection, model)


def commit(
    engine: Engine, model: str, moment: datetime, increments: Sequence[str], attempt: str
) -> Watermark:
    """Return the watermark that stands after the attempt's.

    `increments` is the whole list that holds from now on, not an addition to the old one: a fetch that starts
    over can thereby drop what it replaced. An attempt counts once, and one that is behind what stands changes
    nothing, since the newer list is complete without it.
    """
    moment = utc(moment)
    with writing(engine, lock=f"watermark:{model}") as connection:
        standing = _standing(connection, model)
        if _seen(connection, model, attempt) or (standing and moment < standing.moment):
            return standing or Watermark(moment, list(increments))
        connection.execute(
            watermarks.insert(),
            {"model": model, "attempt": attempt, "moment": moment, "increments": list(increments)},
        )
    return Watermark(moment, list(increments))


def _standing(connection: Connection, model: str) -> Watermark | None:
    newest = (
        sa.select(watermarks.c.moment, watermarks.c.increments)
        .where(watermarks.c.model == model)
        .order_by(watermarks.c.id.desc())
        .limit(1)
    )
    row = connection.execute(newest).first()
    return Watermark(row.moment, list(row.increments)) if row else None


def _seen(connection: Connection, model: str, attempt: str) -> bool:
    found = sa.select(watermarks.c.id).where(watermarks.c.model == model, watermarks.c.attempt == attempt)
    return connection.execute(found).first() is not None
