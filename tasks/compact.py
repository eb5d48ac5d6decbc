"""Old predictions out of the database into Parquet files, and old files away: both only as the spec says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State
from sqlalchemy.engine import Engine

from tasks.core.errors import StoreError
from tasks.core.labels.late import LOOK_BACK
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc
from tasks.log import task_logger
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import exposures, partitions
from tasks.store.engine import open_store, reading
from tasks.store.locks import model_lock
from tasks.store.partition_files import Partition
from tasks.store.schema import predictions

_DAY = timedelta(days=1)
_FIRST = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Compacted:
    """What was moved out of the database, and which files were dropped; with `is_dry`, what would be.

    `doubles` are rows that had moved before and came again.
    """

    rows: int = 0
    days: int = 0
    files: tuple[str, ...] = ()
    doubles: int = 0
    dropped_files: int = 0
    dropped_rows: int = 0
    until: datetime | None = None
    is_dry: bool = False

    def sentence(self) -> str:
        """Return what happened, in words."""
        if self.until is None:
            return "predictions stay in the database: serving.keep is not set"
        verb = "would move" if self.is_dry else "moved"
        text = f"{verb} {self.rows} predictions of {self.days} days before {self.until:%Y-%m-%d} to files"
        if self.dropped_files:
            verb = "would drop" if self.is_dry else "dropped"
            text += f"; {verb} {self.dropped_files} files with {self.dropped_rows} predictions"
        return text

    def state(self) -> State[Any]:
        """Return a completed state that says whether anything moved."""
        is_news = bool(self.rows or self.dropped_files)
        name = "Nothing to move" if not is_news else "Dry run" if self.is_dry else "Moved"
        return completed(name, self.sentence(), self)


@task(retries=1, retry_delay_seconds=10, timeout_seconds=4 * 3600, cache_policy=NO_CACHE)
def compact_log(
    spec: ModelSpec, *, as_of: datetime, dry_run: bool = True, settings: Settings | None = None
) -> Compacted:
    """Move predictions older than `serving.keep` to Parquet files, and drop files older than `keep_files`.

    A day moves as a whole, and a row only once its file was read back. Run again after a crash, this ends
    where it would have ended; rows of a moved day that came late become a further part of it. What checks and
    late labels may still need stays in the database, whatever `keep` says.

    Raises:
        StoreError: when a file cannot be written, or is not the one that was written.
    """
    place, began = settings or Settings(), time.monotonic()
    if spec.serving.keep is None:
        return Compacted(is_dry=dry_run)
    engine = open_store(place)
    until = kept_from(spec, utc(as_of), exposed=_exposed_since(engine, spec.name))
    if dry_run:
        return _planned(engine, spec, until, utc(as_of))
    with model_lock(f"compact-{spec.name}", place):
        done = _compacted(engine, spec, until, utc(as_of), place)
    task_logger(__name__).info("%s: %s in %.1f s", spec.name, done.sentence(), time.monotonic() - began)
    return done


def kept_from(spec: ModelSpec, as_of: datetime, *, exposed: datetime | None = None) -> datetime:
    """Return the midnight before which predictions may leave the database.

    The windows that decisions rest on stay, those before them whose late labels are still joined, and what is
    not mature yet; where new labels ask for a retraining, what it would train on; and what belongs to an
    exposure that lasts, from `exposed` on.
    """
    needed = (spec.drift.windows[1] + LOOK_BACK) * parse_duration(spec.window.check)
    if spec.retrain.min_new_labels is not None:
        needed = max(needed, parse_duration(spec.window.training))
    needed += parse_duration(spec.label.maturity)
    wanted = parse_duration(spec.serving.keep or "0s")
    moment = as_of - min(max(needed, wanted), as_of - _FIRST)
    moment = min(moment, exposed) if exposed is not None else moment
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _exposed_since(engine: Engine, model: str) -> datetime | None:
    """Return the oldest event of what was answered since the exposures that last began; None without any."""
    lasting: dict[int, datetime] = {}
    for one in exposures.history(engine, model):
        if one.event == "ended":
            lasting.pop(one.version, None)
        else:
            lasting.setdefault(one.version, one.at)
    if not lasting:
        return None
    since = min(lasting.values())
    c = predictions.c
    query = sa.select(sa.func.min(c.event_time, type_=c.event_time.type)).where(
        c.model == model, c.served_at >= since, c.route.in_(("champion", "canary"))
    )
    with reading(engine) as connection:
        first: datetime | None = connection.execute(query).scalar_one()
    return min(since, first) if first is not None else since


def _compacted(
    engine: Engine, spec: ModelSpec, until: datetime, as_of: datetime, place: Settings
) -> Compacted:
    rows = doubles = 0
    files = []
    move = partial(
        partitions.move_out, settings=place, at=as_of, with_counts=spec.task == "classification"
    )  # numbers are each another, and no answer of them is given a worth
    for one in partitions.of_window(engine, spec.name):
        if one.state == "written":  # a run before died here
            try:
                rows += move(engine, spec.name, one)
                files.append(one)
            except StoreError:
                partitions.forget_part(engine, one)
    for day in _days(engine, spec.name, until):
        folder = place.work_dir(f"{spec.name}-compact")
        made = partitions.write_part(engine, spec.name, day, folder=folder, settings=place, at=as_of)
        if made is not None:
            rows += move(engine, spec.name, made)
            files.append(made)
        doubles += partitions.remove_doubles(engine, spec.name, day, settings=place)
    old = _old(engine, spec, as_of)
    for one in old:
        partitions.drop_part(engine, spec.name, one, settings=place, at=as_of)
    return Compacted(
        rows=rows,
        days=len({one.window for one in files}),
        files=tuple(one.path for one in files),
        doubles=doubles,
        dropped_files=sum(one.state == "moved" for one in old),
        dropped_rows=sum(one.rows for one in old if one.state == "moved"),
        until=until,
    )


def _planned(engine: Engine, spec: ModelSpec, until: datetime, as_of: datetime) -> Compacted:
    query = sa.select(sa.func.count()).where(
        predictions.c.model == spec.name, predictions.c.event_time < until
    )
    with reading(engine) as connection:
        rows = int(connection.execute(query).scalar_one())
    old = [one for one in _old(engine, spec, as_of) if one.state == "moved"]
    return Compacted(
        rows=rows,
        days=len(list(_days(engine, spec.name, until))),
        dropped_files=len(old),
        dropped_rows=sum(one.rows for one in old),
        until=until,
        is_dry=True,
    )


def _days(engine: Engine, model: str, until: datetime) -> Iterator[Window]:
    """Yield the days before `until` that have predictions in the database, oldest first."""
    after = None
    while True:
        query = sa.select(sa.func.min(predictions.c.event_time)).where(
            predictions.c.model == model, predictions.c.event_time < until
        )
        if after is not None:
            query = query.where(predictions.c.event_time >= after)
        with reading(engine) as connection:
            first = connection.execute(query).scalar_one()
        if first is None:
            return
        start = first.replace(hour=0, minute=0, second=0, microsecond=0)
        after = start + _DAY
        yield Window(start, after)


def _old(engine: Engine, spec: ModelSpec, as_of: datetime) -> list[Partition]:
    """Return the files to drop, with those whose removal was noted lately and may not have been finished."""
    if spec.serving.keep_files is None:
        return []
    edge = as_of - min(parse_duration(spec.serving.keep_files), as_of - _FIRST)
    return [
        one
        for one in partitions.of_window(engine, spec.name)
        if (one.state == "moved" and one.window.end <= edge)
        or (one.state == "dropped" and one.at > as_of - 7 * _DAY)
    ]
