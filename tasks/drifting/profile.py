"""Profiles of rows on disk, on S3 or from a cursor, in memory that does not grow with their number.

A profile is a sum, so the work is cut anywhere: into columns on the threads of one process, and into parts of
a file that `profile_part.map` spreads over the flow's task runner and `reduce_profiles` adds up.
"""

from __future__ import annotations

import functools
import operator
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.drift.counting.arrow import count_array, profile_batch, profile_of_counts
from tasks.core.drift.counting.bins import Bins, Counts, count_absent
from tasks.core.drift.profile import SCORE, Profile, Reference, Scores
from tasks.core.errors import DriftError
from tasks.log import task_logger
from tasks.settings import Settings, granted_cores
from tasks.store.s3 import filesystem

if TYPE_CHECKING:
    import pandas as pd

    Score = Callable[[pd.DataFrame], Scores | None]

BATCH_ROWS = 2**20  # of one column: eight megabytes
_SCORED_ROWS = 200_000  # frames for a model, whose cost per call is what matters
_MAPPED = 2**28  # bytes of a file: more would count as memory of this process
_BUFFER = 2**20  # bytes read at a time
THREADS = min(2, granted_cores())  # our choice: with two, counting keeps pace with reading
_PREFECT: dict[str, Any] = {"retries": 0, "timeout_seconds": 3600, "cache_policy": NO_CACHE}


@dataclass(frozen=True)
class Part:
    """Some row groups of one Parquet file."""

    path: str
    groups: tuple[int, ...]
    rows: int


@task(name="profile part", **_PREFECT)
def profile_part(
    part: Part,
    reference_path: str,
    *,
    score: Score | None = None,
    columns: Sequence[str] | None = None,
    threads: int = THREADS,
    settings: Settings | None = None,
) -> Profile:
    """Return the profile of this part's rows against the reference in this file.

    Map it over `partitions` on the flow's task runner; `reduce_profiles` adds the results up.

    Raises:
        DriftError: when the reference or the rows cannot be read.
    """
    from threadpoolctl import threadpool_limits

    began = time.perf_counter()
    reference = read_reference(reference_path)
    key = (settings or Settings()).masking_key() if reference.key_check else None
    with threadpool_limits(1):  # parts are what runs side by side
        profile = profile_rows(
            part, reference, score=score, key=key, threads=threads, columns=columns, settings=settings
        )
    task_logger(__name__).info(
        "profiled %d rows of %s (%d row groups) in %.1f s",
        profile.rows,
        Path(part.path).name,
        len(part.groups),
        time.perf_counter() - began,
    )
    return profile


