"""The prediction log as one: what is in the database, and what moved out of it into Parquet files.

A file is `<artifact root>/predictions/<model>/day=YYYY-MM-DD/part-N.parquet`, named in `partitions` with its
digest. A part that is `written` holds rows that are still in the database, one that `moved` is the only place
of its rows, and of one that was `dropped` only the number of its rows is left.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.answered import keep_counts
from tasks.store.engine import reading, writing
from tasks.store.partition_files import (
    SCHEMA,
    SUMS,
    Partition,
    check,
    encoded,
    ids_in,
    keep,
    partition_of,
    read_part,
    remove,
)
from tasks.store.schema import predictions
from tasks.store.schema_serving import partitions

ROWS = 50_000
"""Rows that are in memory at once."""
_READ = (
    "prediction_id",
    "row_key",
    "event_time",
    "served_at",
    "version",
    "prediction",
    "score",
    "latency_ms",
)
_KEYS = 5_000  # ids per statement, below the bound-parameter limits of both databases


def read_log(
    engine: Engine, model: str, window: Window, *, settings: Settings, with_inputs: bool = False
) -> pd.DataFrame:
    """Return the predictions whose event lies in the window, wherever they are, by event time.

    Columns: prediction_id, row_key, event_time, served_at, version, prediction, score, latency_ms, route, and
    inputs when asked for. `attrs["dropped"]` is how many rows lay in files of these days that were dropped.

    Raises:
        StoreError: when a file is gone or not the one that was written.
    """
    names = [*_READ, "route", *(("inputs",) if with_inputs else ())]
    # The database first: rows that move while this runs are then found twice, never nowhere.
    query = sa.select(*(predictions.c[name] for name in names)).where(
        predictions.c.model == model,
        predictions.c.event_time >= window.start,
        predictions.c.event_time < window.end,
    )
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    parts = of_window(engine, model, window)
    moved = [one for one in parts if one.state == "moved"]
    found = [
        *(read_part(one, window, names, model=model, settings=settings) for one in moved),
        pd.DataFrame(rows, columns=names).astype(object),
    ]
    frame = pd.concat([one for one in found if len(one)] or found[-1:], ignore_index=True)
    frame = frame.drop_duplicates("prediction_id", keep="first")
    for name in ("event_time", "served_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    frame = frame.astype({"version": "int64", "latency_ms": "float64"})
    frame = frame.sort_values(["event_time", "prediction_id"], ignore_index=True)
    frame.attrs["dropped"] = sum(one.rows for one in parts if one.state == "dropped")
    return frame


def of_window(engine: Engine, model: str, window: Window | None = None) -> list[Partition]:
    """Return the parts whose days touch the window, default: all, oldest first."""
    query = sa.select(partitions).where(partitions.c.model == model, partitions.c.state != SUMS)
    if window is not None:
        query = query.where(partitions.c.window_start < window.end, partitions.c.window_end > window.start)
    with reading(engine) as connection:
        found = connection.execute(query.order_by(partitions.c.window_start, partitions.c.part)).mappings()
        return [partition_of(row) for row in found]


def write_part(
    engine: Engine, model: str, day: Window, *, folder: Path, settings: Settings, at: datetime
) -> Partition | None:
    """Return the file that now holds those rows of the day that no file has; None when there is none.

    Nothing is removed. A file that was written and not noted, because its process died, is written over.

    Raises:
        StoreError: when the file cannot be written, or does not read back as it was written.
    """
    before = of_window(engine, model, day)
    known = {name for one in before if one.state == "moved" for name in ids_in(one, settings, model=model)}
    part = max((one.part for one in before), default=-1) + 1
    draft = folder / f"{model}-{day.start:%Y%m%d}-{part}.parquet"
    try:
        rows = _write(engine, model, day, draft, leave_out=known)
        if not rows:
            return None
        name = f"predictions/{model}/day={day.start:%Y-%m-%d}/part-{part}.parquet"
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()
        one = Partition(0, day, part, name, digest, rows, "written", at)
        keep(draft, one, settings, model=model)
        check(one, settings, model=model)
        with writing(engine, lock=f"partitions:{model}") as connection:
            made = connection.execute(partitions.insert().values(**_values(model, one))).inserted_primary_key
        return replace(one, id=int(made[0]) if made else 0)
    finally:
        draft.unlink(missing_ok=True)


def move_out(
    engine: Engine, model: str, part: Partition, *, settings: Settings, at: datetime, with_counts: bool = True
) -> int:
    """Remove from the database the rows that are in this file, after it was read back; return how many.

    With counts, those of its labelled answers are kept beside it, see `tasks.store.answered`.

    Raises:
        StoreError: when the file is gone or not the one that was written: then nothing is removed.
    """
    check(part, settings, model=model)
    ids = ids_in(part, settings, model=model)
    counts = keep_counts(engine, model, part, ids, settings=settings, at=at) if with_counts else None
    with writing(engine, lock=f"partitions:{model}") as connection:
        removed = _delete(connection, model, ids)
        if counts is not None:
            connection.execute(partitions.insert().values(**_values(model, counts)))
        connection.execute(partitions.update().where(partitions.c.id == part.id).values(state="moved", at=at))
    return removed


def remove_doubles(engine: Engine, model: str, day: Window, *, settings: Settings) -> int:
    """Remove from the database rows of the day that moved out before and came again; return how many."""
    removed = 0
    for one in of_window(engine, model, day):
        if one.state == "moved":
            ids = ids_in(one, settings, model=model)
            with writing(engine, lock=f"partitions:{model}") as connection:
                removed += _delete(connection, model, ids)
    return removed


def forget_part(engine: Engine, part: Partition) -> None:
    """Take back the note of a file that was written and is not good; its rows are in the database."""
    with writing(engine) as connection:
        connection.execute(
            partitions.delete().where(partitions.c.id == part.id, partitions.c.state == "written")
        )


def drop_part(engine: Engine, model: str, part: Partition, *, settings: Settings, at: datetime) -> None:
    """Remove a file for good; how many rows it held stays noted. Twice is once."""
    with writing(engine) as connection:
        connection.execute(
            partitions.update()
            .where(partitions.c.id == part.id, partitions.c.state == "moved")
            .values(state="dropped", at=at)
        )
    remove(part, settings, model=model)


def _write(engine: Engine, model: str, day: Window, draft: Path, *, leave_out: set[str]) -> int:
    query = (
        sa.select(*(predictions.c[name] for name in SCHEMA.names))
        .where(
            predictions.c.model == model,
            predictions.c.event_time >= day.start,
            predictions.c.event_time < day.end,
        )
        .order_by(predictions.c.event_time, predictions.c.prediction_id)
    )
    written = 0
    with (
        reading(engine) as connection,
        pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer,
        connection.execution_options(yield_per=ROWS).execute(query) as result,
    ):
        for some in result.mappings().partitions():
            rows = [encoded(row) for row in some if row["prediction_id"] not in leave_out]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                written += len(rows)
    return written


def _values(model: str, one: Partition) -> dict[str, Any]:  # Any: column values
    return {
        **{"model": model, "window_start": one.window.start, "window_end": one.window.end},
        **{name: getattr(one, name) for name in ("part", "path", "sha256", "rows", "state", "at")},
    }


def _delete(connection: Connection, model: str, ids: list[str]) -> int:
    removed = 0
    for start in range(0, len(ids), _KEYS):
        some = predictions.c.prediction_id.in_(ids[start : start + _KEYS])
        removed += connection.execute(predictions.delete().where(predictions.c.model == model, some)).rowcount
    return removed
