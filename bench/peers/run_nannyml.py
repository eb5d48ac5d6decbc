"""NannyML's UnivariateDriftCalculator at its defaults: Jensen-Shannon, limits of mean + 3 sd over chunks.

A window is one chunk, and the reference is cut into chunks of as many rows, from which the limits are
learnt. A window as long as the reference leaves one chunk, whose spread is nothing: both are then cut into
ten chunks (the default), and a feature drifts when most of them alert.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pandas as pd

from bench.peers.protocol import Check, Columns, Finding, serve, strongest

METHOD = "jensen_shannon"


def load() -> dict[str, str]:
    nannyml = importlib.import_module("nannyml")
    return {"nannyml": nannyml.__version__, "scipy": importlib.import_module("scipy").__version__}


def prepare(reference: pd.DataFrame, columns: Columns, job: dict[str, Any]) -> Check:
    rows = int(job["rows"])
    chunks = {"chunk_size": rows} if rows * 2 <= len(reference) else {"chunk_number": 10}
    calculator = importlib.import_module("nannyml").UnivariateDriftCalculator(
        column_names=columns.all, treat_as_categorical=list(columns.categorical), **chunks
    )
    calculator.fit(reference)

    def check(frame: pd.DataFrame) -> Finding:
        table = calculator.calculate(frame).filter(period="analysis").to_df()
        drifted, values, strengths = [], {}, []
        for name in columns.all:
            said = table[(name, METHOD)]
            value = said["value"].to_numpy(dtype=np.float64)
            limit = said["upper_threshold"].to_numpy(dtype=np.float64)
            values[name] = float(np.median(value))
            strengths.append(float(np.median(value / limit)))
            if said["alert"].to_numpy(dtype=bool).mean() > 0.5:
                drifted.append(name)
        return Finding(tuple(drifted), bool(drifted), strongest(strengths), values)

    return check


if __name__ == "__main__":
    sys.exit(serve("nannyml", load, prepare))
