"""Parquet files of predictions that moved out of the database: written whole, read only when unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import StoreError
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.s3 import filesystem, put_file
from tasks.store.schema import dump_json

SUMS = "sums"
"""State of a note that names no predictions, but the counts that were kept of some."""
_JSON = ("prediction", "score", "inputs")
_MOMENT = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    {
        **{"prediction_id": pa.string(), "version": pa.int64(), "row_key": pa.string()},
        **{"event_time": _MOMENT, "served_at": _MOMENT},
        **dict.fromkeys(_JSON, pa.string()),
        **{"latency_ms": pa.float64(), "request_id": pa.string(), "route": pa.string(), "status": pa.int64()},
        "partner": pa.int64(),  # not in files of earlier releases
    }
)


@dataclass(frozen=True)
class Partition:
    """One file of moved-out predictions; `path` is below the artifact root."""

    id: int
    window: Window
    part: int
    path: str
    sha256: str
    rows: int
    state: str
    at: datetime


def check(part: Partition, settings: Settings, *, model: str) -> None:
    """Return nothing when the file is the one that was written, with as many rows.

    Raises:
        StoreError: when it is gone, another, or shorter.
    """
    with _opened(part, settings, model=model) as file:
        if file.metadata.num_rows != part.rows:
            raise _not_it(part, model, f"{file.metadata.num_rows} rows")


def content(part: Partition, settings: Settings, *, model: str) -> bytes:
    """Return the bytes of the file.

    Raises:
        StoreError: when it is gone, or not the one that was written.
    """
    target = f"{settings.artifact_root}/{part.path}"
    with _io(model, part.window):
        if target.startswith("s3://"):
            files, path = filesystem(target, settings)
            with files.open_input_stream(path) as stream:
                data = stream.read()
        else:
            data = Path(target).read_bytes()
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise _not_it(part, model, "another digest")
    return data


def partition_of(row: Mapping[Any, Any]) -> Partition:  # Any: column values
    """Return the row of the store as a partition."""
    return Partition(
        row["id"],
        Window(row["window_start"], row["window_end"]),
        *(row[name] for name in ("part", "path", "sha256", "rows", "state", "at")),
    )


def ids_in(part: Partition, settings: Settings, *, model: str) -> list[str]:
    """Return the prediction ids of the file."""
    with _opened(part, settings, model=model) as file:
        found: list[str] = file.read(columns=["prediction_id"]).column(0).to_pylist()
    return found


def read_part(
    part: Partition, window: Window, names: Iterable[str], *, model: str, settings: Settings
) -> pd.DataFrame:
    """Return these columns of the file's rows of the window, with values as the store gives them."""
    with _opened(part, settings, model=model) as file:
        table = file.read(columns=list(names))
    whole: pd.DataFrame = table.to_pandas()
    moments = whole["event_time"]
    frame: pd.DataFrame = whole[(moments >= window.start) & (moments < window.end)].astype(object)
    for name in (one for one in _JSON if one in frame):
        frame[name] = [None if text is None else json.loads(text) for text in frame[name]]
    return frame


def encoded(row: Mapping[Any, Any]) -> dict[str, Any]:  # Any: column values
    """Return a row as the file holds it: what is JSON in the store is its text."""
    return {
        name: dump_json(row[name]) if name in _JSON and row[name] is not None else row[name]
        for name in SCHEMA.names
    }


def keep(draft: Path, part: Partition, settings: Settings, *, model: str) -> None:
    """Put the file where the part says, whole or not at all; what stands there is replaced."""
    target = f"{settings.artifact_root}/{part.path}"
    if target.startswith("s3://"):
        put_file(draft, target, settings)
        return
    with _io(model, part.window):
        _copy(draft, Path(target))


def _copy(draft: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(draft, part)
        with part.open("rb") as handle:
            os.fsync(handle.fileno())  # its rows are about to be nowhere else
        part.replace(place)
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        part.unlink(missing_ok=True)


def remove(part: Partition, settings: Settings, *, model: str) -> None:
    """Remove the file; nothing when there is none."""
    target = f"{settings.artifact_root}/{part.path}"
    with _io(model, part.window):
        if target.startswith("s3://"):
            files, path = filesystem(target, settings)
            if files.get_file_info(path).is_file:
                files.delete_file(path)
        else:
            Path(target).unlink(missing_ok=True)


@contextmanager
def _opened(part: Partition, settings: Settings, *, model: str) -> Iterator[pq.ParquetFile]:
    data = content(part, settings, model=model)
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        yield file


@contextmanager
def _io(model: str, window: Window) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise StoreError(
            f"a file of the prediction log that cannot be used ({type(err).__name__})",
            "the artifact root, readable and writable",
            "check EVERGREEN_ARTIFACTS, the disk and the credentials",
            model=model,
            window=str(window),
        ) from err


def _not_it(part: Partition, model: str, found: str) -> StoreError:
    return StoreError(
        f"{Path(part.path).name} with {found}",
        f"{part.rows} rows and digest {part.sha256[:12]}…",
        "restore the artifact root",
        model=model,
        window=str(part.window),
    )
