"""Whether the loop serves the freshest model where the truth is known: seven streams, many seeds.

`score`: per stream, rows per window and policy the mean score in points (hundredths), its standard error
over seeds, what it left behind the best possible, and its retrainings. `above_calendars`: the loop against
the line through the fixed calendars at its own number of retrainings. `claim`: what the loop promises, with
the figure, the limit and whether it is met:

- no drift: at most .05 points below never retraining, at most 1.2 times the retrainings of the age limit;
- recurring: at least 2 points above every 4 windows;
- poison: of what every 4 windows loses by wrong labels, the loop loses at most half. The loss is the score
  without wrong labels less the score with them, in the windows whose own labels are right;
- planted: a challenger five points worse, planted without drift, answers alone in at most two windows.

Prints one JSON line per figure, and a table on standard error at the end.

    python -m bench.fresh [--rows 100 1000] [--seeds 20] [--streams none recurring poison] [--processes 2]
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.peers.figures import figure
from tasks.core.policy.staleness import StalenessRule
from tasks.core.replay.backtest import run_policies
from tasks.core.replay.backtest_loop import Loop
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.frontier import line_at
from tasks.core.replay.history import Fitted, History
from tasks.core.replay.regret import Estimate, advantage, over_seeds, regret
from tasks.core.replay.streams import START, STREAMS, TRAINING_WINDOWS, WEEK, StreamName, make_stream
from tasks.core.spec import ModelSpec, parse_spec

POLICIES = ("never", "every 4 windows", "every window", "loop")
POINTS = 100  # one point is a hundredth of accuracy
WORSE, PLANTED_WINDOW = 0.05, 20


@dataclass(frozen=True)
class SeedResult:
    """One stream of one seed under every policy, without the windows whose own labels are wrong.

    `clean` are the scores of the same policies had no label been wrong (poison only).
    """

    scores: dict[str, list[float | None]]
    clean: dict[str, list[float | None]]
    hindsight: list[float]
    retrainings: dict[str, int]
    above: float | None


@dataclass(frozen=True)
class Planted:
    """How long a planted worse challenger served: windows in all, and of those the ones it answered alone."""

    served: int
    alone: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, and print a line per figure."""
    given = _parser().parse_args(argv)
    claims: list[dict[str, Any]] = []
    sizes = product(given.rows, given.streams)
    with ProcessPoolExecutor(given.processes) as pool, Progress(console=Console(stderr=True)) as bar:
        steps = len(given.rows) * (len(given.streams) + (not given.no_planted))
        task = bar.add_task("streams", total=steps * given.seeds)
        advance = partial(bar.advance, task)
        for rows, name in sizes:
            work = partial(run_seed, name, rows, given.windows)
            results = []
            for result in pool.map(work, range(given.seeds)):
                results.append(result)
                advance()
            _report(name, rows, results)
            claims += _claims(name, rows, results, given.windows)
        for rows in () if given.no_planted else given.rows:
            plants = []
            for plant in pool.map(partial(plant_seed, rows, given.windows), range(given.seeds)):
                plants.append(plant)
                advance()
            claims += _planted_claim(rows, plants)
    _show(claims)
    return 0


def run(
    frame: pd.DataFrame,
    spec: ModelSpec,
    policies: Sequence[str],
    rule: StalenessRule | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Backtest:
    """Return the backtest; `rule` replaces the constants of the staleness rule."""
    return run_policies(frame, spec, policies=policies, rule=rule, progress=progress)


def above_calendars(result: Backtest) -> float | None:
    """Return how far the loop lies above the line of the calendars that were run; None beyond its ends."""
    loop = result.policy("loop")
    line = line_at(result.policies, loop.retrainings) if loop else None
    return None if loop is None or line is None or loop.mean_score is None else loop.mean_score - line


def run_seed(
    name: StreamName, rows: int, windows: int, seed: int, rule: StalenessRule | None = None
) -> SeedResult:
    """Return one stream of one seed under every policy; poison also as it would be without wrong labels."""
    stream = make_stream(name, rows=rows, windows=windows, seed=seed)
    spec = parse_spec(stream.spec)
    right = ~np.array(stream.truth.poisoned[TRAINING_WINDOWS:])
    result = _without(run(stream.frame, spec, POLICIES, rule), right)
    clean: dict[str, list[float | None]] = {}
    if name == "poison":
        clean = _scores(_without(run(stream.clean_frame(), spec, POLICIES, rule), right))
    hindsight = np.array(stream.truth.hindsight[TRAINING_WINDOWS:])[right].tolist()
    retrainings = {policy.name: policy.retrainings for policy in result.policies}
    return SeedResult(_scores(result), clean, hindsight, retrainings, above_calendars(result))


# A challenger planted in the loop.


class Worsened:
    """A fitted model that answers a share of rows, chosen by their first feature, the other way round."""

    def __init__(self, model: Any, share: float):  # Any: a fitted pipeline
        self.model, self.share, self.classes_ = model, share, model.classes_

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the probabilities, reversed in that share of the rows."""
        turned = (frame["x1"].abs().to_numpy() * 1e4) % 1 < self.share
        return np.where(turned[:, None], (given := self.model.predict_proba(frame))[:, ::-1], given)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the more probable class."""
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]


