"""Whether a canary is worse than the champion beyond chance, however often somebody looks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.performance import judge
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec import ModelSpec

GROWTH = 1.5
"""Each look needs half as many rows again as the one before: our choice, it delays a return by at most that
share and lets ten looks reach from 200 rows to 7,700."""
_MOST_LOOKS = 200


@dataclass(frozen=True)
class Look:
    """One of the looks that may be taken: the `number`-th, on the first `rows` labelled canary answers.

    `risk` is how probable it may be at this look that a canary which is as good is called worse.
    """

    number: int
    rows: int
    risk: float


@dataclass(frozen=True)
class CanaryVerdict:
    """How the canary does beside the champion; scores as a scorer gives them, so lower is worse.

    `outcome`: `return` when the whole interval of the difference lies below zero, `keep` when it does not,
    `undecided` when it cannot be told (then `reason` says why and numbers may be NaN). `difference` is canary
    less champion, with its interval.
    """

    outcome: Literal["keep", "return", "undecided"]
    reason: str
    canary: float = math.nan
    champion: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    canary_rows: int = 0
    champion_rows: int = 0
    look: int = 0
    metric: str = ""
    direction: str = "lower is worse"

    def summary(self) -> dict[str, object]:
        """Return the verdict as JSON values: None where a number is not known."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def next_look(rows: int, spec: ModelSpec) -> Look | None:
    """Return the latest look that this many labelled canary answers allow; None while there are too few.

    Monitoring looks again and again at the same growing rows, and every look is another chance of a false
    alarm. So there are looks at fixed numbers of rows only, always the first so many, and look k may be wrong
    with probability risk / k(k + 1): all of them together with `risk`, which is (1 - gate.confidence) / 2.

    Source: a union bound over a geometric grid, the "stitching" of Howard et al., Annals of Statistics 49
    (2021): 1055-1080.

    Example:
        >>> from tasks.core.spec import parse_spec
        >>> spec = parse_spec({
        ...     "name": "churn", "task": "classification", "metric": "accuracy", "label": {"column": "y"},
        ...     "source": {"url": "rows.csv", "key": "id", "timestamp": "at"}, "features": {"numeric": ["x"]},
        ...     "estimator": {"class": "sklearn.linear_model.LogisticRegression"},
        ...     "window": {"training": "28d", "check": "7d"}, "serving": {"canary_min_rows": 100},
        ... })
        >>> next_look(99, spec), next_look(240, spec).number, next_look(240, spec).rows
        (None, 3, 225)
    """
    fewest, number = spec.serving.canary_min_rows, 0
    while number < _MOST_LOOKS and math.ceil(fewest * GROWTH**number) <= rows:
        number += 1
    if number == 0:
        return None
    risk = (1 - spec.gate.confidence) / 2
    return Look(number, math.ceil(fewest * GROWTH ** (number - 1)), risk / (number * (number + 1)))


def judge_canary(champion: Scored, canary: Scored, spec: ModelSpec, look: Look) -> CanaryVerdict:
    """Return whether the canary may go on answering, told from labelled answers of both in the same time.

    They answered different requests, chosen by chance, so the samples are independent: each score gets the
    interval that suits its metric, and the half-widths add in quadrature. Rows are taken as independent:
    where one customer has many rows the intervals are too narrow.

    Source: square-and-add, Newcombe, Statistics in Medicine 17 (1998): 873-890; MOVER, Zou and Donner, ibid.
    27 (2008): 1693-1702.

    Args:
        champion: Known labels and the champion's answers of the same time.
        canary: Known labels and the canary's answers: the first `look.rows`.
        spec: The model's spec.
        look: Which look this is, see `next_look`.
    """
    rule = _held_to(spec, 1 - 2 * look.risk)
    found = {name: _score(one, rule) for name, one in (("champion", champion), ("canary", canary))}
    problem = "; ".join(f"{name}: {why}" for name, (_, _, why) in found.items() if why)
    (theirs, their_rows, _), (mine, my_rows, _) = found["champion"], found["canary"]
    gap = difference_of(mine, theirs)
    outcome: Literal["keep", "return", "undecided"] = "keep"
    if problem or not gap.is_known:
        outcome, reason = "undecided", problem or f"{spec.metric} has no interval on these rows"
    else:
        outcome = "return" if gap.high < 0 else "keep"
        shown = f"{spec.metric} {mine.value:.4f} beside {theirs.value:.4f}"
        told = {"return": "worse beyond chance", "keep": "not shown to be worse"}[outcome]
        reason = f"{shown}, difference {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]: {told}"
    return CanaryVerdict(
        outcome, reason, mine.value, theirs.value, gap.value, gap.low, gap.high, my_rows, their_rows,
        look.number, spec.metric,
    )  # fmt: skip


def difference_of(mine: Interval, theirs: Interval) -> Interval:
    """Return how much larger mine is than theirs, from two independent samples.

    Example:
        >>> found = difference_of(Interval(0.7, 0.67, 0.73), Interval(0.8, 0.76, 0.84))
        >>> f"{found.value:.3f} {found.low:.3f} {found.high:.3f}"
        '-0.100 -0.150 -0.050'
    """
    gap = mine.value - theirs.value
    below = math.hypot(mine.value - mine.low, theirs.high - theirs.value)
    above = math.hypot(mine.high - mine.value, theirs.value - theirs.low)
    return Interval(gap, gap - below, gap + above)


def _held_to(spec: ModelSpec, confidence: float) -> ModelSpec:
    """Return the spec with this confidence, under which a verdict needs as many rows as a canary does."""
    return spec.model_copy(
        update={
            "performance": spec.performance.model_copy(
                update={"confidence": confidence, "min_rows": spec.serving.canary_min_rows}
            ),
        }
    )


def _score(scored: Scored, rule: ModelSpec) -> tuple[Interval, int, str]:
    """Return the score with its interval, its rows, and why it cannot be told, as monitoring reads it."""
    said = judge(scored.y_true, scored.prediction, scored.probabilities, scored.classes, rule, promise=0.0)
    why = said.reason if said.outcome == "undecided" else ""
    return Interval(said.value, said.low, said.high), said.rows, why
