"""How fast the budgets of a model are spent, of its score and of its service, as the store tells it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.engine import Engine

from tasks.core.evaluation.performance import lower_limit
from tasks.core.health.budget import Budget, Kept, chance_of_a_miss, score_budget
from tasks.core.health.burn import Burn, burns, lookbacks
from tasks.core.health.slices import apart
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration
from tasks.store import checks
from tasks.store import service as served

_MOST_WINDOWS = 5_000
_DAY = timedelta(days=1)


def service(engine: Engine, spec: ModelSpec, end: datetime) -> tuple[Burn, ...]:
    """Return what each burn rule says of the requests before `end`."""
    period = parse_duration(spec.slo.period)
    return burns(
        served.over(engine, spec.name, end, lookbacks(period)),
        availability=spec.slo.availability,
        period=period,
        min_requests=spec.slo.min_requests,
    )


def score(engine: Engine, spec: ModelSpec, as_of: datetime) -> Budget:
    """Return how much is left of the score's budget, over windows that do not overlap."""
    period, length = parse_duration(spec.slo.period), parse_duration(spec.window.check)
    most = min(_MOST_WINDOWS, 2 * (period // min(length, _DAY)) + 2)  # longer windows overlap, by days
    told = [
        one
        for one in checks.recent(engine, spec.name, "performance", most, as_of)
        if one.outcome != "undecided" and one.window.end > as_of - period
        if one.summary.get("value") is not None and one.summary.get("limit") is not None
    ]
    return score_budget(
        [_kept(one, spec) for one in apart(told)],
        budget=spec.slo.budget,
        period=period,
        length=length,
        confidence=spec.performance.confidence,
        false_alarms=spec.drift.false_alarms,
    )


def _kept(check: checks.Check, spec: ModelSpec) -> Kept:
    """Return whether the window missed, and how likely that was by chance, as wide as its interval is."""
    found = check.summary
    chance, numbers = 0.0, [found.get(name) for name in ("promise", "low", "high")]
    if all(isinstance(number, int | float) for number in numbers):
        promise, low, high = numbers
        band = promise - lower_limit(promise, spec.performance.band)
        confidence = found.get("confidence") or spec.performance.confidence
        chance = chance_of_a_miss(band, (high - low) / 2, confidence)
    return Kept(check.window, found["value"] < found["limit"], chance)