@contextmanager
def worse_challenger(share: float, first: datetime) -> Iterator[list[datetime]]:
    """Let the first retraining at or after `first` make worse models, and no other; yield when it was."""
    moments: list[datetime] = []
    active: list[bool] = []
    fit, train = History.fit, Loop._train

    def fit_worse(self: History, rows: pd.DataFrame, end: datetime) -> Fitted:
        fitted = fit(self, rows, end)
        return replace(fitted, model=Worsened(fitted.model, share)) if active else fitted

    def train_worse(self: Loop, as_of: datetime, cause: str) -> None:
        if as_of >= first and not moments:
            moments.append(as_of)
            active.append(True)
        train(self, as_of, cause)
        active.clear()

    with patch.object(History, "fit", fit_worse), patch.object(Loop, "_train", train_worse):
        yield moments


def plant_seed(rows: int, windows: int, seed: int) -> Planted | None:
    """Return how long a challenger five points worse served without drift; None without a retraining."""
    stream = make_stream("none", rows=rows, windows=windows, seed=seed)
    best = float(np.mean(stream.truth.bayes))
    first = START + min(PLANTED_WINDOW, windows - 4) * WEEK
    with worse_challenger(WORSE / (2 * best - 1), first) as moments:
        loop = run(stream.frame, parse_spec(stream.spec), ["loop"]).policies[0]
    return _served(loop, int((moments[0] - START) / WEEK) - TRAINING_WINDOWS) if moments else None


def _served(loop: PolicyResult, place: int) -> Planted:
    """Return in how many windows the version of the attempt just before this window served."""
    versions = loop.versions
    if not 0 < place < len(versions) or versions[place] == versions[place - 1]:
        return Planted(0, 0)
    windows = [window for window, version in enumerate(versions) if version == versions[place]]
    partners = loop.partners or (None,) * len(versions)
    return Planted(len(windows), sum(partners[window] is None for window in windows))


# Figures.


def _report(name: str, rows: int, results: Sequence[SeedResult]) -> None:
    lost = regret(_by_policy(results), [result.hindsight for result in results])
    for policy in POLICIES:
        values = [_mean(result.scores[policy]) for result in results]
        held = over_seeds(values)
        figure(
            "score", stream=name, rows=rows, policy=policy, seeds=len(results),
            score=POINTS * held.mean, standard_error=POINTS * held.standard_error,
            regret=POINTS * lost[policy].mean, regret_error=POINTS * lost[policy].standard_error,
            retrainings=float(np.mean([result.retrainings[policy] for result in results])),
        )  # fmt: skip
    above = [result.above for result in results if result.above is not None]
    if above:
        line = over_seeds(above)
        figure(
            "above_calendars", stream=name, rows=rows, seeds=len(above),
            points=POINTS * line.mean, standard_error=POINTS * line.standard_error,
        )  # fmt: skip


