"""Rows of a model's source, one per key, as a Dataset on disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.sources import Source, opened
from tasks.sources.increments import folder_of, sweep
from tasks.sources.own_labels import WithLabels, newest_labels
from tasks.sources.patience import READING
from tasks.sources.reading import (
    read_labels,
    read_range,
    read_training,
    read_window,
    span_at,
    stream_window,
)
from tasks.store import ledger, predictions, watermarks
from tasks.store.engine import open_store


@dataclass(frozen=True)
class Fetched:
    """The training rows, and what a retraining needs to know about how they came.

    `new_rows` are labelled rows that the last committed training could not have seen: dated since the
    watermark, or dated before it and late. `increments` hold from the next commit on; `increment` is the one
    this fetch added ("" for sources that are cheaper to read again than to copy). `future_rows` are dated
    or written after `as_of` and held back; `undated_rows` have no readable timestamp and can be in no window.
    `window_rows` are the labelled rows of the training window, beyond which the dataset may reach back.
    `skipped_files` lie in the folder of the source and are empty or none of its data.
    """

    dataset: Dataset
    new_rows: int
    watermark: datetime | None
    next_watermark: datetime
    late_rows: int = 0
    duplicates: int = 0
    corrections: int = 0
    future_rows: int = 0
    undated_rows: int = 0
    window_rows: int = 0
    increment: str = ""
    increments: tuple[str, ...] = ()
    skipped_files: int = 0


@task(name="fetch training rows", **READING)
def fetch_training(
    spec: ModelSpec,
    as_of: datetime,
    *,
    break_at: datetime | None = None,
    settings: Settings | None = None,
) -> Fetched:
    """Return every row to learn from whose label is mature at `as_of`, one per key.

    They end at `as_of - maturity` and begin as `window.rows` has it: the training window, or up to four of
    them for fading rows, or all, or since `break_at`, by default the last decision to train for decay. From a
    database only what may have changed since the watermark is read; the rest comes from the committed
    increments, after the source has confirmed that it still holds the same. Nothing is committed here. A
    label that is null in a mature row stays null: the contract counts it. An empty source gives an empty
    dataset.

    Raises:
        SourceUnavailable: when the source does not answer; the task retries.
        FetchError: when it cannot be read, or holds times that cannot be placed.
        ContractError: when the key or time columns are not there.
    """
    settings = settings or Settings()
    as_of = utc(as_of)
    standing = watermarks.get(open_store(settings), spec.name)
    moment = standing.moment if standing else None
    names = standing.increments if standing else []
    with opened(spec, settings) as source:
        if break_at is None and spec.window.rows == "since_break":
            break_at = ledger.last_decay(open_store(settings), spec.name, as_of)
        rows = labelled(source, spec, as_of, settings)
        found = read_training(rows, spec, as_of, settings, watermark=moment, names=names, break_at=break_at)
        skipped = sum(source.skipped.values())
    dataset, resolution = found.assembled.dataset, found.assembled.resolution
    task_logger(__name__).info(
        "Fetched %d rows of %s for %s (%d new, %d late, %d corrected, %d doubled, %d future, %d undated; "
        "%d files passed over)",
        *(dataset.rows, spec.name, dataset.window, found.new, found.late),
        *(resolution.corrections, resolution.duplicates, found.future, found.undated, skipped),
    )
    return Fetched(
        dataset=dataset,
        new_rows=found.new,
        watermark=moment,
        next_watermark=span_at(spec, as_of).end,
        late_rows=found.late,
        duplicates=resolution.duplicates,
        corrections=resolution.corrections,
        future_rows=found.future,
        undated_rows=found.undated,
        window_rows=found.window_rows,
        increment=found.increment,
        increments=found.increments,
        skipped_files=skipped,
    )


def labelled(source: Source, spec: ModelSpec, as_of: datetime, settings: Settings) -> Source:
    """Return the rows' source, with the labels that `label.source` knew by `as_of` where there is one."""
    where = spec.label.source
    if where is None:
        return source
    row_keys = None
    if where.by == "prediction_id":
        span = Window.ending(as_of, "3650d")
        served = predictions.read_keys(open_store(settings), spec.name, span)
        row_keys = dict(zip(served["prediction_id"], served["row_key"], strict=True))
    labels = newest_labels(spec, as_of, settings, row_keys=row_keys)
    task_logger(__name__).info("%s: %d keys have a label in its own source", spec.name, labels.num_rows)
    return WithLabels(source, labels, spec)