def profile_parquet(
    paths: str | Sequence[str],
    reference: Reference,
    *,
    score: Score | None = None,
    key: bytes | None = None,
    threads: int = THREADS,
    columns: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> Profile:
    """Return the profile of all rows of these Parquet files, local or `s3://`.

    Args:
        paths: One file or several; a column that one of them lacks is absent.
        reference: Whose cells are counted.
        score: Gives a model's scores of a frame of rows, or None where it cannot score them.
        key: Secret under which sensitive categories are hashed.
        threads: How many count at a time; a model is asked by one only.
        columns: Those the frames for `score` have; default: the reference's features.
        settings: Of this place, for S3.

    Raises:
        DriftError: when a file cannot be read, or key or scores do not fit the reference.
    """
    files = [paths] if isinstance(paths, str) else paths
    parts = [part for path in files for part in partitions(path, rows_per_part=None, settings=settings)]
    profiles = [
        profile_rows(
            part, reference, score=score, key=key, threads=threads, columns=columns, settings=settings
        )
        for part in parts
    ]
    return reduce_profiles([profile_of_counts({}, reference, rows=0, key=key), *profiles])


def profile_rows(
    part: Part,
    reference: Reference,
    *,
    score: Score | None = None,
    key: bytes | None = None,
    threads: int = THREADS,
    columns: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> Profile:
    """Return the profile of this part's rows; as `profile_parquet`, outside of a task."""
    if score is None and not part.path.startswith("s3://"):
        return _by_column(part, reference, key, threads)
    batches = _batches(part, reference, score, columns, settings)
    return profile_cursor(batches, reference, score=score, key=key, threads=threads)


def profile_cursor(
    batches: Iterable[pa.RecordBatch],
    reference: Reference,
    *,
    score: Score | None = None,
    key: bytes | None = None,
    threads: int = THREADS,
) -> Profile:
    """Return the profile of all rows of these batches, as a database's cursor yields them.

    At most one batch more than `threads` is held. No batches give the profile of no rows.

    Raises:
        DriftError: when key or scores do not fit the reference.
    """
    total = profile_of_counts({}, reference, rows=0, key=key)
    held: deque[Future[Profile]] = deque()
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for batch in batches:
            scores = score(batch.to_pandas()) if score is not None else None
            held.append(pool.submit(profile_batch, batch, reference, scores=scores, key=key))
            if len(held) > threads:
                total += held.popleft().result()
        for future in held:
            total += future.result()
    return total


def partitions(
    path: str, *, rows_per_part: int | None = 5_000_000, settings: Settings | None = None
) -> list[Part]:
    """Return the file's row groups in stretches of about so many rows; None: all in one part.

    There is always at least one part; of a file without rows it is empty.

    Raises:
        DriftError: when the file cannot be read.
    """
    with _opened(path, settings) as file:
        sizes = [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)]
    parts: list[Part] = []
    groups: list[int] = []
    rows = 0
    for group, size in enumerate(sizes):
        if groups and rows_per_part is not None and rows + size > rows_per_part:
            parts.append(Part(path, tuple(groups), rows))
            groups, rows = [], 0
        groups.append(group)
        rows += size
    return [*parts, Part(path, tuple(groups), rows)]


def reduce_profiles(profiles: Iterable[Profile]) -> Profile:
    """Return the profile of all rows that these are profiles of, in any order.

    Raises:
        DriftError: when they do not add up, or there is none.
    """
    found = list(profiles)
    if not found:
        raise DriftError("no profile to add up", "at least one part", "see tasks.drifting.profile.partitions")
    return functools.reduce(operator.add, found)


def read_reference(path: str) -> Reference:
    """Return the reference in this file.

    Raises:
        DriftError: when there is none, or it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise DriftError(
            f"no readable {Path(path).name} ({type(err).__name__})",
            "the reference stored with the champion",
            "restore it from the registry, or retrain",
        ) from err
    return Reference.from_json(text)


def _by_column(part: Part, reference: Reference, key: bytes | None, threads: int) -> Profile:
    """Count column by column, each read on its own: of all rows only some of one column are in memory."""
    with _opened(part.path, None) as file:
        metadata, names = file.metadata, set(file.schema_arrow.names)
    present = [bins for bins in reference.bins if bins.name in names and not bins.name.startswith(SCORE)]
    encoded, queue = [bins.name for bins in present], iter(present)

    def count_some() -> dict[str, Counts]:
        with _opened(part.path, None, metadata=metadata, encoded=encoded) as file:
            return {bins.name: _count_column(file, part, key, bins) for bins in queue}

    counts: dict[str, Counts] = {}
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for worker in [pool.submit(count_some) for _ in range(threads)]:
            counts |= worker.result()
    return profile_of_counts(counts, reference, rows=part.rows, key=key)


def _count_column(file: pq.ParquetFile, part: Part, key: bytes | None, bins: Bins) -> Counts:
    total = count_absent(bins, 0)
    batches = file.iter_batches(
        BATCH_ROWS, row_groups=list(part.groups), columns=[bins.name], use_threads=False
    )
    for batch in batches:
        total += count_array(bins, batch.column(0), key=key)
    return total


def _batches(
    part: Part,
    reference: Reference,
    score: Score | None,
    columns: Sequence[str] | None,
    settings: Settings | None,
) -> Iterator[pa.RecordBatch]:
    """Yield the part's rows row group by row group, so that no more than one is read ahead."""
    features = [bins.name for bins in reference.bins if not bins.name.startswith(SCORE)]
    wanted = dict.fromkeys([*features, *(columns or ())])
    encoded = () if score is not None else tuple(wanted)  # a model gets texts, as it was fitted on
    with _opened(part.path, settings, encoded=encoded) as file:
        names = [name for name in file.schema_arrow.names if name in wanted]
        for group in part.groups:
            yield from file.iter_batches(
                BATCH_ROWS if score is None else _SCORED_ROWS, row_groups=[group], columns=names
            )


@contextmanager
def _opened(
    path: str,
    settings: Settings | None,
    *,
    metadata: pq.FileMetaData | None = None,
    encoded: Sequence[str] = (),
) -> Iterator[pq.ParquetFile]:
    """Open the file for the block; text of the `encoded` columns comes as codes with a dictionary."""
    remote = path.startswith("s3://")
    try:
        files, inside = filesystem(path, settings) if remote else (None, path)
        with pq.ParquetFile(
            inside,
            filesystem=files,
            metadata=metadata,
            memory_map=not remote and Path(path).stat().st_size <= _MAPPED,
            buffer_size=0 if remote else _BUFFER,
            read_dictionary=list(encoded) or None,
            pre_buffer=remote,  # one request for many columns; a disk gives them one by one as fast
        ) as file:
            yield file
    except (OSError, pa.ArrowException) as err:
        raise DriftError(
            f"no readable Parquet file {Path(path).name} ({type(err).__name__})",
            "the rows of the window",
            "fetch it again",
        ) from err
