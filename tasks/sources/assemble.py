"""One row per key out of many versions, written as the Parquet file of a Dataset.

The rows are held once, as Arrow; keys and times besides, as numbers; the file is written slice by slice.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.data.rows import Resolution, pick
from tasks.core.dataset import Dataset
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.sources.gathering import Rows, Versions
from tasks.sources.shape import cast_all
from tasks.sources.times import UTC_TIMES

_SLICE_ROWS = 32_768
_NANOSECONDS = pa.timestamp("ns", "UTC")


@dataclass(frozen=True)
class Assembled:
    """A dataset on disk, and what it was chosen from: `kept` are its rows' positions in the table."""

    dataset: Dataset
    resolution: Resolution
    distinct_keys: int
    versions: Versions
    kept: npt.NDArray[np.int64]

    def filled(self, column: str) -> npt.NDArray[np.bool_]:
        """Return, for each row of the dataset, whether it has a value in `column`."""
        return _filled(self.versions.table, column)[self.kept]


def assemble(
    versions: Versions,
    spec: ModelSpec,
    window: Window,
    *,
    columns: Sequence[str],
    schema: Sequence[str],
    folder: Path,
    stem: str,
    drop_null: str | None = None,
) -> Assembled:
    """Return the window's rows, one per key, as Parquet in `folder` sorted by timestamp and key.

    `schema` names the source's columns and is used where no row says which it had. Rows without a value in
    `drop_null` are left out.
    """
    table = versions.table
    kept = np.empty(0, dtype=np.int64)
    resolution, distinct = Resolution(), 0
    if table.num_rows:
        inside = _inside(table.column(spec.source.timestamp), window)
        light = _light(table, spec)
        relevant, distinct = _relevant(light[spec.source.key].cat.codes.to_numpy(), inside)
        if len(relevant) < len(light):
            light = light.iloc[relevant]
        picked, resolution = pick(light, spec, lambda positions: _frame(table, relevant[positions]))
        kept = relevant[picked]
        del light, picked, relevant
        kept = kept[inside[kept]]
        if drop_null is not None:
            kept = kept[_filled(table, drop_null)[kept]]
    parts = np.unique(versions.part[kept])
    named = [name for part in parts for name in versions.part_names[part]] or schema
    there = [versions.part_columns[part] for part in parts] or [frozenset(schema)]
    path, digest = _write(table, kept, spec, columns=columns, folder=folder, stem=stem)
    dataset = Dataset(
        path=str(path),
        rows=len(kept),
        sha256=digest,
        window=window,
        columns=tuple(dict.fromkeys(named)),
        missing=tuple(name for name in columns if any(name not in names for names in there)),
        clashes=versions.clashes,
    )
    return Assembled(dataset, resolution, distinct, versions, kept)


def _relevant(
    codes: npt.NDArray[np.signedinteger[Any]], inside: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], int]:
    """Positions of every version of the keys that have one in the window, and how many keys these are."""
    wanted = np.zeros(int(codes.max()) + 2, dtype=bool)  # the last place is that of no key: code -1
    wanted[codes[inside]] = True
    wanted[-1] = False
    return np.flatnonzero(inside | wanted[codes]).astype(np.int64, copy=False), int(wanted.sum())


def _write(
    table: pa.Table,
    kept: npt.NDArray[np.int64],
    spec: ModelSpec,
    *,
    columns: Sequence[str],
    folder: Path,
    stem: str,
) -> tuple[Path, str]:
    """Write the chosen rows slice by slice; the file's name ends with its digest and it appears whole."""
    chosen = table.select([name for name in columns if name in table.column_names])
    schema = pa.schema(
        [(name, _final_type(name, spec, chosen)) for name in columns if name in chosen.column_names]
    )
    if not table.num_rows:
        schema = pa.schema([(name, _final_type(name, spec, None)) for name in columns])
    staging = folder / f".{stem}-{uuid.uuid4().hex[:12]}.parquet"
    rows = Rows(chosen)
    with pq.ParquetWriter(staging, schema) as writer:
        for start in range(0, len(kept), _SLICE_ROWS):
            part = rows.at(kept[start : start + _SLICE_ROWS])
            writer.write_table(cast_all(part, dict(zip(schema.names, schema.types, strict=True))))
    with staging.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    path = folder / f"{stem}-{digest[:12]}.parquet"
    staging.replace(path)
    return path, digest


def _final_type(name: str, spec: ModelSpec, table: pa.Table | None) -> pa.DataType:
    kind = table.schema.field(name).type if table is not None else pa.null()
    if name in (spec.source.timestamp, spec.source.updated):
        return _as_read(table.column(name)) if table is not None else _NANOSECONDS
    if pa.types.is_null(kind):
        return pa.float64() if name in spec.features.numeric else pa.string()
    return kind


def _as_read(times: pa.ChunkedArray) -> pa.DataType:
    """Nanoseconds, which pandas users expect, save where a date like 9999-12-31 does not fit them."""
    extremes = pc.min_max(times)
    years = [moment.as_py().year for moment in extremes.values() if moment.is_valid]
    return _NANOSECONDS if all(1678 <= year <= 2261 for year in years) else times.type


def _light(table: pa.Table, spec: ModelSpec) -> pd.DataFrame:
    """Key and times as numbers, so that no text is copied into Python objects."""
    source = spec.source
    codes = _codes(table.column(source.key))
    pa.default_memory_pool().release_unused()
    ranks = pd.RangeIndex(int(codes.max()) + 1)
    light = pd.DataFrame({source.key: pd.Categorical.from_codes(codes, ranks, ordered=True)}, copy=False)
    for name in (source.timestamp, source.updated):
        if name:
            light[name] = table.column(name).to_pandas().to_numpy(dtype="datetime64[us]")
    return light


def _codes(key: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """The rank of each key among the different keys, -1 for none; by sorting, which needs no hash table."""
    if pa.types.is_floating(key.type):
        key = pc.if_else(pc.is_nan(key), pa.scalar(None, key.type), key)
    elif not (pa.types.is_integer(key.type) or pa.types.is_timestamp(key.type)):
        key = key.cast(pa.string())
    order = pc.sort_indices(key)  # those without one at the end
    known = len(key) - key.null_count
    in_order = key.take(order.slice(0, known)).combine_chunks()
    first = np.ones(known, dtype=bool)
    if known:
        first[1:] = pc.not_equal(in_order.slice(1), in_order.slice(0, known - 1)).to_numpy(
            zero_copy_only=False
        )
    del in_order
    codes = np.full(len(key), -1, dtype=np.int32)
    codes[order.slice(0, known).to_numpy()] = np.cumsum(first, dtype=np.int32) - 1
    return codes


def _inside(values: pa.ChunkedArray, window: Window) -> npt.NDArray[np.bool_]:
    start, end = pa.scalar(window.start, UTC_TIMES), pa.scalar(window.end, UTC_TIMES)
    inside = pc.and_(pc.greater_equal(values, start), pc.less(values, end))
    return np.asarray(pc.fill_null(inside, False).to_numpy())


def _filled(table: pa.Table, column: str) -> npt.NDArray[np.bool_]:
    if column not in table.column_names:
        return np.zeros(table.num_rows, dtype=bool)
    return np.asarray(pc.invert(pc.is_null(table.column(column), nan_is_null=True)).to_numpy())


def _frame(table: pa.Table, positions: npt.NDArray[np.int64]) -> pd.DataFrame:
    frame: pd.DataFrame = Rows(table).at(positions).to_pandas()
    return frame
