"""What the ledgers say of one model, read for its indicators."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.board.facts import finite
from tasks.core.kpi.facts import (
    Answered,
    Facts,
    Judged,
    Outcome,
    Prices,
    Ran,
    Trouble,
    moment_in,
    window_end_in,
)
from tasks.core.model.columns import category_text
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, utc
from tasks.settings import Settings
from tasks.store import alerts, catalog, ledger, outbox
from tasks.store.answered import count_answers
from tasks.store.commits import commit_time
from tasks.store.engine import reading
from tasks.store.schema import checks
from tasks.store.schema_serving import flow_runs


def gather(
    engine: Engine,
    model: str,
    since: datetime | None,
    *,
    as_of: datetime,
    prices: Prices | None = None,
    settings: Settings | None = None,
) -> Facts:
    """Return what was known before `as_of`, to be counted from `since` (default: from the first on record).

    Answers are counted only where `prices` gives them a worth: it takes a look at every labelled prediction,
    and at the counts of those that moved to files.

    Raises:
        StoreError: when such counts are gone, or not what was written.
    """
    until = utc(as_of)
    rows = [row for row in ledger.history(engine, model) if row.at < until]
    troubles = tuple(
        Trouble(one.cause, one.tier, one.opened_at, one.resolved_at, one.message)
        for one in alerts.history(engine, model)
        if one.opened_at < until
    )
    decided = [row.at for row in ledger.decisions(engine, model) if row.at < until]
    starts = [*decided, *(row.at for row in rows), *(one.opened_at for one in troubles)]
    begin = utc(since) if since else min(starts, default=until)
    priced = prices or Prices()
    return Facts(
        model=model,
        since=begin,
        until=until,
        outcomes=tuple(_outcomes(engine, model, rows)),
        troubles=troubles,
        judged=_judged(engine, model, until),
        runs=_runs(engine, model, until),
        answered=_answered(engine, model, begin, until, settings or Settings()) if priced.worth else (),
        gains=_gains(engine, model) if priced.worth else {},
        prices=priced,
    )


def prices_of(spec: ModelSpec) -> Prices:
    """Return what the spec says of money; the worth of answers by label and prediction as text."""
    worth = {}
    for name, each in spec.gate.value.outcomes.items():
        label, _, prediction = name.partition(">")
        worth[category_text(label.strip()), category_text(prediction.strip())] = float(each)
    costs = spec.costs
    return Prices(costs.currency, costs.per_hour, costs.per_retraining, costs.per_month, worth)


def _outcomes(engine: Engine, model: str, rows: Iterable[ledger.LedgerRow]) -> Iterable[Outcome]:
    made = {one.number: one for one in catalog.all_facts(engine, model)}
    for row in rows:
        # A version that waited for a person was asked for by the decision that trained it.
        asked = outbox.find(engine, model, str(row.evidence.get("waited_as") or row.decision_id))
        moved = row.action == "promoted"
        facts = made.get(row.to_version or 0)
        # What was not committed when the version was made has no commit that it could be counted from.
        commit = facts.git_commit if moved and facts and not facts.dirty else None
        yield Outcome(
            decision_id=row.decision_id,
            action=row.action,
            at=row.at,
            actor=row.actor,
            version=row.to_version,
            from_version=row.from_version,
            asked_at=asked.written_at if asked else None,
            moved_at=moment_in(row.evidence, "moved_at") if moved else None,
            data_end=window_end_in(row.evidence) if moved else None,
            commit=commit,
            committed_at=commit_time(commit) if commit else None,
        )


def _judged(engine: Engine, model: str, until: datetime) -> tuple[Judged, ...]:
    """Return every window's newest conclusion; what could not be decided judged nothing."""
    query = (
        sa.select(checks.c.kind, checks.c.window_end, checks.c.outcome)
        .where(checks.c.model == model, checks.c.kind.in_(("performance", "drift")))
        .where(checks.c.window_end <= until)
        .order_by(checks.c.window_end, checks.c.window_start, checks.c.revision)
    )
    newest: dict[tuple[str, datetime], str] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            newest[row.kind, row.window_end] = row.outcome
    return tuple(
        Judged(kind, end, outcome == "drift")
        for (kind, end), outcome in newest.items()
        if outcome != "undecided"
    )


def _runs(engine: Engine, model: str, until: datetime) -> tuple[Ran, ...]:
    table = flow_runs.c
    query = sa.select(table.flow, table.as_of, table.seconds, table.started_at).where(
        table.model == model, table.as_of < until
    )
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(flow_runs.c.id)).all()
    return tuple(Ran(row.flow, row.as_of, row.seconds, row.started_at) for row in rows)


def _answered(
    engine: Engine, model: str, since: datetime, until: datetime, place: Settings
) -> tuple[Answered, ...]:
    if since >= until:
        return ()
    counts = count_answers(engine, model, Window(since, until), as_of=until, settings=place)
    return tuple(Answered(*key, rows) for key, rows in sorted(counts.items()))


def _gains(engine: Engine, model: str) -> dict[int, float]:
    found = {}
    for one in catalog.all_facts(engine, model):
        value = one.gate.get("value")
        gain = finite(value.get("difference")) if isinstance(value, dict) else None
        if gain is not None:
            found[one.number] = gain
    return found
