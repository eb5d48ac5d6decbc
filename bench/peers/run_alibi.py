"""alibi-detect's TabularDrift at its defaults: p_val 0.05, Bonferroni, KS and chi-square on all rows.

It takes one array of numbers, so texts become codes, as its documentation says. NaN in a column of numbers
makes that column's p-value NaN, which it counts as no drift; `nan: median` fills them as its project's
examples do, `nan: keep` shows what happens otherwise.
"""

from __future__ import annotations

import importlib
import math
import sys
from typing import Any

import numpy as np
import pandas as pd

from bench.peers.protocol import Check, Columns, Finding, serve, strongest

P_VALUE = 0.05


def load() -> dict[str, str]:
    alibi = importlib.import_module("alibi_detect")
    importlib.import_module("alibi_detect.cd")
    return {"alibi-detect": alibi.__version__, "scipy": importlib.import_module("scipy").__version__}


def prepare(reference: pd.DataFrame, columns: Columns, job: dict[str, Any]) -> Check:
    detector_of = importlib.import_module("alibi_detect.cd").TabularDrift
    fills = {name: float(reference[name].median()) for name in columns.numeric}
    levels = {name: pd.Index(reference[name].dropna().unique()) for name in columns.categorical}

    def coded(frame: pd.DataFrame) -> np.ndarray:
        parts = []
        for name in columns.numeric:
            values = frame[name].to_numpy(dtype=np.float32, na_value=np.nan)
            fill = fills[name] if job.get("nan", "median") == "median" else np.nan
            parts.append(np.where(np.isnan(values), np.float32(fill), values))
        for name in columns.categorical:
            codes = levels[name].get_indexer(frame[name])  # -1: not in the reference, or missing
            codes[frame[name].isna().to_numpy()] = len(levels[name])
            parts.append(codes.astype(np.float32))
        return np.column_stack(parts)

    places = range(len(columns.numeric), len(columns.all))
    detector = detector_of(
        coded(reference), p_val=P_VALUE, categories_per_feature=dict.fromkeys(places) or None
    )
    names = columns.all

    def check(frame: pd.DataFrame) -> Finding:
        said = detector.predict(coded(frame))["data"]
        p_values = np.asarray(said["p_val"], dtype=np.float64)
        limit = float(said["threshold"])
        with np.errstate(invalid="ignore"):
            drifted = tuple(name for name, p in zip(names, p_values, strict=True) if p < limit)
        strengths = [math.log(max(p, 1e-300)) / math.log(limit) for p in p_values]
        values = {name: float(d) for name, d in zip(names, said["distance"], strict=True)}
        blind = [name for name, p in zip(names, p_values, strict=True) if math.isnan(p)]
        extra = {"not_told": blind} if blind else {}
        return Finding(drifted, bool(said["is_drift"]), strongest(strengths), values, extra)

    return check


if __name__ == "__main__":
    sys.exit(serve("alibi", load, prepare))
