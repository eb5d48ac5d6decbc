"""Which flows ran for which model, when, for how long, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.window import utc
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema_serving import flow_runs

_BAD = ("Failed", "Crashed", "TimedOut", "Cancelled", "Cancelling")
"""Names of states in which a run did not do its work; every other name is of a good end."""
LAST = 12  # good runs that tell a flow's usual interval
_MOST = 1_000


@dataclass(frozen=True)
class FlowRun:
    """One run that came to an end; `as_of` is the moment it acted for, `started_at` is by the clock."""

    model: str
    flow: str
    run_id: str
    as_of: datetime
    started_at: datetime
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Rhythm:
    """The moments of a flow's last good runs, oldest first, and how many failed since."""

    flow: str
    succeeded: tuple[datetime, ...]
    failed_since: int


def record(engine: Engine, run: FlowRun) -> bool:
    """Return whether the run was new; one that is on record stays as it is."""
    row = {**vars(run), "as_of": utc(run.as_of), "started_at": utc(run.started_at)}
    with writing(engine) as connection:
        return insert_new(connection, flow_runs, [row]) == 1


def read(
    engine: Engine, model: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[FlowRun]:
    """Return the runs whose `as_of` lies between the two moments, both included, oldest first."""
    query = sa.select(flow_runs).where(flow_runs.c.model == model)
    if since is not None:
        query = query.where(flow_runs.c.as_of >= utc(since))
    if until is not None:
        query = query.where(flow_runs.c.as_of <= utc(until))
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(flow_runs.c.as_of, flow_runs.c.id)).mappings()
        return [FlowRun(**{name: row[name] for name in FlowRun.__dataclass_fields__}) for row in rows]


def rhythms(
    engine: Engine, model: str, flows: tuple[str, ...], as_of: datetime, *, within: timedelta
) -> list[Rhythm]:
    """Return how each of these flows has run lately; one that never ran is not among them.

    Runs of the last `within` count, and of these the last dozen good ones; failures that are older than the
    last good run are forgotten.
    """
    moment = utc(as_of)
    found = []
    for flow in flows:
        runs = _newest_first(engine, model, flow, moment - within, moment)
        good = [at for at, outcome in runs if not is_bad(outcome)][:LAST]
        failed = next((place for place, (_, outcome) in enumerate(runs) if not is_bad(outcome)), len(runs))
        if runs:
            found.append(Rhythm(flow, tuple(reversed(good)), failed))
    return found


def is_bad(outcome: str) -> bool:
    """Return whether a run that ended so did not do its work.

    Example:
        >>> is_bad("Crashed"), is_bad("Drift: TRAIN")
        (True, False)
    """
    return outcome in _BAD


def _newest_first(
    engine: Engine, model: str, flow: str, since: datetime, until: datetime
) -> list[tuple[datetime, str]]:
    query = (
        sa.select(flow_runs.c.as_of, flow_runs.c.outcome)
        .where(flow_runs.c.model == model, flow_runs.c.flow == flow)
        .where(flow_runs.c.as_of >= since, flow_runs.c.as_of <= until)
        .order_by(flow_runs.c.as_of.desc(), flow_runs.c.id.desc())
        .limit(_MOST)
    )
    with reading(engine) as connection:
        return [(row.as_of, row.outcome) for row in connection.execute(query)]
