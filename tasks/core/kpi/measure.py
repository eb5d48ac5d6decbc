"""The indicators themselves: what each is, from how many cases, and when it cannot be told."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from tasks.core.kpi.facts import Facts, Outcome, Trouble
from tasks.core.kpi.indicator import Kpi, median_of, share_of
from tasks.core.kpi.money import money_of
from tasks.core.kpi.speed import commit_lead, retraining_repair
from tasks.core.policy.approval import SILENCE, approval_id

LEAST_DAYS = 7.0
"""History that a rate per week needs; our choice: less than one week would be multiplied up."""


@dataclass(frozen=True)
class Repair:
    """How long incidents of one cause lasted; `median` in seconds, None while none has ended."""

    cause: str
    ended: int
    lasting: int
    median: float | None
    longest: float | None


@dataclass(frozen=True)
class Scorecard:
    """All indicators of one model over one stretch of time."""

    model: str
    since: datetime
    until: datetime
    kpis: tuple[Kpi, ...]
    actions: tuple[tuple[str, int], ...]
    repairs: tuple[Repair, ...]

    def value(self, key: str) -> float | None:
        """Return an indicator's value by key; None where it could not be told."""
        return next(one.value for one in self.kpis if one.key == key)

    def sentence(self) -> str:
        """Return the scorecard as one line."""
        told = [f"{one.title.lower()} {one.shown()}" for one in self.kpis if one.value is not None]
        return "; ".join(told[:4]) if told else "not enough history for any indicator"


def scorecard_of(facts: Facts) -> Scorecard:
    """Return every indicator; one that rests on nothing says so instead of being zero."""
    outcomes = facts.counted
    promoted = [one for one in outcomes if one.action == "promoted"]
    trained = [one for one in outcomes if one.is_training]
    counts = Counter(one.action for one in outcomes)
    return Scorecard(
        model=facts.model,
        since=facts.since,
        until=facts.until,
        kpis=(
            _rate(facts, promoted, "deployments", "Deployments", "promotions, by the gate or a person"),
            _rate(facts, trained, "retrainings", "Retrainings", "attempts that trained a challenger"),
            _cadence(trained),
            _automated(promoted),
            _futile(trained, facts.outcomes),
            _failed(promoted, facts.outcomes),
            _lead(promoted),
            _freshness(promoted),
            commit_lead(facts),
            _ruling(outcomes, facts.outcomes),
            _repair(facts),
            retraining_repair(facts),
            *money_of(facts),
        ),
        actions=tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        repairs=_repairs(facts),
    )


def _rate(facts: Facts, cases: Sequence[Outcome], key: str, title: str, meaning: str) -> Kpi:
    # Nothing happened in a long time is an answer; nothing on record at all is none.
    known = bool(facts.outcomes) and facts.days >= LEAST_DAYS
    value = 7 * len(cases) / facts.days if known else None
    return Kpi(key, title, value, "per week", len(cases), meaning)


def _cadence(trained: Sequence[Outcome]) -> Kpi:
    times = sorted(one.at for one in trained)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    return median_of("cadence", "Time between retrainings", gaps, "median time from one training to the next")


def _automated(promoted: Sequence[Outcome]) -> Kpi:
    alone = sum(one.actor == "gate" for one in promoted)
    return share_of("automated", "Promoted by the gate alone", alone, len(promoted), "of all promotions")


def _futile(trained: Sequence[Outcome], everything: Sequence[Outcome]) -> Kpi:
    ruled = {one.decision_id for one in everything}
    served = {one.version for one in everything if one.action == "promoted"}
    settled = [
        one
        for one in trained
        if one.action != "waiting" or one.version in served or approval_id(one.version or 0) in ruled
    ]
    vain = sum(one.action != "promoted" and one.version not in served for one in settled)
    return share_of(
        "futile", "Futile retrainings", vain, len(settled), "trained, and the challenger never served"
    )


def _failed(promoted: Sequence[Outcome], everything: Sequence[Outcome]) -> Kpi:
    failed = set()
    for back in everything:
        if back.action == "rolled_back":
            of = [one for one in promoted if one.version == back.from_version and one.at <= back.at]
            failed |= {one.decision_id for one in of[-1:]}
    return share_of("rolled_back", "Promotions rolled back", len(failed), len(promoted), "of all promotions")


def _lead(promoted: Sequence[Outcome]) -> Kpi:
    leads = [
        (one.moved_at - one.asked_at).total_seconds()
        for one in promoted
        if one.moved_at and one.asked_at and one.moved_at >= one.asked_at
    ]
    meaning = "median time by the clock from the decision to train to the version serving, waiting included"
    return median_of("lead", "Decision to serving", leads, meaning)


def _freshness(promoted: Sequence[Outcome]) -> Kpi:
    ages = [(one.at - one.data_end).total_seconds() for one in promoted if one.data_end]
    meaning = "median age of the newest rows of the training window when the version began to serve"
    return median_of("freshness", "Data to serving", ages, meaning)


def _ruling(outcomes: Sequence[Outcome], everything: Sequence[Outcome]) -> Kpi:
    since = {
        approval_id(one.version): one.at for one in everything if one.action == "waiting" and one.version
    }
    waited = [
        (one.at - since[one.decision_id]).total_seconds()
        for one in outcomes
        if one.decision_id in since and one.actor != SILENCE
    ]
    return median_of("ruling", "Wait for a person", waited, "median time until a person approved or rejected")


def _repair(facts: Facts) -> Kpi:
    broken = [one for one in facts.troubles_counted if one.is_failure]
    meaning = "median length of incidents that have ended, of those where something was broken"
    return median_of("repair", "Time to repair", list(_durations(broken, facts.until)), meaning)


def _repairs(facts: Facts) -> tuple[Repair, ...]:
    troubles = facts.troubles_counted
    found = []
    for cause in sorted({one.cause for one in troubles}):
        same = [one for one in troubles if one.cause == cause]
        lasted = list(_durations(same, facts.until))
        middle = statistics.median(lasted) if lasted else None
        found.append(
            Repair(cause, len(lasted), len(same) - len(lasted), middle, max(lasted) if lasted else None)
        )
    return tuple(found)


def _durations(troubles: Iterable[Trouble], until: datetime) -> Iterable[float]:
    for one in troubles:
        if one.resolved_at is not None and one.resolved_at < until:
            yield (one.resolved_at - one.opened_at).total_seconds()
