"""When a challenger saw live rows, what it said of those in its shadow, and what came of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import Window, utc
from tasks.store import lifecycle
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import predictions, promotions
from tasks.store.schema_serving import exposures, shadows

Mode = Literal["shadow", "canary"]
Event = Literal["began", "returned", "ended"]
LIVE_COLUMNS = ("prediction_id", "version", "route", "served_at")
PAIR_COLUMNS = (
    *("prediction_id", "at", "prediction", "score", "latency_ms", "error"),
    *("champion_version", "champion_prediction", "champion_score", "champion_latency_ms"),
)


@dataclass(frozen=True)
class Exposure:
    """One event of one version's exposure: who let it begin, sent it back or ended it, when and why."""

    model: str
    version: int
    mode: Mode
    share: float
    event: Event
    reason: str
    actor: str
    at: datetime


def waiting_now(engine: Engine, model: str) -> int | None:
    """Return the newest version in staging that waits for a person; None where none does.

    A version that the gate promotes by itself passes through staging too, and waits for nobody.
    Two queries at most, so that an app may ask every second.
    """
    told = (promotions.c.model == model, promotions.c.action == "waiting")
    with reading(engine) as connection:
        query = sa.select(promotions.c.to_version).where(*told).distinct()
        waited = set(connection.execute(query).scalars())
        if not waited:
            return None
        stages = lifecycle.stages_in(connection, model)
    return max((one for one in waited if stages.get(one) == "STAGING"), default=None)


def begin(
    engine: Engine, model: str, version: int, *, mode: Mode, share: float, actor: str, at: datetime
) -> Event:
    """Return how the version's exposure stands after this: began (now or before), or returned, for good.

    However many processes begin it, there is one row.
    """
    with _changing(engine, model) as connection:
        last = _last(connection, model, version)
        if last is not None and last.event != "ended":
            return last.event
        reason = "it waits for a person and the spec lets it see live rows"
        _add(connection, Exposure(model, version, mode, share, "began", reason, actor, utc(at)))
    return "began"


def send_back(engine: Engine, model: str, version: int, *, reason: str, actor: str, at: datetime) -> bool:
    """Return whether this call sent the canary back; False where it is not exposed (any more)."""
    with _changing(engine, model) as connection:
        last = _last(connection, model, version)
        if last is None or last.event != "began":
            return False
        row = Exposure(model, version, last.mode, last.share, "returned", reason, actor, utc(at))
        _add(connection, row)
    return True


def end_others(
    engine: Engine, model: str, waiting: int | None, *, actor: str, at: datetime
) -> tuple[int, ...]:
    """End the exposure of every version but the one that waits; return those that ended now.

    Versions that were sent back before stay sent back.
    """
    with _changing(engine, model) as connection:
        open_ones = [
            one for one in _lasts(connection, model) if one.event == "began" and one.version != waiting
        ]
        stages = lifecycle.stages_in(connection, model) if open_ones else {}
        for one in open_ones:
            reason = f"it waits no more: {stages.get(one.version) or 'at no stage'} now"
            if stages.get(one.version) == "STAGING":
                reason = f"version {waiting} waits in its place" if waiting else "it waits for nobody"
            row = Exposure(model, one.version, one.mode, one.share, "ended", reason, actor, utc(at))
            _add(connection, row)
    return tuple(one.version for one in open_ones)


def last_event(engine: Engine, model: str, version: int) -> Event | None:
    """Return how the version's exposure stands; None where it never began. Cheap: one row."""
    with reading(engine) as connection:
        last = _last(connection, model, version)
    return last.event if last else None


def history(engine: Engine, model: str) -> list[Exposure]:
    """Return every event of every exposure of the model, oldest first."""
    with reading(engine) as connection:
        return _rows(connection, exposures.c.model == model)


def keep_shadows(
    engine: Engine,
    rows: list[dict[str, Any]],  # Any: column values
) -> int:
    """Return how many of these answers were new; all of them are in the store when this returns."""
    with writing(engine) as connection:
        return insert_new(connection, shadows, rows)


def drop_shadows(engine: Engine, model: str, before: datetime) -> int:
    """Return how many shadow answers, those given before this moment, are no more."""
    old = shadows.delete().where(shadows.c.model == model, shadows.c.at < utc(before))
    with writing(engine) as connection:
        return connection.execute(old).rowcount


def live_rows(engine: Engine, model: str, window: Window, versions: set[int]) -> pd.DataFrame:
    """Return which version answered, and by which route, for answers given to callers in the window.

    Columns: prediction_id, version, route, served_at; by time. Batches are left out: their rows are not
    drawn from the requests.
    """
    table = predictions.c
    query = (
        sa.select(*(table[name] for name in LIVE_COLUMNS))
        .where(table.model == model, table.served_at >= window.start, table.served_at < window.end)
        .where(table.version.in_(sorted(versions)), table.route.in_(("champion", "canary")))
        .order_by(table.served_at, table.prediction_id)
    )
    return _frame(engine, query, LIVE_COLUMNS, "served_at")


def shadow_pairs(engine: Engine, model: str, version: int, window: Window) -> pd.DataFrame:
    """Return what a version said in the shadow in the window, beside the answers that were given.

    Columns: those of `PAIR_COLUMNS`, by time. A row whose champion's answer is not in the store is left out.
    """
    own, given = shadows.c, predictions.c
    same = sa.and_(given.model == own.model, given.prediction_id == own.prediction_id)
    columns = [own[name] for name in PAIR_COLUMNS[:6]]
    columns += [given[name.removeprefix("champion_")].label(name) for name in PAIR_COLUMNS[6:]]
    query = (
        sa.select(*columns)
        .select_from(shadows.join(predictions, same))
        .where(own.model == model, own.version == version, own.at >= window.start, own.at < window.end)
        .order_by(own.at, own.prediction_id)
    )
    return _frame(engine, query, PAIR_COLUMNS, "at")


def _changing(engine: Engine, model: str) -> AbstractContextManager[Connection]:
    return writing(engine, lock=f"exposures:{model}")


def _last(connection: Connection, model: str, version: int) -> Exposure | None:
    where = (exposures.c.model == model, exposures.c.version == version)
    return next(iter(_rows(connection, *where, newest=1)), None)


def _lasts(connection: Connection, model: str) -> list[Exposure]:
    newest = {one.version: one for one in _rows(connection, exposures.c.model == model)}
    return list(newest.values())


def _rows(connection: Connection, *where: sa.ColumnElement[bool], newest: int = 0) -> list[Exposure]:
    query = sa.select(*(exposures.c[one.name] for one in fields(Exposure))).where(*where)
    query = query.order_by(exposures.c.id.desc()).limit(newest) if newest else query.order_by(exposures.c.id)
    return [Exposure(**row) for row in connection.execute(query).mappings()]


def _add(connection: Connection, row: Exposure) -> None:
    connection.execute(exposures.insert(), vars(row))


def _frame(engine: Engine, query: sa.Select[Any], columns: tuple[str, ...], moment: str) -> pd.DataFrame:
    with reading(engine) as connection:
        found = pd.DataFrame(connection.execute(query).all(), columns=list(columns))
    found[moment] = pd.to_datetime(found[moment], utc=True)
    return found
