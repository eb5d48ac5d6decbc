"""Whether drift matters: what it is likely to cost the champion, and which features it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from tasks.core.evaluation.margins import margin_of

if TYPE_CHECKING:
    from tasks.core.drift.matters.estimate import Estimate
    from tasks.core.drift.matters.insight import Insight
    from tasks.core.spec import ModelSpec

LIMIT = (
    "an estimate from the inputs alone: it does not see when the same inputs come to mean something else "
    "(concept drift), and never clears an alarm or promotes a model"
)
SHARES = ("ks", "total_variation", "jensen_shannon", "chi_square", "missing_share", "unseen_share")
"""Measures from 0 to 1: how far apart two samples are, or which share of the rows changed."""


@dataclass(frozen=True)
class Harm:
    """What drift is likely to cost; scores as a scikit-learn scorer gives them, so lower is always worse.

    Attributes:
        outcome: harmful, harmless, or unknown where neither can be told.
        metric: Name of the scorer.
        expected: The score to be expected of the window; None where it cannot be told.
        low: Lower end of its interval.
        high: Upper end.
        promised: The champion's score on its holdout.
        reason: One clause on how the outcome came about.
        limit: What this cannot see.
    """

    outcome: Literal["harmful", "harmless", "unknown"]
    metric: str
    expected: float | None
    low: float | None
    high: float | None
    promised: float | None
    reason: str
    limit: str = LIMIT


@dataclass(frozen=True)
class Impact:
    """A feature that moved, and how much that may matter.

    Attributes:
        feature: Column.
        importance: What the metric loses when the feature is shuffled; None where it was not tried.
        moved: How far it moved, from 0 to 1: the largest of the measures that are shares or distances.
        impact: Importance times `moved`, in the metric's unit; None without importance.
        outcome: The feature's verdict, drift or warn.
        effect: Mean absolute change of the model's score when the column is put back to where it was.
    """

    feature: str
    importance: float | None
    moved: float
    impact: float | None
    outcome: str
    effect: float | None = None


class Result(Protocol):
    """What one measure says about one feature."""

    @property
    def measure(self) -> str:
        """Name in the registry."""
        ...

    @property
    def value(self) -> float | None:
        """Effect size in the measure's own unit."""
        ...


class Moved(Protocol):
    """What all measures together say about one feature."""

    @property
    def feature(self) -> str:
        """Column."""
        ...

    @property
    def outcome(self) -> str:
        """Ok, warn, drift or undecided."""
        ...

    @property
    def measures(self) -> Sequence[Result]:
        """Each measure's result."""
        ...


def judge_harm(estimate: Estimate, insight: Insight | None, spec: ModelSpec) -> Harm:
    """Return whether the drift of a window is likely to cost more than is tolerated.

    Tolerated is `gate.margin`, or `performance.band` of the promise where that is more: a loss that realised
    performance would not be blamed for is none here either.

    Example:
        >>> from tasks.core.drift.matters.estimate import Estimate
        >>> from tasks.core.spec import parse_spec
        >>> spec = parse_spec({"name": "m", "label": {"column": "y"}, "features": {"numeric": ["x"]},
        ...                    "source": {"url": "rows.parquet", "key": "id", "timestamp": "t"}})
        >>> judge_harm(Estimate("roc_auc", problem="12 rows, 50 are needed"), None, spec).outcome
        'unknown'
    """
    promised = insight.promised if insight is not None else None
    if estimate.value is None or estimate.low is None or estimate.high is None or promised is None:
        reason = estimate.problem or "the champion's score on its holdout is not known"
        return Harm("unknown", spec.metric, None, None, None, promised, f"cannot be estimated: {reason}")
    margin = margin_of(spec.gate.margin, spec.metric, promised)
    tolerated = max(margin, spec.performance.band * abs(promised))
    worst = promised - tolerated
    outcome: Literal["harmful", "harmless", "unknown"] = "unknown"
    told = f"{spec.metric} is expected at {estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"
    told += f", promised {promised:.4g}"
    if estimate.problem:
        reason = f"{told}; not to be relied on: {estimate.problem}"
    elif estimate.high < worst:
        outcome, reason = "harmful", f"{told}: a loss of more than the {tolerated:.4g} tolerated"
    elif estimate.low >= worst:
        outcome, reason = "harmless", f"{told}: no loss of more than the {tolerated:.4g} tolerated"
    else:
        reason = f"{told}: a loss of more than the {tolerated:.4g} tolerated is neither shown nor ruled out"
    return Harm(outcome, spec.metric, estimate.value, estimate.low, estimate.high, promised, reason)


def rank_impacts(
    features: Iterable[Moved], insight: Insight | None, *, effects: Mapping[str, float] | None = None
) -> tuple[Impact, ...]:
    """Return the features that drifted or changed, those that may matter most first.

    Ordered by importance times size of change; features of unknown importance follow, by size of change.

    Args:
        features: The verdict's; those of the model's own scores, whose names begin with two underscores, are
            no inputs and left out.
        insight: What the champion's holdout told.
        effects: By feature, what `effects_of` measured.
    """
    known = insight.importance if insight is not None else {}
    found = []
    for one in features:
        if one.outcome not in {"drift", "warn"} or one.feature.startswith("__"):
            continue
        sizes = [result.value for result in one.measures if result.measure in SHARES]
        moved = min(1.0, max((size for size in sizes if size is not None), default=0.0))
        weight = known.get(one.feature)
        effect = (effects or {}).get(one.feature)
        impact = None if weight is None else weight * moved
        found.append(Impact(one.feature, weight, moved, impact, one.outcome, effect))
    return tuple(
        sorted(found, key=lambda one: (one.impact is None, -(one.impact or 0.0), -one.moved, one.feature))
    )
