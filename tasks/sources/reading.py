"""From a source to rows on disk: one window as it was known, or the training window with its increments."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.dataset import Dataset
from tasks.core.errors import FetchError
from tasks.core.model.weighting import learning_span
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.settings import Settings
from tasks.sources import Source
from tasks.sources.assemble import Assembled, assemble
from tasks.sources.gathering import gather, gather_on_disk, surviving
from tasks.sources.increments import Increment, fingerprint, folder_of, known, read, write
from tasks.sources.selection import Plan, known_at, plan_next, plan_whole, whole
from tasks.sources.spelling import key_texts
from tasks.sources.where import Clause, Where, between, just_after

MOST_UNREADABLE = 10_000


@dataclass(frozen=True)
class Training:
    """The rows to learn from, the increments they rest on, and how they relate to the last training's.

    `window_rows` counts the labelled rows of the training window, which the rows may reach back beyond.
    """

    assembled: Assembled
    increment: str
    increments: tuple[str, ...]
    new: int
    late: int
    future: int
    undated: int
    window_rows: int


def span_at(spec: ModelSpec, as_of: datetime, break_at: datetime | None = None) -> Window:
    """Return the rows that may be learnt from at `as_of`: up to the newest mature label."""
    return learning_span(spec, as_of - parse_duration(spec.label.maturity), break_at=break_at)


def read_range(source: Source, spec: ModelSpec) -> Window:
    """Return the window from the first dated row to just after the last, reading only the timestamps."""
    ends: list[datetime] = []
    for batch in source.batches([spec.source.timestamp], ()):
        found = pc.min_max(batch.column(0)).as_py()
        ends += [moment for moment in found.values() if moment is not None]
    if not ends:
        raise FetchError("no dated rows", "a history with rows", "check source.url", model=spec.name)
    return Window(min(ends), just_after(max(ends)))


def read_window(
    source: Source,
    spec: ModelSpec,
    window: Window,
    as_of: datetime,
    settings: Settings,
    *,
    columns: Sequence[str],
    stem: str,
    drop_null: str | None = None,
) -> Dataset:
    """Return the window's rows as known at `as_of`, one per key, with those of `columns` that exist."""
    needed = [*columns, spec.source.updated] if spec.source.updated else columns
    batches = source.batches(list(dict.fromkeys(needed)), whole(source, spec, window, as_of))
    return assemble(
        gather(batches, needed, spec),
        spec,
        window,
        columns=columns,
        schema=source.schema(),
        folder=settings.work_dir(spec.name),
        stem=stem,
        drop_null=drop_null,
    ).dataset


def stream_window(
    source: Source, spec: ModelSpec, window: Window, as_of: datetime, settings: Settings, *, stem: str
) -> Dataset:
    """Return what `read_window` returns, with only keys and times in memory: for windows of any size."""
    needed = [*spec.columns, spec.source.updated] if spec.source.updated else spec.columns
    folder = settings.work_dir(spec.name)
    batches = source.batches(list(dict.fromkeys(needed)), whole(source, spec, window, as_of))
    with gather_on_disk(batches, needed, folder, spec) as versions:
        return assemble(
            versions,
            spec,
            window,
            columns=spec.columns,
            schema=source.schema(),
            folder=folder,
            stem=stem,
        ).dataset


def read_labels(
    source: Source, spec: ModelSpec, window: Window, as_of: datetime, settings: Settings
) -> Dataset:
    """Return key, timestamp and label of the window's rows that are labelled and mature at `as_of`."""
    columns = [spec.source.key, spec.source.timestamp, spec.label.column]
    mature = just_after(as_of - parse_duration(spec.label.maturity))
    if mature <= window.start:
        # Nothing can be mature yet: no row needs reading.
        made = assemble(
            gather([], columns, spec),
            spec,
            window,
            columns=columns,
            schema=source.schema(),
            folder=settings.work_dir(spec.name),
            stem="labels",
        )
        return made.dataset
    readable = Window(window.start, min(window.end, mature))
    dataset = read_window(
        source, spec, readable, as_of, settings, columns=columns, stem="labels", drop_null=spec.label.column
    )
    return replace(dataset, window=window)


def read_training(
    source: Source,
    spec: ModelSpec,
    as_of: datetime,
    settings: Settings,
    *,
    watermark: datetime | None,
    names: Sequence[str],
    break_at: datetime | None = None,
) -> Training:
    """Return the rows to learn from, reading from a database only what may have changed.

    `watermark` and the increments' `names` are what the last commit left. Where all rows are learnt from, the
    dataset's window begins with the oldest of them.
    """
    window = span_at(spec, as_of, break_at)
    future = source.count(_ahead(spec, as_of))
    undated = source.count(((Clause(spec.source.timestamp, "null"),),))
    committed = _committed(spec, names, settings) if source.incremental else []
    plan = plan_next(source, spec, window, as_of, committed) if committed else None
    assembled = None
    if plan is not None:
        assembled, increment = _carry_out(plan, source, spec, window, settings, committed=committed)
        if not _complete(source, spec, window, as_of, assembled):
            assembled = None
    if plan is None or assembled is None:
        plan = plan_whole(source, spec, window, as_of)
        assembled, increment = _carry_out(plan, source, spec, window, settings)
    new, late = _new_and_late(assembled, spec, settings, watermark, [name for name, _ in committed])
    increments = (*plan.keep, increment) if increment else ()
    assembled = replace(assembled, dataset=_from_first_row(assembled, spec))
    rows = _in_training_window(assembled, spec)
    if undated:
        path = _set_aside_unreadable(source, spec, settings)
        assembled = replace(assembled, dataset=replace(assembled.dataset, unreadable=path))
    return Training(assembled, increment, increments, new, late, future, undated, rows)


