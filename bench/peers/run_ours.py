"""Our own check of a Parquet file: profile its rows in the reference's cells, and judge the counts.

The time holds the reading of the file. The reference is made before, as it is when a version is trained.
With `whole_rows` the classifier over a sample of whole rows takes part, as in the flow; no peer has its like
in what is measured here.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from bench.peers.protocol import Check, Columns, Finding, serve


def load() -> dict[str, str]:
    importlib.import_module("bench.peers.ours")
    return {name: importlib.metadata.version(name) for name in ("evergreen", "numpy", "pyarrow")}


_MADE: dict[str, Any] = {}  # the one reference of this process, by its file


def prepare(reference: pd.DataFrame, columns: Columns, job: dict[str, Any]) -> Check:
    ours = importlib.import_module("bench.peers.ours")
    spec = ours.spec_of(columns, job.get("false_alarms", 0.01))
    if job["reference"] not in _MADE:
        _MADE[job["reference"]] = ours.build(reference, spec)
    made = _MADE[job["reference"]]

    def check(path: Path) -> Finding:
        verdict = ours.check_file(path, made, spec, rows=bool(job.get("whole_rows")))
        distances = {
            one.feature: one.value
            for feature in verdict.features
            for one in feature.measures
            if one.measure == "ks" and one.value is not None
        }
        return Finding(
            verdict.drifted, verdict.outcome == "drift", None, distances, {"outcome": verdict.outcome}
        )

    return check


if __name__ == "__main__":
    sys.exit(serve("ours", load, prepare, reads_files=True))
