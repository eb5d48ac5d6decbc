"""Increments: rows read once from a source, kept as immutable Parquet below the state folder.

An increment counts only when the watermark lists it. One that a crash left behind is listed nowhere, is
read by nobody and goes at the next commit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.spec import ModelSpec
from tasks.settings import Settings

_FLUSH_ROWS = 100_000


@dataclass(frozen=True)
class Increment:
    """What one increment covers.

    Its rows are all the source had with `column` in `[low, high)` (no low: everything before) and stand for
    that stretch in place of what older increments hold of it. `since` is the start of the training window it
    was read for. `checksum` is the source's own digest of the rows dated in `[since, settled)`.
    """

    fingerprint: str
    column: str
    low: datetime | None
    high: datetime
    since: datetime
    as_of: datetime
    settled: datetime | None = None
    checksum: str | None = None


def fingerprint(spec: ModelSpec) -> str:
    """Return a digest of everything that decides what a fetch of this spec brings."""
    identity = {"source": spec.source.model_dump(exclude={"overlap"}), "columns": sorted(spec.columns)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def folder_of(spec: ModelSpec, settings: Settings) -> Path:
    """Return the folder of this model's increments, existing."""
    folder = settings.root / "rows" / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(folder: Path, increment: Increment, batches: Iterable[pa.RecordBatch]) -> str:
    """Return the name of the new increment that holds these rows; it appears whole or not at all."""
    name = f"{increment.as_of:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
    staging = folder / f".{name}"
    staging.mkdir()
    _write_parts(staging, batches)
    text = json.dumps(asdict(increment), default=datetime.isoformat, indent=1)
    (staging / "increment.json").write_text(text, encoding="utf-8")
    staging.rename(folder / name)
    return name


def _write_parts(staging: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write one file per schema met: a column may be missing, or of another type, in part of a source."""
    writers: dict[str, pq.ParquetWriter] = {}
    waiting: dict[str, list[pa.RecordBatch]] = {}
    try:
        for batch in batches:
            if not batch.num_rows:
                continue
            key = hashlib.sha256(batch.schema.serialize()).hexdigest()
            if key not in writers:
                path = staging / f"part-{len(writers):04d}.parquet"
                writers[key] = pq.ParquetWriter(path, batch.schema, store_schema=True)
                waiting[key] = []
            waiting[key].append(batch)
            if sum(each.num_rows for each in waiting[key]) >= _FLUSH_ROWS:
                _flush(writers[key], waiting[key])
        for key, writer in writers.items():
            _flush(writer, waiting[key])
    finally:
        for writer in writers.values():
            writer.close()


def _flush(writer: pq.ParquetWriter, waiting: list[pa.RecordBatch]) -> None:
    if waiting:
        writer.write_table(pa.Table.from_batches(waiting))
        waiting.clear()


def known(folder: Path, names: Sequence[str], wanted: str) -> list[Increment] | None:
    """Return what these increments cover, oldest first; None when one is gone or of another spec."""
    found = []
    for name in names:
        path = folder / name / "increment.json"
        if not path.is_file():
            return None
        raw = json.loads(path.read_text(encoding="utf-8"))
        for field in ("low", "high", "since", "as_of", "settled"):
            raw[field] = datetime.fromisoformat(raw[field]) if raw[field] else None
        increment = Increment(**raw)
        if increment.fingerprint != wanted:
            return None
        found.append(increment)
    return found or None


def read(folder: Path, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one increment, with the schema metadata they were written with."""
    for path in sorted((folder / name).glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_FLUSH_ROWS, columns=columns)


def sweep(folder: Path, keep: Sequence[str]) -> int:
    """Return how many increments were removed: all that are not listed.

    Called by a commit, when the model's one running retraining has read what it needs.
    """
    listed = set(keep)
    gone = [path for path in folder.iterdir() if path.is_dir() and path.name not in listed]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return len(gone)
