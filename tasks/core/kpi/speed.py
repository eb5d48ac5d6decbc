"""How fast code reaches service, and how fast a retraining repairs what decayed."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.kpi.facts import Facts, Judged, Outcome
from tasks.core.kpi.indicator import Kpi, median_of


def commit_lead(facts: Facts) -> Kpi:
    """Return how long a commit took until a version made by it served.

    A commit counts once, for its first version: the later ones are new data on old code. One that was
    already in service before the time that is counted is none of its news.
    """
    first: dict[str, Outcome] = {}
    for one in facts.outcomes:
        if one.action == "promoted" and one.commit and one.committed_at:
            first.setdefault(one.commit, one)
    leads = []
    for one in first.values():
        served = one.moved_at or one.at
        if facts.since <= one.at < facts.until and one.committed_at and served >= one.committed_at:
            leads.append((served - one.committed_at).total_seconds())
    meaning = "median time from a commit to the first version made by it that served"
    return median_of("commit_lead", "Commit to serving", leads, meaning)


def retraining_repair(facts: Facts) -> Kpi:
    """Return how long a decay lasted that a retraining ended: first bad window to a promoted version."""
    meaning = "median time from the end of the first bad window to the promotion that ended the bad stretch"
    return median_of("retraining_repair", "Repair by retraining", list(_repaired(facts)), meaning)


def _repaired(facts: Facts) -> list[float]:
    found, before = [], None
    for one in (row for row in facts.outcomes if row.action in ("promoted", "rolled_back")):
        stretch = [
            item for item in facts.judged if item.end <= one.at and (before is None or item.end > before)
        ]
        starts = [start for kind in ("performance", "drift") if (start := _began(stretch, kind))]
        if before is not None and one.action == "promoted" and starts and facts.since <= one.at:
            found.append((one.at - min(start.end for start in starts)).total_seconds())
        before = one.at
    return found


def _began(judged: Sequence[Judged], kind: str) -> Judged | None:
    """Return the first window of the bad stretch that lasts to the end: two good windows in a row end one."""
    began, good = None, 0
    for one in sorted((item for item in judged if item.kind == kind), key=lambda item: item.end):
        if one.is_bad:
            began, good = began or one, 0
        else:
            good += 1
            began = None if good >= 2 else began
    return began
