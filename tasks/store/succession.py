"""How the stages of a model's versions follow what was decided about them, and what the ledger says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.core.policy.partners import PARTNERED
from tasks.core.policy.served import SERVING
from tasks.core.policy.stages import By, Stage, implied, is_onward, path
from tasks.store import lifecycle
from tasks.store.lifecycle import Why
from tasks.store.schema import promotions


def nominate(connection: Connection, model: str, version: int, why: Why, by: By) -> set[int]:
    """Lead a version that is about to serve to staging; return the versions that moved.

    One that was put away is brought back without a stay there. Within the caller's transaction.

    Raises:
        RegistryError: when no legal moves lead from where it stands to production.
    """
    moved = catch_up(connection, model)
    stands = lifecycle.stage_in(connection, model, version)
    if stands in {None, "CANDIDATE"}:
        lifecycle.lead(connection, model, version, "STAGING", why, by)
        moved.add(version)
    else:
        path(stands, "PRODUCTION", by, model=model, version=version)
    return moved


def promote(connection: Connection, model: str, version: int, why: Why, by: By) -> set[int]:
    """Lead the version to production and what stood there out of it; return the versions that moved.

    First the new one, then the old: at no moment of the history is there none. Within the caller's
    transaction, and before its row of the ledger.

    Raises:
        RegistryError: when no legal moves lead there.
    """
    moved = {version, *catch_up(connection, model)}
    lifecycle.lead(connection, model, version, "PRODUCTION", why, by)
    for number, stage in lifecycle.stages_in(connection, model).items():
        if stage == "PRODUCTION" and number != version:
            lifecycle.lead(connection, model, number, "ARCHIVED", why, by)
            moved.add(number)
    return moved


def file(connection: Connection, model: str, version: int, stage: Stage, why: Why) -> set[int]:
    """Lead the version onward to this stage; return the versions that moved.

    One that stands further already stays, and so does the one in production: only another that is promoted
    takes its place. Within the caller's transaction.
    """
    moved = catch_up(connection, model)
    stands = lifecycle.stage_in(connection, model, version)
    if stands != "PRODUCTION" and is_onward(stands, stage):
        lifecycle.lead(connection, model, version, stage, why, "gate")
        moved.add(version)
    return moved


def catch_up(connection: Connection, model: str) -> set[int]:
    """Enter what the ledger says and the stages do not, and return the versions that moved.

    That is so in a store that is older than the stages, after an older release has written to it, and after
    a crash between a row of the ledger and its stage. Within the caller's transaction.
    """
    rows, known = _ledger(connection, model), lifecycle.stages_in(connection, model)
    served = [row.to_version for row in rows if row.action in SERVING]
    serving = served[-1] if served else None
    moved = set()
    for number in dict.fromkeys(row.to_version for row in rows if row.to_version is not None):
        stands = known.get(number)
        if number == serving or stands in {"PRODUCTION", "ARCHIVED"}:
            continue
        wanted = implied(rows, number)
        if (stands, wanted) == ("STAGING", "CANDIDATE"):
            continue
        if wanted == "ARCHIVED" and number in served:
            _take_over(connection, model, number, "PRODUCTION", rows)
        moved |= _take_over(connection, model, number, wanted, rows)
    if serving is None:
        return moved
    moved |= _take_over(connection, model, serving, "PRODUCTION", rows)
    for number, stage in lifecycle.stages_in(connection, model).items():
        if stage == "PRODUCTION" and number != serving:
            moved |= _take_over(connection, model, number, "ARCHIVED", rows)
    return moved


def _take_over(
    connection: Connection,
    model: str,
    version: int,
    stage: Stage,
    rows: Sequence[Any],  # Any: rows of `_ledger`
) -> set[int]:
    """Lead the version where the ledger has it, in the words of the ledger's newest row about it."""
    told = next(row for row in reversed(rows) if version in {row.to_version, row.from_version})
    why = Why(told.actor, told.reason, told.decision_id, told.at)
    stands = lifecycle.stage_in(connection, model, version)
    steps = path(stands, stage, "person", model=model, version=version)
    for step in steps:
        lifecycle.append(connection, model, version, stands, step, why, "person")
        stands = step
    return {version} if steps else set()


def _ledger(connection: Connection, model: str) -> list[Any]:  # Any: rows with these columns as attributes
    names = ("action", "from_version", "to_version", "actor", "reason", "decision_id", "at")
    columns = [promotions.c[name] for name in names]
    about = (promotions.c.model == model, promotions.c.action != PARTNERED)  # which moves no version
    query = sa.select(*columns).where(*about).order_by(promotions.c.id)
    return list(connection.execute(query).all())
