"""How well the champion does on rows whose labels nobody knows yet, estimated from what it says of them.

What a score was worth on the holdout is taken for what it is worth now. That holds while only the inputs
move; when the same inputs come to mean something else (concept drift), the estimate does not see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.sample import Sample, pick
from tasks.core.drift.matters.error_tree import ErrorTree
from tasks.core.drift.matters.estimate_regression import estimate_errors
from tasks.core.drift.matters.expectation import Drawn, Expectation, expect
from tasks.core.drift.matters.score_maps import ScoreMaps

if TYPE_CHECKING:
    from tasks.core.drift.matters.insight import Insight
    from tasks.core.model.pipeline import Predictions
    from tasks.core.spec import ModelSpec

MOST_ROWS = 20_000
MOST_CELLS = 60_000  # rows times classes: of a model of many classes fewer rows are looked at
DRAWS = 200
MOST_BEYOND = 0.05  # our choice: the share of rows whose score the holdout never showed
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """The score to be expected of a window; larger is better, as a scikit-learn scorer gives it.

    Attributes:
        metric: Name of the scorer.
        value: What to expect of the window, had the promise been exact; None where it cannot be told.
        low: Lower end of the interval of `value`: what the holdout's size and the window's leave open.
        high: Upper end.
        realised_low: Lower end of where the score will lie once the labels of these rows are known.
        realised_high: Upper end.
        rows: Rows that were looked at.
        confidence: Of both intervals, two-sided.
        beyond: Share of rows with a score or prediction where the holdout had none.
        problem: Why this must not be relied on; empty where it may.
    """

    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    realised_low: float | None = None
    realised_high: float | None = None
    rows: int = 0
    confidence: float = math.nan
    beyond: float = 0.0
    problem: str = ""


def estimate_performance(
    said: Predictions,
    insight: Insight | None,
    spec: ModelSpec,
    *,
    sample: Sample | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the score to be expected of the rows that the champion said this of.

    At most 20,000 seeded rows are looked at, of three or more classes fewer.

    Args:
        said: The champion's answers to the window's rows, or to a seeded sample of them.
        insight: What its holdout told; None where the reference has none.
        spec: Of which metric, `performance.confidence`, `label.positive` and `drift.min_rows` are used.
        sample: The same rows as cell numbers, for a regression.
        seed: Of rows and draws.
    """
    problem = _problem(said, insight, spec)
    if problem or insight is None or insight.estimator is None or insight.promised is None:
        return Estimate(spec.metric, rows=len(said.prediction), problem=problem)
    try:
        if isinstance(insight.estimator, ErrorTree):
            numbers = estimate_errors(
                said.prediction, insight.estimator, spec.metric, sample=sample, draws=DRAWS, seed=seed
            )
        else:
            numbers = _of_scores(said, insight.estimator, spec, seed)
    except ValueError as err:
        return Estimate(spec.metric, rows=len(said.prediction), problem=str(err))
    return _summed_up(numbers, insight.promised, spec)


def _problem(said: Predictions, insight: Insight | None, spec: ModelSpec) -> str:
    if insight is None:
        return "nothing is kept of the holdout by which scores could be read; the next training keeps it"
    if insight.metric != spec.metric:
        return f"the champion was trained for {insight.metric}, and {spec.metric} is asked for"
    if insight.estimator is None:
        return insight.problem or "the holdout does not tell what a score is worth"
    if len(said.prediction) < spec.drift.min_rows:
        return f"{len(said.prediction)} rows, {spec.drift.min_rows} are needed"
    return _unreadable(said, insight.estimator)


def _unreadable(said: Predictions, estimator: ScoreMaps | ErrorTree) -> str:
    given = said.prediction if isinstance(estimator, ErrorTree) else said.probabilities
    if given is None:
        return "the model gives no probabilities"
    if isinstance(estimator, ScoreMaps) and given.shape[1] != _classes(estimator):
        return f"probabilities of {given.shape[1]} classes, the holdout had {_classes(estimator)}"
    strange = int((~np.isfinite(np.asarray(given, dtype=np.float64))).sum())
    return f"{strange} scores are not finite" if strange else ""


def _classes(maps: ScoreMaps) -> int:
    return 2 if len(maps.knots) == 1 else len(maps.knots)


def _of_scores(said: Predictions, maps: ScoreMaps, spec: ModelSpec, seed: int) -> Drawn:
    if said.probabilities is None:
        raise ValueError("the model gives no probabilities")
    most = min(MOST_ROWS, MOST_CELLS // said.probabilities.shape[1])
    chosen = pick(len(said.prediction), most, seed)
    scores = said.probabilities[chosen]
    part = type(said)(said.prediction[chosen], scores, said.classes)
    of = expect(part, scores, spec.metric, positive=spec.label.positive)
    tables = [maps.table(scores, line) for line in range(maps.lines)]
    changes, realised = _draws(of, tables, maps, np.random.default_rng(seed))
    change = of.expected(tables[0]) - float(maps.expected[0])
    return Drawn(change, changes, realised, len(chosen), maps.beyond(scores))


def _draws(
    of: Expectation, tables: Sequence[Floats], maps: ScoreMaps, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return changes and realised scores, each draw by one of the resampled holdouts' maps."""
    usual = float(maps.expected[1:].mean())
    changes, realised = np.empty(DRAWS), np.empty(DRAWS)
    for draw in range(DRAWS):
        line = 1 + draw % (maps.lines - 1)
        times = np.bincount(rng.integers(0, of.rows, of.rows), minlength=of.rows).astype(np.float64)
        changes[draw] = of.expected(tables[line], times) - maps.expected[line]
        realised[draw] = of.drawn(tables[line], rng) - usual
    return changes, realised


def _summed_up(found: Drawn, promised: float, spec: ModelSpec) -> Estimate:
    from scipy.stats import norm

    told = found.changes[np.isfinite(found.changes)], found.realised[np.isfinite(found.realised)]
    few = min(len(part) for part in told) < 0.95 * DRAWS
    if few or not math.isfinite(found.change):
        return Estimate(spec.metric, rows=found.rows, problem=f"{spec.metric} has no value on these rows")
    reach = float(norm.ppf((1 + spec.performance.confidence) / 2))
    value, spread = promised + found.change, reach * float(told[0].std(ddof=1))
    centre, wide = promised + float(told[1].mean()), reach * float(told[1].std(ddof=1))
    beyond = f"{found.beyond:.0%} of the rows have scores that the holdout never showed"
    return Estimate(
        metric=spec.metric,
        value=value,
        low=value - spread,
        high=value + spread,
        realised_low=centre - wide,
        realised_high=centre + wide,
        rows=found.rows,
        confidence=spec.performance.confidence,
        beyond=found.beyond,
        problem=beyond if found.beyond > MOST_BEYOND else "",
    )
