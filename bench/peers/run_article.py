"""The population stability index as articles compute it: reference quantile buckets, alarm above 0.25.

Written from the formula (Siddiqi, Credit Risk Scorecards, 2006) with the usual shortcuts, which are what is
measured: empty buckets count as 0.0001, values beyond the reference's range fall out, equal edges leave
empty buckets, nulls are dropped. It is a function of numbers, so texts are not looked at.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.peers.protocol import Check, Columns, Finding, serve, strongest

LIMIT = 0.25
FLOOR = 1e-4


def load() -> dict[str, str]:
    return {"numpy": np.__version__}


def prepare(reference: pd.DataFrame, columns: Columns, job: dict[str, Any]) -> Check:
    return prepare_with(reference, columns, int(job.get("buckets", 10)))


def prepare_with(reference: pd.DataFrame, columns: Columns, buckets: int) -> Check:
    """Return the check with this many buckets; the reference's shares are counted once."""
    places = np.linspace(0, 100, buckets + 1)
    edges = {name: np.percentile(_values(reference[name]), places) for name in columns.numeric}
    expected = {name: _shares(_values(reference[name]), edges[name]) for name in columns.numeric}

    def check(frame: pd.DataFrame) -> Finding:
        values = {}
        for name in columns.numeric:
            actual = _shares(_values(frame[name]), edges[name])
            values[name] = float(np.sum((actual - expected[name]) * np.log(actual / expected[name])))
        drifted = tuple(name for name, psi in values.items() if psi > LIMIT)
        score = strongest([psi / LIMIT for psi in values.values()])
        return Finding(drifted, bool(drifted), score, values)

    return check


def _values(column: pd.Series) -> NDArray[np.float64]:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return values[np.isfinite(values)]


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):  # no values: NaN, which is no alarm
        found = (
            np.histogram(values, edges)[0] / len(values) if len(values) else np.full(len(edges) - 1, np.nan)
        )
    return np.where(found == 0, FLOOR, found)


if __name__ == "__main__":
    sys.exit(serve("article-psi", load, prepare))
