"""When each model's flow was last heard of: who watches from outside needs nothing else."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.store.engine import reading
from tasks.store.flow_runs import is_bad
from tasks.store.schema_serving import flow_runs

NO_MODEL = "*"
"""The model of runs that are about no single one."""


def last_heard(engine: Engine, flow: str) -> dict[str, datetime | None]:
    """Return up to when each model is known to have been looked after by runs of this flow that ended well.

    A model whose runs all failed has None; one without a run is not among them. A run that acted as of an
    earlier moment says nothing of the time after that, and none says anything of the time after it began.
    """
    ran = flow_runs.c
    moment = sa.case((ran.as_of > ran.started_at, ran.started_at), else_=ran.as_of)
    query = sa.select(ran.model, ran.outcome, sa.func.max(moment).label("newest"))
    query = query.where(ran.flow == flow, ran.model != NO_MODEL).group_by(ran.model, ran.outcome)
    found: dict[str, datetime | None] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            best = found.setdefault(row.model, None)
            if not is_bad(row.outcome) and (best is None or row.newest > best):
                found[row.model] = row.newest
    return found
