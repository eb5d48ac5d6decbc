"""What a runner is asked and what it answers: a job file in, JSON lines out, the same for every peer.

Runs in the environments of the peers, so it needs nothing but numpy, pandas and pyarrow.

A job file holds {"numeric": [...], "categorical": [...], "jobs": [...]}. Each job names a `reference`
(Parquet), a file of `windows` (one row group per window, of which the first `limit` are checked; with `whole`
the file is one window), the `rows` of a window, how often to `repeat` each check and after how many seconds
of it that is `enough`. The answer is one line on the peer, then per job one line on its reference and one
line per window.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Finding:
    """What a peer says about one window.

    Attributes:
        drifted: Features it names.
        alarm: Whether it alarms at its defaults.
        score: The one number behind the alarm, higher means drift and 1 is the peer's own limit; None when
            the peer gave none (every statistic was NaN).
        values: By feature, the statistic or p-value it went by.
        extra: Anything else worth a word.
    """

    drifted: tuple[str, ...]
    alarm: bool
    score: float | None
    values: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)  # Any: JSON values


@dataclass(frozen=True)
class Columns:
    """Names of the columns to check."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        return [*self.numeric, *self.categorical]


Check = Callable[[Any], Finding]  # Any: a frame of rows, or the path of a file by one who reads it himself
Prepare = Callable[[pd.DataFrame, Columns, dict[str, Any]], Check]


def serve(
    peer: str, load: Callable[[], dict[str, str]], prepare: Prepare, *, reads_files: bool = False
) -> int:
    """Answer the job file given on the command line.

    Args:
        peer: Name in the figures.
        load: Imports the peer and returns the versions that matter; its time is the import's.
        prepare: From reference rows, columns and the job makes the check of a window.
        reads_files: The check takes a path, and its time holds the reading.
    """
    parser = argparse.ArgumentParser(description=f"Check Parquet windows with {peer}; see protocol.py.")
    parser.add_argument("--job", type=Path, required=True, help="job file (JSON)")
    given = parser.parse_args()
    asked = json.loads(given.job.read_text())
    columns = Columns(tuple(asked["numeric"]), tuple(asked["categorical"]))
    start = time.perf_counter()
    versions = load()
    answer(peer=peer, import_seconds=time.perf_counter() - start, versions=versions)
    for job in asked["jobs"]:
        windows = [Path(job["windows"])] if reads_files else _windows(job, columns)
        _do(job, columns, prepare, windows)
    return 0


def answer(**facts: Any) -> None:
    """Write one line, with the most memory the process has held so far."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024 if sys.platform != "darwin" else 1024**2
    )
    print(json.dumps({**facts, "peak_mb": round(used)}), flush=True)


def _do(job: dict[str, Any], columns: Columns, prepare: Prepare, windows: Iterable[Any]) -> None:
    start = time.perf_counter()
    reference = pq.read_table(job["reference"], columns=columns.all).to_pandas()
    read = time.perf_counter() - start
    start = time.perf_counter()
    check = prepare(reference, columns, job)
    ready = time.perf_counter() - start
    answer(job=job["name"], reference_rows=len(reference), read_seconds=read, ready_seconds=ready)
    start = time.perf_counter()
    for place, window in enumerate(windows):
        read = time.perf_counter() - start
        seconds = []
        for _ in range(job.get("repeat", 1)):
            start = time.perf_counter()
            found = check(window)
            seconds.append(time.perf_counter() - start)
            if sum(seconds) > job.get("enough", math.inf):
                break
        answer(
            job=job["name"],
            window=place,
            seconds=seconds,
            read_seconds=read,
            drifted=list(found.drifted),
            alarm=bool(found.alarm),
            score=found.score,
            **({"values": found.values} if job.get("details") else {}),
            **found.extra,
        )
        start = time.perf_counter()


def _windows(job: dict[str, Any], columns: Columns) -> Iterator[pd.DataFrame]:
    if job.get("whole"):
        yield pq.read_table(job["windows"], columns=columns.all).to_pandas()
        return
    file = pq.ParquetFile(job["windows"])
    for group in range(min(file.num_row_groups, job.get("limit", file.num_row_groups))):
        yield file.read_row_group(group, columns=columns.all).to_pandas()


def strongest(strengths: Sequence[float]) -> float | None:
    """Return the largest number that is one; None when there is none."""
    real = [value for value in strengths if value == value]  # noqa: PLR0124 - NaN is not itself
    return max(real, default=None)
