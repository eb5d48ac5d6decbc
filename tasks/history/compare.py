"""The versions of a model beside each other: where each stands, and which scored best in a period."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from tasks.core.errors import SpecError
from tasks.core.window import utc
from tasks.history.answer import Answer, short, shown_as, table
from tasks.history.past import Past
from tasks.store.catalog import VersionFacts
from tasks.store.checks import Check

Period = Literal["week", "month", "quarter", "year"]
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


def versions(past: Past) -> Answer:
    """Return every version with its stage, its promise, its code and what the gate said of it."""
    found = [_line(past, number) for number in past.numbers]
    head = ["version", "stage", "created", "metric", "promised", "gate", "ledger", "by", "commit", "dirty"]
    rows = [
        [
            one["version"],
            one["stage"],
            one["created"],
            one["metric"],
            one["promise"],
            one["gate"],
            one["ledger"],
            one["actor"],
            short(one["commit"]),
            one["dirty"],
        ]
        for one in found
    ]
    return Answer(found, tuple(table(head, rows)) if rows else (f"{past.model}: no version yet",))


def best(
    past: Past,
    metric: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    realised: Iterable[Check] = (),
    limit: int = 10,
) -> Answer:
    """Return the versions created in `[since, until)` by falling score of the metric, the best first.

    The score is that on rows a version had not learnt from, in the scorer convention: larger is better.
    Beside it stands the mean of what `realised`, checks of performance, measured while the version served.

    Raises:
        SpecError: when no version has a score of this metric; the names of those measured are told.
    """
    start, end = (utc(one) if one else None for one in (since, until))
    if start and end and end <= start:
        raise SpecError(f"a period from {shown_as(start)} to {shown_as(end)}", "a start before its end")
    scored = [(facts.score(metric), facts) for facts in past.facts.values()]
    if not any(score is not None for score, _ in scored):
        names = {one.metric for one in past.facts.values()}
        names |= {str(name) for one in past.facts.values() for name in one.params.get("metrics") or {}}
        raise SpecError(
            f"no score of a metric {metric!r}", f"one of {', '.join(sorted(names)[:12])}", model=past.model
        )
    inside = [
        (score, facts)
        for score, facts in scored
        if score is not None and (not start or facts.created >= start) and (not end or facts.created < end)
    ]
    inside.sort(key=lambda pair: (-pair[0], pair[1].number))
    measured = _realised(realised, metric)
    found = [_ranked(past, facts, score, measured) for score, facts in inside[:limit]]
    period = f"from {shown_as(start) if start else 'the start'} until {shown_as(end) if end else 'now'}"
    if not found:
        return Answer({"metric": metric, "versions": []}, (f"{past.model}: no version was created {period}",))
    head = ["version", metric, "low", "high", "realised", "windows", "stage", "created", "commit"]
    rows = [
        [
            one["version"],
            one["score"],
            one["low"],
            one["high"],
            one["realised"],
            one["windows"],
            one["stage"],
            one["created"],
            short(one["commit"]),
        ]
        for one in found
    ]
    line = (
        f"{past.model}: version {found[0]['version']} has the best {metric} of {len(inside)} created {period}"
    )
    data = {"metric": metric, "since": start, "until": end, "versions": found}
    return Answer(data, (line, "", *table(head, rows)))


def last(period: Period, now: datetime) -> tuple[datetime, datetime]:
    """Return the last whole calendar period in UTC before `now`; weeks begin on Monday.

    Example:
        >>> [f"{edge:%Y-%m-%d}" for edge in last("quarter", datetime(2026, 2, 3, tzinfo=UTC))]
        ['2025-10-01', '2026-01-01']
    """
    today = utc(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        end = today - timedelta(days=today.weekday())
        return end - timedelta(days=7), end
    months = _MONTHS[period]
    first = (today.month - 1) // months * months  # months of this year before the present period
    end = today.replace(month=first + 1, day=1)
    before = end.year * 12 + end.month - 1 - months
    return end.replace(year=before // 12, month=before % 12 + 1), end


def moment(text: str) -> datetime:
    """Return the time written in ISO form; without a zone it is UTC.

    Raises:
        SpecError: when it is none.

    Example:
        >>> moment("2026-01-31").isoformat()
        '2026-01-31T00:00:00+00:00'
    """
    try:
        found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
    except ValueError as err:
        raise SpecError(f"time {text[:40]!r}", "a time like 2026-01-31T12:00+00:00") from err
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _line(past: Past, number: int) -> dict[str, Any]:  # Any: JSON
    facts, rows = past.facts.get(number), past.about(number)
    made = past.made_of(number)
    return {
        "version": number,
        "stage": past.stage(number),
        "created": facts.created if facts else None,
        "metric": facts.metric if facts else None,
        "promise": facts.promise if facts else None,
        "gate": facts.gate.get("outcome") if facts else None,
        "ledger": rows[-1].action if rows else None,
        "actor": rows[-1].actor if rows else None,
        "commit": made.get("commit"),
        "dirty": made.get("dirty"),
        "decision_id": facts.decision_id if facts else None,
        "digest": made.get("digest"),
    }


def _ranked(
    past: Past, facts: VersionFacts, score: float, measured: dict[int, list[float]]
) -> dict[str, Any]:  # Any: JSON
    values = measured.get(facts.number, [])
    return {
        "version": facts.number,
        "score": score,
        "low": facts.promise_low if score == facts.promise else None,
        "high": facts.promise_high if score == facts.promise else None,
        "realised": sum(values) / len(values) if values else None,
        "windows": len(values),
        "stage": past.stage(facts.number),
        "created": facts.created,
        "commit": facts.git_commit,
    }


def _realised(checks: Iterable[Check], metric: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for check in checks:
        value = check.summary.get("value")
        if check.version is not None and check.summary.get("metric") == metric and value is not None:
            found.setdefault(check.version, []).append(float(value))
    return found
