"""What the gate costs, how often it is right where the truth is known, and what its intervals cover.

`gate_seconds`: the whole `decide_promotion` on 100,000 rows and 1,000 resamples, beside a champion, a guess
and a linear model; seconds by the clock and of processor, medians of three; `agrees` says that the scores are
scikit-learn's. `promoted`: the share of challengers that become champion, of a champion of accuracy 0.85 with
which they disagree on a tenth of the rows, by rule of the gate, on independent rows and on rows that come
four alike (design effect 4), beside "at least 99 % of the champion's score". `erosion`: what twenty
challengers in a row, each truly so much worse than its champion, take from the score. `coverage` and
`clustered_coverage`: how often the 95 % intervals of the difference and of the two scores hold the truth.
Prints one JSON line per figure.

    python -m bench.gate [--rows 100000] [--resamples 1000] [--repetitions 20000] [--only gate_seconds]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import product
from statistics import median

import numpy as np
from sklearn import metrics as sk

from bench.peers.figures import figure
from tasks.core.evaluation.clusters import cluster_codes
from tasks.core.evaluation.gate import GateEvidence, PairedScores, decide_promotion
from tasks.core.evaluation.metrics import score
from tasks.core.evaluation.paired.compare import compare
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec_gate import Gate

START = datetime(2026, 1, 5, tzinfo=UTC)
ACCURACY, APART = 0.85, 0.10
GAINS, SIZES = (-0.05, -0.01, 0.0, 0.01, 0.03), (200, 500, 2_000, 10_000)
RULES, EFFECTS = ("not_worse", "ahead", "better"), (1, 4)
LOSSES, ROUNDS = (0.005, 0.01, 0.02, 0.03, 0.05), 20
ERROR = "neg_root_mean_squared_error"
CLUSTERED = ("accuracy", "roc_auc", "neg_log_loss", ERROR)
COVERED = ("accuracy", "f1", "roc_auc", "neg_log_loss", ERROR)
TIMED = (*COVERED, "f1_macro", "r2", "average_precision")
BETTER, EQUAL = 1.4, 1.2  # distance of the two classes' scores, in standard deviations
_TRUTH_ROWS = 4_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a line per figure."""
    given = _parser().parse_args(argv)
    if given.only in (None, "gate_seconds"):
        for metric in TIMED:
            figure("gate_seconds", **_timed(metric, given))
    if given.only in (None, "promoted"):
        for rule, effect, rows, gain in product(RULES, EFFECTS, SIZES, GAINS):
            taken = promoted(rows, gain, given.repetitions, given.seed, rule=rule, effect=effect)
            figure("promoted", **taken.facts())
    if given.only in (None, "erosion"):
        for rule, rows, loss in product(RULES, SIZES, LOSSES):
            taken = promoted(rows, -loss, given.repetitions, given.seed, rule=rule, effect=1)
            figure("erosion", rule=rule, rows=rows, loss=loss, of_score=ROUNDS * loss * taken.share)
    if given.only in (None, "coverage"):
        for metric in COVERED:
            for rows in (100, 300):
                shares = coverage(metric, rows, max(given.repetitions // 10, 10), given.seed)
                names = ("difference", "challenger", "champion")
                figure(
                    "coverage",
                    metric=metric,
                    rows=rows,
                    nominal=0.95,
                    **dict(zip(names, shares, strict=True)),
                )
        for metric, effect, rows, by in product(CLUSTERED, (1, 2, 5, 10), (500, 2_000), ("time", "entity")):
            count = max(given.repetitions // 10, 10)
            shares = coverage(metric, rows, count, given.seed, effect=effect, by=by)
            facts = dict(zip(("difference", "challenger", "champion"), shares, strict=True))
            figure("clustered_coverage", metric=metric, rows=rows, effect=effect, by=by, **facts)
    return 0


# Rows of which the truth is known.


def labels_of(rng: np.random.Generator, rows: int) -> tuple[Scored, Scored]:
    """Return a better and a lesser classifier of the same rows; both err on much the same ones."""
    y = (rng.random(rows) < 0.3).astype(np.int64)
    noise, own = rng.normal(size=rows), rng.normal(size=(2, rows))
    pair = []
    for distance, apart in zip((BETTER, EQUAL), own, strict=True):
        x = distance * y + np.sqrt(0.7) * noise + np.sqrt(0.3) * apart
        chance = 1 / (1 + np.exp(-(distance * x - distance**2 / 2 + np.log(0.3 / 0.7))))
        said = (chance > 0.35).astype(np.int64)
        pair.append(Scored(y, said, np.column_stack([1 - chance, chance]), (0, 1)))
    return pair[0], pair[1]


def numbers_of(rng: np.random.Generator, rows: int) -> tuple[Scored, Scored]:
    """Return a better and a lesser regression of the same rows; the larger part of their errors is common."""
    y, common = rng.normal(size=rows), 0.7 * rng.normal(size=rows)
    better, lesser = (Scored(y, y + common + spread * rng.normal(size=rows)) for spread in (0.6, 0.7))
    return better, lesser


def rows_of(metric: str) -> Callable[[np.random.Generator, int], tuple[Scored, Scored]]:
    """Return what draws the rows that this metric judges."""
    return numbers_of if metric in (ERROR, "r2") else labels_of


# How often the gate is right.


@dataclass(frozen=True)
class Promoted:
    """The share of challengers promoted, and of those that the rule "99 % of the champion" would promote."""

    rule: str
    effect: int
    rows: int
    gain: float
    repetitions: int
    share: float
    by_rule: float

    def facts(self) -> dict[str, float | str]:
        """The figure as JSON shows it."""
        return {
            **{
                "rule": self.rule,
                "effect": self.effect,
                "rows": self.rows,
                "gain": self.gain,
                "repetitions": self.repetitions,
            },
            **{"promoted": self.share, "by_99_percent_rule": self.by_rule},
        }


def promoted(
    rows: int,
    gain: float,
    repetitions: int,
    seed: int = 0,
    *,
    rule: str = "better",
    effect: int | None = None,
) -> Promoted:
    """Return how often a challenger that is better by `gain` becomes champion, through the real gate.

    Args:
        rows: Of every comparison.
        gain: In accuracy.
        repetitions: Comparisons.
        seed: Of the draws.
        rule: Of the gate.
        effect: So many neighbouring rows are always alike, and the gate looks at blocks of time; None: rows
            are independent, and the gate knows it.
    """
    rng = np.random.default_rng([seed, rows, round(gain * 1000) + 1000])
    gate, alike = Gate.model_validate({"rule": rule}), effect or 1
    codes = None if effect is None else cluster_codes(np.arange(rows))
    mine, theirs = (APART + gain) / 2, (APART - gain) / 2
    shares = (ACCURACY - theirs, mine, theirs, 1 - ACCURACY - mine)
    keys, truth = np.arange(rows), np.arange(rows) % 2
    taken = by_rule = 0
    for both, only_mine, only_theirs, _ in rng.multinomial(rows // alike, shares, repetitions):
        place = np.repeat(rng.permutation(rows // alike), alike)
        own_right = place < both + only_mine
        other_right = (place < both) | (
            (place >= both + only_mine) & (place < both + only_mine + only_theirs)
        )
        pair = [Scored(truth, np.where(right, truth, 1 - truth)) for right in (own_right, other_right)]
        found = decide_promotion(
            GateEvidence(
                "accuracy",
                PairedScores(keys, pair[0], "challenger"),
                PairedScores(keys, pair[1], "champion"),
                first_row=START,
                champion_train_end=START,
                clusters=codes,
            ),
            gate,
        )
        taken += found.outcome == "promote"
        by_rule += bool(both + only_mine >= 0.99 * (both + only_theirs))
    return Promoted(rule, alike, rows, gain, repetitions, taken / repetitions, by_rule / repetitions)


def coverage(
    metric: str,
    rows: int,
    repetitions: int,
    seed: int = 0,
    *,
    resamples: int = 400,
    truth_rows: int = _TRUTH_ROWS,
    effect: int = 1,
    by: str = "",
) -> tuple[float, float, float]:
    """Return how often the 95 % intervals of the difference, of mine and of theirs hold the truth.

    `effect` neighbouring rows are always alike; clusters are blocks of `time`, or each such `entity`. With
    neither, rows are taken as independent.
    """
    mine, theirs = truth_of(metric, truth_rows)
    rng, draw, held = np.random.default_rng([seed, rows]), rows_of(metric), np.zeros(3)
    entities = np.repeat(np.arange(rows // effect), effect)
    codes = {"time": cluster_codes(np.arange(rows)), "entity": entities}.get(by)
    for turn in range(repetitions):
        one, other = (_copied(scored, effect) for scored in draw(rng, rows // effect))
        found = compare(one, other, metric, confidence=0.95, seed=turn, resamples=resamples, codes=codes)
        pairs = ((found.difference, mine - theirs), (found.mine, mine), (found.theirs, theirs))
        held += [one.low <= value <= one.high for one, value in pairs]
    shares = held / repetitions
    return float(shares[0]), float(shares[1]), float(shares[2])


def _copied(scored: Scored, times: int) -> Scored:
    """Return every row so many times, one after the other."""
    chances = None if scored.probabilities is None else np.repeat(scored.probabilities, times, axis=0)
    truth, prediction = (np.repeat(part, times) for part in (scored.y_true, scored.prediction))
    return Scored(truth, prediction, chances, scored.classes)


@cache
def truth_of(metric: str, rows: int = _TRUTH_ROWS) -> tuple[float, float]:
    """Return the two models' true scores: exact for AUC and RMSE, otherwise of very many rows."""
    if metric == "roc_auc":
        from scipy.special import ndtr

        return float(ndtr(BETTER / np.sqrt(2))), float(ndtr(EQUAL / np.sqrt(2)))
    if metric == ERROR:
        return -float(np.sqrt(0.49 + 0.36)), -float(np.sqrt(0.49 + 0.49))
    rng, lots = np.random.default_rng(1), max(1, rows // 1_000_000)
    values = [[_score(one, metric) for one in labels_of(rng, rows // lots)] for _ in range(lots)]
    mine, theirs = np.mean(values, axis=0)
    return float(mine), float(theirs)


# What it costs.


def _timed(metric: str, given: argparse.Namespace) -> dict[str, object]:
    evidence = evidence_of(metric, given.rows, given.resamples, given.seed)
    clock, work, found = [], [], None
    for _ in range(given.repeat):
        start, used = time.perf_counter(), time.process_time()
        found = decide_promotion(evidence, Gate(confidence=0.95))
        clock.append(time.perf_counter() - start)
        work.append(time.process_time() - used)
    if found is None or evidence.champion is None:
        raise ValueError("--repeat is at least 1")
    told = (found.challenger_score, found.champion_score)
    theirs = [_by_sklearn(one.scored, metric) for one in (evidence.challenger, evidence.champion)]
    return {
        **{"metric": metric, "rows": given.rows, "resamples": given.resamples},
        **{"seconds": median(clock), "cpu_seconds": median(work), "method": found.method},
        **{"outcome": found.outcome, "agrees": bool(np.allclose(told, theirs, rtol=1e-9))},
    }


def evidence_of(metric: str, rows: int, resamples: int, seed: int = 0) -> GateEvidence:
    """Return a challenger, a champion, a guess and a linear model on the same rows."""
    rng = np.random.default_rng([seed, rows])
    better, lesser = rows_of(metric)(rng, rows)
    keys, y = np.arange(rows), better.y_true
    if better.classes is None:
        guess, linear = Scored(y, np.zeros(rows)), Scored(y, y + rng.normal(size=rows))
    else:
        share = np.tile([0.7, 0.3], (rows, 1))
        guess, linear = Scored(y, np.zeros(rows, np.int64), share, (0, 1)), lesser
    return GateEvidence(
        metric,
        PairedScores(keys, better, "challenger"),
        PairedScores(keys, lesser, "champion"),
        baseline=guess,
        linear=linear,
        first_row=START,
        champion_train_end=START,
        seed=seed,
        resamples=resamples,
    )


def _score(one: Scored, metric: str) -> float:
    return score(one.y_true, one.prediction, one.probabilities, one.classes, metric)


def _by_sklearn(one: Scored, metric: str) -> float:
    y, said = one.y_true, one.prediction
    chance = None if one.probabilities is None else one.probabilities[:, 1]
    known: dict[str, Callable[[], float]] = {
        "accuracy": lambda: sk.accuracy_score(y, said),
        "f1": lambda: sk.f1_score(y, said),
        "f1_macro": lambda: sk.f1_score(y, said, average="macro"),
        "roc_auc": lambda: sk.roc_auc_score(y, chance),
        "average_precision": lambda: sk.average_precision_score(y, chance),
        "neg_log_loss": lambda: -sk.log_loss(y, one.probabilities),
        "r2": lambda: sk.r2_score(y, said),
        ERROR: lambda: -sk.root_mean_squared_error(y, said),
    }
    return float(known[metric]())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="rows of a timed comparison")
    parser.add_argument("--resamples", type=int, default=1_000, help="resamples of a timed comparison")
    parser.add_argument("--repeat", type=int, default=3, help="timed decisions, of which the median is told")
    parser.add_argument(
        "--repetitions", type=int, default=20_000, help="simulated decisions per line; coverage takes a tenth"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    parser.add_argument(
        "--only",
        choices=("gate_seconds", "promoted", "erosion", "coverage"),
        help="only figures of this name",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
