"""Evidently's data-drift preset at its defaults.

The preset picks a test per column by its kind and the reference's rows (above 1,000: distances with a limit
of 0.1, else p-values with 0.05) and calls it dataset drift when half of the columns drifted. `alarm` here
is any drifted column; `dataset_drift` is the preset's own word.

Nine tenths of its time goes into drawing. For alarms by the hundred a job may ask for `numbers`: the very
tests that the preset picks, called without it. Unless `compare` is false, the first window of such a job is
checked in both ways, and a difference ends the run.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.peers.protocol import Check, Columns, Finding, serve, strongest

DATASET_SHARE = 0.5
Said = tuple[str, str, float, float]  # column, method, value, limit


def load() -> dict[str, str]:
    evidently = importlib.import_module("evidently")
    importlib.import_module("evidently.presets")
    return {"evidently": evidently.__version__, "scipy": importlib.import_module("scipy").__version__}


def prepare(reference: pd.DataFrame, columns: Columns, job: dict[str, Any]) -> Check:
    whole = _preset(reference, columns)
    if not job.get("numbers"):
        return whole
    quick, compared = _numbers(reference, columns), not job.get("compare", True)

    def check(frame: pd.DataFrame) -> Finding:
        nonlocal compared
        found = quick(frame)
        if not compared:
            _same(whole(frame), found)
            compared = True
        return found

    return check


def _preset(reference: pd.DataFrame, columns: Columns) -> Check:
    evidently = importlib.import_module("evidently")
    preset = importlib.import_module("evidently.presets").DataDriftPreset
    shape = evidently.DataDefinition(
        numerical_columns=list(columns.numeric), categorical_columns=list(columns.categorical)
    )
    before = evidently.Dataset.from_pandas(reference, data_definition=shape)

    def check(frame: pd.DataFrame) -> Finding:
        now = evidently.Dataset.from_pandas(frame, data_definition=shape)
        metrics = evidently.Report([preset()]).run(now, before).dict()["metrics"]
        counted = next(m for m in metrics if m["config"]["type"].endswith("DriftedColumnsCount"))
        of_columns = [(m["config"], m["value"]) for m in metrics if "column" in m["config"]]
        found = _sum_up((c["column"], c["method"], float(v), c["threshold"]) for c, v in of_columns)
        if counted["config"]["drift_share"] != DATASET_SHARE or counted["value"]["count"] != len(
            found.drifted
        ):
            raise RuntimeError(f"the preset counts {counted}, its columns say {found.drifted}")
        return found

    return check


def _numbers(reference: pd.DataFrame, columns: Columns) -> Check:
    pick = importlib.import_module("evidently.legacy.calculations.stattests").get_stattest
    before = {name: _clean(reference[name]) for name in columns.all}
    kinds = {name: "num" if name in columns.numeric else "cat" for name in columns.all}
    kind_of = importlib.import_module("evidently.legacy.core").ColumnType

    def one(name: str, now: pd.Series) -> Said:
        kind = kind_of(kinds[name])
        test = pick(before[name], now, kind, None)
        said = test(before[name], now, kind, None)
        return name, test.display_name, float(said.drift_score), float(said.actual_threshold)

    return lambda frame: _sum_up(one(name, _clean(frame[name])) for name in columns.all)


def _clean(column: pd.Series) -> pd.Series:
    return column.replace([-math.inf, math.inf], math.nan).dropna()


def _sum_up(said: Iterable[Said]) -> Finding:
    strengths, values, methods = {}, {}, set()
    for name, method, value, limit in said:
        methods.add(method)
        values[name] = value
        strengths[name] = _strength(value, limit, tests="p_value" in method)
    drifted = tuple(name for name, strength in strengths.items() if strength >= 1)
    share = len(drifted) / len(strengths)
    extra = {"dataset_drift": share >= DATASET_SHARE, "share": share, "methods": sorted(methods)}
    return Finding(drifted, bool(drifted), strongest(list(strengths.values())), values, extra)


def _strength(value: float, limit: float, *, tests: bool) -> float:
    """Return how far past its limit a distance or p-value is: 1 at the limit, more beyond it."""
    if tests:
        return math.log(max(value, 1e-300)) / math.log(limit)
    return value / limit


def _same(whole: Finding, quick: Finding) -> None:
    far = [n for n, value in whole.values.items() if not math.isclose(value, quick.values[n], rel_tol=1e-9)]
    if far or whole.drifted != quick.drifted:
        raise RuntimeError(f"the preset and its tests differ in {far[:5]}")


if __name__ == "__main__":
    sys.exit(serve("evidently", load, prepare))