@task(name="commit watermark", retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def commit_watermark(
    spec: ModelSpec, fetched: Fetched, attempt: str, *, settings: Settings | None = None
) -> None:
    """Move the watermark to what this attempt consumed, once the attempt is recorded; twice is once."""
    settings = settings or Settings()
    stands = watermarks.commit(
        open_store(settings), spec.name, fetched.next_watermark, list(fetched.increments), attempt
    )
    removed = sweep(folder_of(spec, settings), stands.increments)
    task_logger(__name__).info(
        "Watermark of %s at %s with %d increments (%d unused removed)",
        *(spec.name, stands.moment.isoformat(), len(stands.increments), removed),
    )


@task(name="fetch window", **READING)
def fetch_window(
    spec: ModelSpec, window: Window, as_of: datetime, *, settings: Settings | None = None
) -> Dataset:
    """Return the window's rows as they were known at `as_of`, one per key, labels included where present.

    Raises:
        SourceUnavailable: when the source does not answer; the task retries.
        FetchError: when it cannot be read, or holds times that cannot be placed.
        ContractError: when the key or time columns are not there.
    """
    settings = settings or Settings()
    with opened(spec, settings) as source:
        dataset = read_window(source, spec, window, utc(as_of), settings, columns=spec.columns, stem="window")
    task_logger(__name__).info("Fetched %d rows of %s for %s", dataset.rows, spec.name, window)
    return dataset


@task(name="fetch rows to score", **READING)
def fetch_rows_to_score(
    spec: ModelSpec, window: Window, as_of: datetime, *, settings: Settings | None = None
) -> Dataset:
    """Return what `fetch_window` returns, read through files: the window may be larger than memory.

    Raises:
        SourceUnavailable: when the source does not answer; the task retries.
        FetchError: when it cannot be read, or holds times that cannot be placed.
        ContractError: when the key or time columns are not there.
    """
    settings = settings or Settings()
    with opened(spec, settings) as source:
        dataset = stream_window(source, spec, window, utc(as_of), settings, stem="score")
    task_logger(__name__).info("Fetched %d rows of %s for %s", dataset.rows, spec.name, window)
    return dataset


@task(name="fetch labels", **READING)
def fetch_labels(
    spec: ModelSpec, window: Window, as_of: datetime, *, settings: Settings | None = None
) -> Dataset:
    """Return key, timestamp and label of the window's rows whose label is there and mature at `as_of`.

    A row is mature when timestamp + maturity <= `as_of`. A source without the label column gives no
    rows, and a dataset whose `missing` names it.

    Raises:
        SourceUnavailable: when the source does not answer; the task retries.
        FetchError: when it cannot be read, or holds times that cannot be placed.
        ContractError: when the key or time columns are not there.
    """
    settings = settings or Settings()
    with opened(spec, settings) as source:
        dataset = read_labels(source, spec, window, utc(as_of), settings)
    task_logger(__name__).info("Fetched %d labels of %s for %s", dataset.rows, spec.name, window)
    return dataset


@task(name="time range", **READING)
def time_range(spec: ModelSpec, *, settings: Settings | None = None) -> Window:
    """Return the window from the source's first row to just after its last.

    Raises:
        SourceUnavailable: when the source does not answer; the task retries.
        FetchError: when it cannot be read, holds times that cannot be placed, or has no rows.
    """
    with opened(spec, settings or Settings()) as source:
        return read_range(source, spec)