def _from_first_row(assembled: Assembled, spec: ModelSpec) -> Dataset:
    """Return the dataset, its window no longer than its rows where it had no beginning."""
    dataset = assembled.dataset
    if spec.window.rows != "expanding":
        return dataset
    end = dataset.window.end
    first = pc.min(_times(assembled, spec)).as_py() if len(assembled.kept) else end
    return replace(dataset, window=learning_span(spec, end, first=first))


def _in_training_window(assembled: Assembled, spec: ModelSpec) -> int:
    """Return how many labelled rows lie in the last `window.training`."""
    if not len(assembled.kept):
        return 0
    start = Window.ending(assembled.dataset.window.end, spec.window.training).start
    times = _times(assembled, spec)
    recent = pc.greater_equal(times, pa.scalar(start, times.type)).to_numpy()
    return int((assembled.filled(spec.label.column) & recent).sum())


def _times(assembled: Assembled, spec: ModelSpec) -> pa.ChunkedArray:
    return assembled.versions.table.column(spec.source.timestamp).take(pa.array(assembled.kept))


def _ahead(spec: ModelSpec, as_of: datetime) -> Where:
    """Return the filter for rows that say they happen, or were written, after `as_of`."""
    after = just_after(as_of)
    written = ((Clause(spec.source.updated, "ge", after),),) if spec.source.updated else ()
    return (*known_at(spec, as_of, Clause(spec.source.timestamp, "ge", after)), *written)


def _set_aside_unreadable(source: Source, spec: ModelSpec, settings: Settings) -> str:
    """Return the Parquet file of at most 10,000 rows whose time cannot be read; "" when there are none."""
    batches, rows = [], 0
    for batch in source.batches(list(spec.columns), ((Clause(spec.source.timestamp, "unreadable"),),)):
        batches.append(batch)
        rows += batch.num_rows
        if rows >= MOST_UNREADABLE:
            break
    if not rows:
        return ""
    table = gather(batches, list(spec.columns), spec).table.slice(0, MOST_UNREADABLE)
    path = settings.work_dir(spec.name) / f"unreadable-{uuid.uuid4().hex[:12]}.parquet"
    pq.write_table(table, path)
    return str(path)


def _committed(spec: ModelSpec, names: Sequence[str], settings: Settings) -> list[tuple[str, Increment]]:
    """The increments of the watermark; none when one is not here (another machine) or of an older spec."""
    found = known(folder_of(spec, settings), names, fingerprint(spec))
    return list(zip(names, found, strict=True)) if found else []


def _carry_out(
    plan: Plan,
    source: Source,
    spec: ModelSpec,
    window: Window,
    settings: Settings,
    *,
    committed: Sequence[tuple[str, Increment]] = (),
) -> tuple[Assembled, str]:
    columns = list(spec.columns)
    batches: Iterator[pa.RecordBatch] = source.batches(columns, plan.where)
    name = ""
    if source.incremental:
        folder = folder_of(spec, settings)
        name = write(folder, plan.increment, batches)
        standing = [pair for pair in committed if pair[0] in plan.keep]
        batches = surviving(folder, [*standing, (name, plan.increment)])
    assembled = assemble(
        gather(batches, columns, spec),
        spec,
        window,
        columns=columns,
        schema=source.schema(),
        folder=settings.work_dir(spec.name),
        stem="training",
    )
    return assembled, name


def _complete(source: Source, spec: ModelSpec, window: Window, as_of: datetime, assembled: Assembled) -> bool:
    """Whether the source has as many keys in the window as the increments hold.

    It differs when rows were deleted, or appeared with an old time of writing: then all is read again.
    """
    if spec.source.updated is None:
        return True  # the checksum has told already
    dated = between(spec.source.timestamp, window.start, window.end)
    return source.count(known_at(spec, as_of, *dated), distinct=spec.source.key) == assembled.distinct_keys


def _new_and_late(
    assembled: Assembled,
    spec: ModelSpec,
    settings: Settings,
    watermark: datetime | None,
    committed: Sequence[str],
) -> tuple[int, int]:
    """Labelled rows that the last committed training could not see, and rows that came late for it."""
    table, kept = assembled.versions.table, pa.array(assembled.kept)
    if not len(kept):
        return 0, 0
    labelled = assembled.filled(spec.label.column)
    if watermark is None:
        return int(labelled.sum()), 0
    times = table.column(spec.source.timestamp).take(kept)
    fresh = pc.greater_equal(times, pa.scalar(watermark, times.type)).to_numpy()
    late = np.zeros(len(kept), dtype=bool)
    if committed and not fresh.all():
        keys = key_texts(table.column(spec.source.key).take(kept))
        late = ~fresh & ~pc.is_in(keys, _held_keys(spec, settings, committed)).to_numpy()
    return int((labelled & (fresh | late)).sum()), int(late.sum())


def _held_keys(spec: ModelSpec, settings: Settings, committed: Sequence[str]) -> pa.Array:
    folder = folder_of(spec, settings)
    found = [
        pc.unique(key_texts(batch.column(0)))
        for name in committed
        for batch in read(folder, name, [spec.source.key])
    ]
    return pa.chunked_array(found, pa.string()).unique()
