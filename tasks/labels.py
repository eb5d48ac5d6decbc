"""Labels from where they are kept, and how well they come."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.errors import SpecError
from tasks.core.labels.health import LabelHealth, judge_labels
from tasks.core.labels.late import LOOK_BACK
from tasks.core.spec import ModelSpec
from tasks.core.spec_label import LabelSource
from tasks.core.window import Window, parse_duration, utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.sources import Source, opened
from tasks.sources.own_labels import as_source, known_by, require_label, united
from tasks.sources.patience import READING
from tasks.sources.spelling import key_texts
from tasks.sources.where import just_after
from tasks.store import checks, predictions
from tasks.store.coverage import coverage, unlabelled_since
from tasks.store.engine import open_store

_USUAL_WINDOWS = 12


@task(name="fetch labels of their own source", **READING)
def fetch_label_source(
    spec: ModelSpec, window: Window, as_of: datetime, *, settings: Settings | None = None
) -> Dataset:
    """Return the labels that `label.source` holds for the window's predictions whose label is mature.

    The file has columns row_key, label, prediction_id (where the source goes by it) and known_at (where the
    source tells). With a time column all versions of a label come, and none later than `as_of`; a label
    known before the window began cannot be one of it and is not read. Without it the whole source is read.

    Raises:
        SpecError: when the spec names no source of labels.
        SourceUnavailable: when the source does not answer; the task retries.
        FetchError: when it cannot be read, or holds times that cannot be placed.
        ContractError: when the key, label or time column is not there.
    """
    where, settings, started = spec.label.source, settings or Settings(), time.monotonic()
    if where is None:
        raise SpecError("no label.source", "a source of labels", "use fetch_labels", model=spec.name)
    mature = just_after(utc(as_of) - parse_duration(spec.label.maturity))
    found: list[pa.Table] = []
    if mature > window.start:
        readable = Window(window.start, min(window.end, mature))
        served = predictions.read_keys(open_store(settings), spec.name, readable)
        with opened(as_source(spec, where), settings) as source:
            require_label(source, where, spec, window=str(window))
            found = list(_matching(source, where, served, readable.start, utc(as_of)))
    columns = ["row_key", "label", *(["prediction_id"] if where.by == "prediction_id" else [])]
    columns += ["known_at"] if where.timestamp else []
    table = united(found, spec) if found else _empty(columns)
    dataset = _kept(table, window, settings.work_dir(spec.name))
    task_logger(__name__).info(
        "Fetched %d labels of %s for %s from their source in %.1f s",
        dataset.rows, spec.name, window, time.monotonic() - started,
    )  # fmt: skip
    return dataset


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def labels_wanted(
    spec: ModelSpec, window: Window, *, as_of: datetime, settings: Settings | None = None
) -> Window:
    """Return the window whose labels are worth fetching: that of the verdicts that still count, or longer.

    Once per check length it reaches back to the oldest prediction of the last month of windows that has no
    label yet, so that a late one finds its way into the history.
    """
    recent = Window(window.before(spec.drift.windows[1]).start, window.end)
    far = Window(window.before(max(LOOK_BACK, spec.drift.windows[1])).start, recent.start)
    engine = open_store(settings)
    newest = checks.recent(engine, spec.name, "labels", 1, as_of)
    looked = newest[0].at if newest else None
    if looked is not None and utc(as_of) - parse_duration(spec.window.check) < looked < utc(as_of):
        return recent
    since = unlabelled_since(engine, spec.name, far, as_of=as_of)
    return recent if since is None else Window(since, recent.end)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def label_health(
    spec: ModelSpec, window: Window, *, as_of: datetime, settings: Settings | None = None
) -> LabelHealth:
    """Return how many predictions of the window have met their label, how soon, and whether that is usual.

    Record it as a check of kind `labels`: earlier ones tell what is usual.
    """
    engine, started = open_store(settings), time.monotonic()
    maturity = parse_duration(spec.label.maturity)
    found = coverage(engine, spec.name, window, as_of=as_of, maturity=maturity)
    before = checks.recent(engine, spec.name, "labels", _USUAL_WINDOWS, min(window.start, utc(as_of)))
    shares = [check.summary.get("coverage") for check in before if check.outcome != "drift"]
    health = judge_labels(
        found.predictions,
        found.labelled,
        found.delays,
        earlier=[float(share) for share in shares if share is not None],
        min_rows=spec.performance.min_rows,
        is_mature=window.end + maturity <= utc(as_of),
        corrected=found.corrected,
        unmatched=found.unmatched,
    )
    task_logger(__name__).info(
        "%s: %s over %s in %.1f s", spec.name, health.sentence(), window, time.monotonic() - started
    )
    return health


def _matching(
    source: Source, where: LabelSource, served: pd.DataFrame, since: datetime, as_of: datetime
) -> Iterator[pa.Table]:
    """Yield the labels of what was served, batch by batch, so that only those are held."""
    wanted = pa.array(served[where.by if where.by == "prediction_id" else "row_key"], pa.string())
    row_keys = pa.array(served["row_key"], pa.string())
    names = [where.key, where.column, *([where.timestamp] if where.timestamp else [])]
    for batch in source.batches(list(dict.fromkeys(names)), known_by(where, since, as_of)):
        keys = key_texts(batch.column(where.key))
        places = pc.index_in(keys, wanted)
        keep = pc.and_(
            pc.is_valid(places), pc.invert(pc.is_null(batch.column(where.column), nan_is_null=True))
        )
        places = places.filter(keep)
        columns = {"row_key": row_keys.take(places), "label": batch.column(where.column).filter(keep)}
        if where.by == "prediction_id":
            columns["prediction_id"] = keys.filter(keep)
        if where.timestamp:
            columns["known_at"] = batch.column(where.timestamp).filter(keep)
        if len(places):
            yield pa.table(columns)


def _empty(columns: list[str]) -> pa.Table:
    return pa.table({name: pa.nulls(0, pa.string()) for name in columns})


def _kept(table: pa.Table, window: Window, folder: Path) -> Dataset:
    """Write the labels by time, so that of two labels of one key the newest comes last."""
    frame = table.to_pandas()
    by = [name for name in ("known_at", "row_key") if name in frame]
    frame = frame.sort_values(by, kind="stable", na_position="first", ignore_index=True)
    staging = folder / ".labels-of-their-own.parquet"
    frame.to_parquet(staging, index=False)
    digest = hashlib.sha256(staging.read_bytes()).hexdigest()
    path = staging.replace(folder / f"labels-{digest[:12]}.parquet")
    return Dataset(str(path), len(frame), digest, window, columns=tuple(frame.columns))