def _claims(name: str, rows: int, results: Sequence[SeedResult], windows: int) -> list[dict[str, Any]]:
    scores = _by_policy(results)
    if name == "none":
        gap = _points(advantage(scores["loop"], scores["never"]))
        allowed = 1.2 * (windows - TRAINING_WINDOWS) / TRAINING_WINDOWS
        retrainings = float(np.mean([result.retrainings["loop"] for result in results]))
        return [
            _claim("no drift: loop less never", rows, gap, -0.05),
            _claim("no drift: retrainings", rows, over_seeds([retrainings]), allowed, at_most=True),
        ]
    if name == "recurring":
        return [
            _claim(
                "recurring: loop less every 4",
                rows,
                _points(advantage(scores["loop"], scores["every 4 windows"])),
                2.0,
            )
        ]
    if name == "poison":
        lost = {
            policy: advantage([result.clean[policy] for result in results], scores[policy])
            for policy in ("every 4 windows", "loop")
        }
        calendar, loop = lost["every 4 windows"], lost["loop"]
        figure(
            "poison_loss", rows=rows, seeds=len(results), every_4=POINTS * calendar.mean,
            every_4_error=POINTS * calendar.standard_error, loop=POINTS * loop.mean,
            loop_error=POINTS * loop.standard_error,
        )  # fmt: skip
        undone = over_seeds([1 - loop.mean / calendar.mean if calendar.mean > 0 else 0.0])
        return [_claim("poison: share undone", rows, undone, 0.5)]
    return []


def _planted_claim(rows: int, attempts: Sequence[Planted | None]) -> list[dict[str, Any]]:
    plants = [plant for plant in attempts if plant is not None]
    if not plants:
        figure("planted", rows=rows, seeds=0)
        return []
    figure(
        "planted", rows=rows, seeds=len(plants), most_windows=max(plant.served for plant in plants),
        mean_windows=float(np.mean([plant.served for plant in plants])),
        share_served=float(np.mean([plant.served > 0 for plant in plants])),
    )  # fmt: skip
    most = over_seeds([float(max(plant.alone for plant in plants))])
    return [_claim("planted: most windows alone", rows, most, 2.0, at_most=True)]


def _claim(name: str, rows: int, value: Estimate, limit: float, *, at_most: bool = False) -> dict[str, Any]:
    met = value.mean <= limit if at_most else value.mean >= limit
    return figure(
        "claim", claim=name, rows=rows, value=value.mean, standard_error=value.standard_error,
        limit=limit, at="most" if at_most else "least", met=bool(met),
    )  # fmt: skip


def _show(claims: Sequence[dict[str, Any]]) -> None:
    table = Table("claim", "rows", "value", "limit", "met")
    for claim in claims:
        error = claim["standard_error"]
        value = f"{claim['value']:.3g}" + (f" ± {error:.2g}" if error is not None else "")
        limit = f"at {claim['at']} {claim['limit']:.3g}"
        table.add_row(claim["claim"], str(claim["rows"]), value, limit, "yes" if claim["met"] else "NO")
    Console(stderr=True).print(table)


def _without(result: Backtest, right: np.ndarray) -> Backtest:
    """Return the backtest without the scores of windows that are not right, and with means of the others."""
    if right.all():
        return result
    policies = []
    for policy in result.policies:
        scores = tuple(score for score, keep in zip(policy.scores, right, strict=True) if keep)
        policies.append(replace(policy, scores=scores, mean_score=_mean(scores)))
    return replace(result, policies=tuple(policies), windows=int(right.sum()))


def _scores(result: Backtest) -> dict[str, list[float | None]]:
    return {policy.name: list(policy.scores) for policy in result.policies}


def _by_policy(results: Sequence[SeedResult]) -> dict[str, list[list[float | None]]]:
    by_policy = defaultdict(list)
    for result in results:
        for policy, scores in result.scores.items():
            by_policy[policy].append(scores)
    return by_policy


def _mean(scores: Sequence[float | None]) -> float:
    return float(np.mean([score for score in scores if score is not None]))


def _points(value: Estimate) -> Estimate:
    return over_seeds([POINTS * each for each in value.per_seed])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fresh", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000], help="rows per window")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of every stream")
    parser.add_argument("--windows", type=int, default=60, help="windows of a stream, eight of them training")
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS), help="which streams")
    parser.add_argument("--no-planted", action="store_true", help="leave the planted challenger out")
    parser.add_argument("--processes", type=int, default=1, help="seeds that run side by side")
    return parser


if __name__ == "__main__":
    sys.exit(main())
