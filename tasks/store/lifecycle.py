"""The stages of every version, one row per move: who moved it, when, why, and under which decision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.errors import RegistryError
from tasks.core.policy.stages import By, Stage, illegal, is_legal, path
from tasks.core.window import utc
from tasks.store import leases
from tasks.store.engine import reading, writing
from tasks.store.leases import Lease
from tasks.store.schema_versions import lifecycle


@dataclass(frozen=True)
class StageRow:
    """One move of one version; `seq` counts the moves of its model from 1, without a gap."""

    model: str
    seq: int
    version: int
    from_stage: Stage | None
    to_stage: Stage
    actor: str
    reason: str
    decision_id: str
    at: datetime


@dataclass(frozen=True)
class Why:
    """What a move is entered with: who, for what reason, under which decision, as of when."""

    actor: str
    reason: str
    decision_id: str
    at: datetime


def advance(
    engine: Engine,
    model: str,
    version: int,
    to_stage: Stage,
    *,
    expected_stage: Stage | None,
    actor: str,
    reason: str,
    decision_id: str,
    at: datetime,
    expected_seq: int | None = None,
    by: By = "gate",
    fence: Lease | None = None,
) -> StageRow:
    """Return the row of this move, written now or by an earlier call of the same decision.

    Args:
        engine: the store.
        model: whose version.
        version: its number.
        to_stage: where it goes.
        expected_stage: where the caller saw it; None: nowhere yet.
        actor: who moves it.
        reason: why.
        decision_id: one move of a version to a stage per decision.
        at: when it counts as moved.
        expected_seq: number of the model's newest move that the caller saw; None: any.
        by: who may move what differs, see `tasks.core.policy.stages`.
        fence: the lease under which the caller moves; nothing is written when another took it over.

    Raises:
        RegistryError: when the version is at another stage than expected, the move is not legal, or the
            lease is lost.
    """
    why = Why(actor, reason, decision_id, at)
    with writing(engine, lock=lock_of(model)) as connection:
        if fence:
            leases.check(connection, fence)
        done = _done(connection, model, version, to_stage, decision_id)
        if done is not None:
            return done
        newest = _newest_seq(connection, model)
        if expected_seq is not None and newest != expected_seq:
            raise RegistryError(
                f"move {newest} of this model", f"move {expected_seq}, the newest when decided", model=model
            )
        stands = stage_in(connection, model, version)
        if stands != expected_stage:
            raise RegistryError(
                f"version {version} at {stands or 'no stage'}, to be moved to {to_stage}",
                f"version {version} at {expected_stage or 'no stage'}",
                "look again and decide again",
                model=model,
            )
        return append(connection, model, version, stands, to_stage, why, by)


def lead(connection: Connection, model: str, version: int, to_stage: Stage, why: Why, by: By) -> None:
    """Move the version on to this stage by legal moves, within the caller's transaction.

    A version that stands there already, or was moved there under this decision before, stays where it is.

    Raises:
        RegistryError: when no legal moves lead there.
    """
    if _done(connection, model, version, to_stage, why.decision_id) is not None:
        return
    stands = stage_in(connection, model, version)
    for stage in path(stands, to_stage, by, model=model, version=version):
        append(connection, model, version, stands, stage, why, by)
        stands = stage


def stage_of(engine: Engine, model: str, version: int) -> Stage | None:
    """Return where the version stands; None where no move of it was written down."""
    return stages(engine, model).get(version)


def stages(engine: Engine, model: str) -> dict[int, Stage]:
    """Return where every version of the model stands."""
    with reading(engine) as connection:
        return stages_in(connection, model)


def production(engine: Engine) -> dict[str, int]:
    """Return the version in production of every model that has one.

    Raises:
        RegistryError: when a model has two; no legal history leads there.
    """
    newest = sa.select(lifecycle.c.model, lifecycle.c.version, sa.func.max(lifecycle.c.seq).label("seq"))
    last = newest.group_by(lifecycle.c.model, lifecycle.c.version).subquery()
    joined = sa.and_(lifecycle.c.model == last.c.model, lifecycle.c.seq == last.c.seq)
    query = (
        sa.select(lifecycle.c.model, lifecycle.c.version)
        .join(last, joined)
        .where(lifecycle.c.to_stage == "PRODUCTION")
        .order_by(lifecycle.c.model)
    )
    serving: dict[str, int] = {}
    with reading(engine) as connection:
        for model, version in connection.execute(query).all():
            if model in serving:
                raise RegistryError(
                    f"versions {serving[model]} and {version} in production", "one", model=model
                )
            serving[model] = version
    return serving


def moves(engine: Engine, model: str, version: int | None = None) -> list[StageRow]:
    """Return every move of the model's versions, or of one of them, oldest first."""
    with reading(engine) as connection:
        return _rows(connection, model, *([] if version is None else [lifecycle.c.version == version]))


def append(
    connection: Connection, model: str, version: int, old: Stage | None, new: Stage, why: Why, by: By
) -> StageRow:
    """Return the next row of the model's moves, entered within the caller's transaction.

    Raises:
        RegistryError: when the move is not legal.
    """
    if not is_legal(old, new, by):
        raise illegal(old, new, by, model=model, version=version)
    seq = _newest_seq(connection, model) + 1
    row = StageRow(model, seq, version, old, new, why.actor, why.reason, why.decision_id, utc(why.at))
    connection.execute(lifecycle.insert(), vars(row))  # a second writer of this seq is refused
    return row


def stage_in(connection: Connection, model: str, version: int) -> Stage | None:
    """Return where the version stands, as this transaction sees it; None: nowhere yet."""
    table = lifecycle.c
    query = sa.select(table.to_stage).where(table.model == model, table.version == version)
    return connection.execute(query.order_by(table.seq.desc()).limit(1)).scalar()


def stages_in(connection: Connection, model: str) -> dict[int, Stage]:
    """Return where every version stands, as this transaction sees it."""
    table = lifecycle.c
    query = sa.select(table.version, table.to_stage).where(table.model == model).order_by(table.seq)
    return {row.version: row.to_stage for row in connection.execute(query)}  # the newest wins


def lock_of(model: str) -> str:
    """Return the name under which writers of this model's stages wait for each other."""
    return f"lifecycle:{model}"


def _newest_seq(connection: Connection, model: str) -> int:
    query = sa.select(sa.func.max(lifecycle.c.seq)).where(lifecycle.c.model == model)
    return connection.execute(query).scalar() or 0


def _done(
    connection: Connection, model: str, version: int, to_stage: Stage, decision_id: str
) -> StageRow | None:
    table = lifecycle.c
    same = (table.version == version, table.to_stage == to_stage, table.decision_id == decision_id)
    return next(iter(_rows(connection, model, *same)), None)


def _rows(connection: Connection, model: str, *where: sa.ColumnElement[bool]) -> list[StageRow]:
    columns = [lifecycle.c[name] for name in StageRow.__dataclass_fields__]
    query = sa.select(*columns).where(lifecycle.c.model == model, *where).order_by(lifecycle.c.seq)
    return [StageRow(**row) for row in connection.execute(query).mappings()]
