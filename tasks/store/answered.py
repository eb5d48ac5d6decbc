"""How labelled predictions were answered, counted: in the database, and of what moved out of it.

When predictions move to a file, their counts by the hour are kept beside it in `part-N.sums.json`, noted
among the partitions with state `sums`, and stay when the file is dropped. Labels that are told after that
change nothing of them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.model.columns import category_text
from tasks.core.window import Window, utc
from tasks.settings import Settings
from tasks.store.engine import reading
from tasks.store.labels import standing_labels
from tasks.store.partition_files import SUMS, Partition, content, keep, partition_of
from tasks.store.schema import labels, predictions
from tasks.store.schema_serving import partitions

Counts = Counter[tuple[int, str, str]]
_ROWS = 50_000  # that are in memory at once


def count_answers(
    engine: Engine, model: str, window: Window, *, as_of: datetime, settings: Settings
) -> Counts:
    """Return how many labelled predictions of the window's events there are by (version, label, prediction).

    Of predictions that moved out of the database an hour counts as a whole, with the labels of the day they
    moved.

    Raises:
        StoreError: when a file of counts is gone or not the one that was written.
    """
    counts: Counts = Counter()
    inner = _labelled(model, window, as_of).subquery()
    key = (inner.c.version, inner.c.label, inner.c.prediction)
    # The database first: what moves while this runs is then counted twice, never lost.
    with reading(engine) as connection:
        for version, label, prediction, rows in connection.execute(
            sa.select(*key, sa.func.count()).group_by(*key)
        ):
            counts[version, _text(label), _text(prediction)] += rows
    for one in _noted(engine, model, window):
        for hour, version, label, prediction, rows in json.loads(content(one, settings, model=model)):
            moment = datetime.fromisoformat(hour)
            if _hour(window.start) <= moment < window.end:
                counts[version, label, prediction] += rows
    return counts


def keep_counts(
    engine: Engine, model: str, part: Partition, ids: Collection[str], *, settings: Settings, at: datetime
) -> Partition:
    """Return the file that now holds the counts of these predictions of the part, to be noted with it."""
    wanted, counts = set(ids), Counter[tuple[str, int, str, str]]()
    for row in _rows(engine, _labelled(model, part.window, at)):
        if row.prediction_id in wanted:
            hour = _hour(row.event_time).isoformat()
            counts[hour, row.version, _text(row.label), _text(row.prediction)] += 1
    data = json.dumps([[*key, rows] for key, rows in sorted(counts.items())]).encode()
    draft = settings.work_dir(f"{model}-compact") / f"{model}-{part.window.start:%Y%m%d}-{part.part}.json"
    path = part.path.removesuffix(".parquet") + ".sums.json"
    digest = hashlib.sha256(data).hexdigest()
    # Part numbers of a day are unique; those below zero are of counts.
    found = replace(
        part, part=-1 - part.part, path=path, sha256=digest, rows=counts.total(), state=SUMS, at=at
    )
    try:
        draft.write_bytes(data)
        keep(draft, found, settings, model=model)
    finally:
        draft.unlink(missing_ok=True)
    content(found, settings, model=model)
    return found


def _labelled(model: str, window: Window, as_of: datetime) -> sa.Select[Any]:  # Any: columns of several types
    standing, given = standing_labels(model, window, as_of=utc(as_of)), predictions.c
    return (
        sa.select(
            *(given.prediction_id, given.event_time, given.version),
            sa.cast(labels.c.label, sa.Text).label("label"),
            sa.cast(given.prediction, sa.Text).label("prediction"),
        )
        .select_from(standing)
        .join(labels, labels.c.id == standing.c.label_id)
        .join(predictions, sa.and_(given.model == model, given.prediction_id == standing.c.prediction_id))
    )


def _rows(engine: Engine, query: sa.Select[Any]) -> Iterator[sa.Row[Any]]:  # Any: columns of several types
    with reading(engine) as connection:
        yield from connection.execution_options(yield_per=_ROWS).execute(query)


def _noted(engine: Engine, model: str, window: Window) -> list[Partition]:
    query = sa.select(partitions).where(
        *(partitions.c.model == model, partitions.c.state == SUMS),
        *(partitions.c.window_start < window.end, partitions.c.window_end > window.start),
    )
    with reading(engine) as connection:
        return [partition_of(row) for row in connection.execute(query).mappings()]


def _text(value: str | None) -> str:
    return category_text(None if value is None else json.loads(value))


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
