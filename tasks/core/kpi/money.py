"""What keeping the model fresh costs, what its answers were worth, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tasks.core.kpi.facts import Facts, Ran
from tasks.core.kpi.indicator import Kpi

MONTH_DAYS = 365.25 / 12


def money_of(facts: Facts) -> tuple[Kpi, ...]:
    """Return cost, worth, gain and return; what the spec names no price for is left out."""
    cost, worth, gain = _cost(facts), _worth(facts), _gain(facts)
    return tuple(one for one in (_hours(facts), cost, worth, gain, _roi(cost, gain)) if one)


def counted_once(runs: Sequence[Ran]) -> list[Ran]:
    """Return the runs whose time is their own: one that lies wholly inside another is part of it.

    A retraining that a monitor starts in its own process is on record as a run, and in the monitor's time.

    Example:
        >>> from datetime import UTC
        >>> noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
        >>> inside = Ran("retrain", noon, 60.0, noon + timedelta(seconds=5))
        >>> [one.flow for one in counted_once([inside, Ran("monitor", noon, 70.0, noon)])]
        ['monitor']
    """
    found: list[Ran] = []
    latest: datetime | None = None
    timed = [(one.started_at, one) for one in runs if one.started_at is not None]
    for start, one in sorted(timed, key=lambda item: (item[0], -item[1].seconds)):
        end = start + timedelta(seconds=one.seconds)
        if latest is None or end > latest:
            found.append(one)
            latest = end
    return [*(one for one in runs if one.started_at is None), *found]


def _counted_runs(facts: Facts) -> list[float]:
    inside = [one for one in facts.runs if facts.since <= one.at < facts.until]
    return [one.seconds for one in counted_once(inside)]


def _hours(facts: Facts) -> Kpi:
    took = _counted_runs(facts)
    meaning = "time that runs of flows took, by the clock, added up; one inside another counts once"
    return Kpi("run_time", "Time of runs", sum(took) if took else None, "seconds", len(took), meaning)


def _cost(facts: Facts) -> Kpi | None:
    prices, took = facts.prices, _counted_runs(facts)
    if not prices.any_cost:
        return None
    trainings = sum(one.is_training for one in facts.counted)
    known = bool(took or facts.outcomes)
    total = (
        sum(took) / 3600 * prices.per_hour
        + trainings * prices.per_retraining
        + facts.days / MONTH_DAYS * prices.per_month
    )
    unit = prices.currency
    meaning = (
        f"{sum(took) / 3600:.3g} h of runs at {prices.per_hour:g}, {trainings} x retraining at "
        f"{prices.per_retraining:g}, {facts.days:.3g} days at {prices.per_month:g} a month"
    )
    return Kpi("cost", "Cost", total if known else None, "money", len(took), meaning, unit)


def _worth(facts: Facts) -> Kpi | None:
    worth = facts.prices.worth
    if not worth:
        return None
    rows = sum(one.rows for one in facts.answered)
    total = sum(one.rows * worth.get((one.label, one.prediction), 0.0) for one in facts.answered)
    meaning = "worth of every answer whose label is known, by gate.value.outcomes"
    unit = facts.prices.currency
    return Kpi("worth", "Worth of answers", total if rows else None, "money", rows, meaning, unit)


def _gain(facts: Facts) -> Kpi | None:
    """Return what renewal added: nothing is claimed for a version that was never compared in money."""
    if not facts.prices.worth:
        return None
    compared = [one for one in facts.answered if one.version in facts.gains]
    rows = sum(one.rows for one in compared)
    total = sum(one.rows * facts.gains[one.version] for one in compared)
    meaning = (
        "labelled answers of each version times its gain per row over the version before it; assumes that "
        "the gain the gate measured lasted, and claims nothing for a first version"
    )
    unit = facts.prices.currency
    return Kpi("gain", "Gained by renewal", total if rows else None, "money", rows, meaning, unit)


def _roi(cost: Kpi | None, gain: Kpi | None) -> Kpi | None:
    if cost is None or gain is None:
        return None
    value = None
    if cost.value and gain.value is not None:
        value = (gain.value - cost.value) / cost.value
    meaning = "(gained by renewal - cost) / cost; what answers are worth at all is not counted, only the gain"
    return Kpi("roi", "Return on cost", value, "ratio", gain.cases, meaning)
