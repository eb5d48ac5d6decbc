"""The inputs that were served, as a window of rows that a drift check can look at instead of the source's.

Sensitive values are in the log as keyed hashes. Categories are counted by their hashes, as in the
reference; numbers cannot be binned and are left out. `served_reference` gives the reference in these terms.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.drift.counting.bins import Bins
from tasks.core.drift.profile import Reference
from tasks.core.errors import DriftError
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.partitions import read_log


@task(name="fetch served rows", retries=2, retry_delay_seconds=5, timeout_seconds=3600, cache_policy=NO_CACHE)
def fetch_served(
    spec: ModelSpec, window: Window, as_of: datetime, *, settings: Settings | None = None
) -> Dataset:
    """Return the inputs of the window's predictions as they were known at `as_of`, one row per event.

    Columns: key, timestamp and features, sensitive categories as their hashes. Sensitive numbers are not
    among them, and `missing` names them. Whatever answered counts: the champion, a canary, a batch that kept
    its inputs. An event that was asked about again is one row, the newest.

    Raises:
        StoreError: when files of older predictions cannot be read.
    """
    place, began = settings or Settings(), time.monotonic()
    log = read_log(open_store(place), spec.name, window, settings=place, with_inputs=True)
    log = log[log["inputs"].notna() & (log["served_at"] <= utc(as_of))]
    log = log.sort_values(["served_at", "prediction_id"], kind="stable")
    log = log.drop_duplicates(["row_key", "event_time"], keep="last").sort_values(["event_time", "row_key"])
    hidden = [name for name in spec.features.numeric if name in spec.features.sensitive]
    table = _table(spec, log, leave_out=hidden)
    path = (
        place.work_dir(spec.name) / f"served-{window.start:%Y%m%dT%H%M%S}-{window.end:%Y%m%dT%H%M%S}.parquet"
    )
    pq.write_table(table, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    task_logger(__name__).info(
        "%s: %d served rows of %s in %.1f s%s",
        *(spec.name, len(log), window, time.monotonic() - began),
        f"; not compared, for they are sensitive numbers: {', '.join(hidden[:5])}" if hidden else "",
    )
    return Dataset(str(path), len(log), digest, window, tuple(table.column_names), tuple(hidden))


@task(name="served reference", retries=0, timeout_seconds=300, cache_policy=NO_CACHE)
def served_reference(spec: ModelSpec, reference_path: str, *, settings: Settings | None = None) -> str:
    """Return the path of a reference that served rows can be compared with.

    It is the champion's own where no feature is sensitive. Otherwise hashes count as the categories they are.
    With a sensitive number, only the cells of the other features are left, without history and whole rows.

    Raises:
        DriftError: when the reference cannot be read.
    """
    if not spec.features.sensitive:
        return reference_path
    try:
        text = Path(reference_path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise DriftError(
            f"no readable reference ({type(err).__name__})", "the champion's", "retrain", model=spec.name
        ) from err
    made = _in_hashes(Reference.from_json(text))
    path = (settings or Settings()).work_dir(spec.name) / f"served-reference-{made.id[:16]}.json"
    path.write_text(made.to_json(), encoding="utf-8")
    return str(path)


def _in_hashes(reference: Reference) -> Reference:
    hidden = {cell.name for cell in reference.bins if cell.masked and cell.kind == "numeric"}
    bins = tuple(_plain(cell) for cell in reference.bins if cell.name not in hidden)
    made = replace(reference, bins=bins, key_check=None)
    counts = {name: one for name, one in reference.profile.features.items() if name not in hidden}
    made = replace(made, profile=replace(reference.profile, reference_id=made.id, features=counts))
    if hidden:  # these are tables with a column per feature
        return replace(made, history=None, calibration=None, insight=None, sample=None)
    history = made.history and replace(made.history, reference_id=made.id)
    return replace(made, history=history)


def _plain(cell: Bins) -> Bins:
    return replace(cell, masked=False) if cell.kind == "categorical" else cell


def _table(spec: ModelSpec, log: pd.DataFrame, *, leave_out: list[str]) -> pa.Table:
    inputs = log["inputs"].tolist()
    columns: dict[str, pa.Array] = {
        spec.source.key: pa.array(log["row_key"].tolist(), pa.string()),
        spec.source.timestamp: pa.array(log["event_time"].tolist(), pa.timestamp("us", "UTC")),
    }
    for name in spec.features.all:
        given = [row.get(name) for row in inputs]
        if name in spec.features.numeric and name not in leave_out:
            columns[name] = pa.array([None if one is None else float(one) for one in given], pa.float64())
        elif name not in leave_out:
            columns[name] = _labels(given)
    return pa.table(columns)


def _labels(given: list[Any]) -> pa.Array:  # Any: categories are text, whole numbers or booleans
    kinds = {type(one) for one in given if one is not None}
    if len(kinds) <= 1 and kinds <= {int, bool, float, str}:
        return pa.array(given, from_pandas=False) if kinds else pa.array(given, pa.string())
    return pa.array([None if one is None else str(one) for one in given], pa.string())
