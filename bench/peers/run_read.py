"""No check at all: reads the columns of the file with pyarrow, with as many threads as it likes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers.protocol import Check, Columns, Finding, serve


def load() -> dict[str, str]:
    return {"pyarrow": pa.__version__}


def prepare(reference: pd.DataFrame, columns: Columns, job: dict[str, Any]) -> Check:
    def check(path: Path) -> Finding:
        rows = pq.read_table(path, columns=columns.all).num_rows
        return Finding((), alarm=False, score=None, extra={"read_rows": rows, "threads": pa.cpu_count()})

    return check


if __name__ == "__main__":
    sys.exit(serve("pyarrow", load, prepare, reads_files=True))
