"""How the app served, as traffic and prediction log tell it: counted by the database, whatever their size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.health.latency import Latency, from_buckets, interpolated, merged, ranks_needed
from tasks.core.health.service import Counted
from tasks.core.window import Window, utc
from tasks.settings import Settings
from tasks.store import checks, partitions
from tasks.store.engine import reading
from tasks.store.partition_files import read_part
from tasks.store.schema import labels, predictions
from tasks.store.schema_serving import traffic

ALL = -1
"""Stands for all versions together where a version's number is expected."""
_BATCH = 20_000
_OF_THE_LOG = frozenset({"performance", "service", "predictions", "slices", "labels"})


def counted(engine: Engine, model: str, window: Window) -> dict[int, Counted]:
    """Return by version, 0 for those that no version answered, what became of the requests of the window."""
    query = (
        sa.select(
            traffic.c.version,
            traffic.c.status,
            *(sa.func.sum(traffic.c[name]).label(name) for name in ("requests", "rows", "lost")),
        )
        .where(*_minutes(model, window))
        .group_by(traffic.c.version, traffic.c.status)
    )
    found: dict[int, Counted] = {}
    with reading(engine) as connection:
        for row in connection.execute(query).mappings():
            # Postgres sums whole numbers as decimals.
            requests, rows, lost = (int(row[name]) for name in ("requests", "rows", "lost"))
            refused = requests if 400 <= row["status"] < 500 else 0
            failed = requests if row["status"] >= 500 else 0
            one = Counted(requests, rows, refused, failed, lost)
            found[row["version"]] = found.get(row["version"], Counted()) + one
    return found


def over(
    engine: Engine, model: str, end: datetime, lookbacks: Sequence[timedelta]
) -> dict[timedelta, tuple[int, int]]:
    """Return, for each span before `end`, the requests that had to be answered and those that were not."""
    moment = utc(end)
    sums = []
    for span in lookbacks:
        within = traffic.c.minute >= moment - span
        due = sa.and_(within, sa.or_(traffic.c.status < 400, traffic.c.status >= 500))
        bad = sa.and_(within, traffic.c.status >= 500)
        sums += [sa.func.sum(sa.case((which, traffic.c.requests), else_=0)) for which in (due, bad)]
    query = sa.select(*sums).where(*_minutes(model, Window(moment - max(lookbacks), moment)))
    with reading(engine) as connection:
        row = [int(value or 0) for value in connection.execute(query).one()]
    return {span: (row[2 * place], row[2 * place + 1]) for place, span in enumerate(lookbacks)}


def latencies(
    engine: Engine, model: str, window: Window, *, limit_ms: float | None = None
) -> dict[int, Latency]:
    """Return how long answers took, by version, and under `ALL` for all of them.

    Exact from the prediction log, where each request counts once, however many rows it had; of what is not
    in it (any more, or with `log: fast`), from the counts per bucket.
    """
    found = {
        version: _exact(engine, model, window, version, limit_ms)
        for version in _logged(engine, model, window)
    }
    buckets = _buckets(engine, model, window)
    for version, parts in buckets.items():
        told = _from(parts, limit_ms)
        # The log misses some where it was lost or moved: then the counts know more.
        if told.requests > 2 * found.get(version, Latency(0, None, None, None)).requests:
            found[version] = told
    if found:
        exact = all(one.exact for one in found.values())
        whole = [part for parts in buckets.values() for part in parts]
        found[ALL] = _exact(engine, model, window, None, limit_ms) if exact else _from(whole, limit_ms)
    return found


def answers(
    engine: Engine, model: str, window: Window, version: int, *, settings: Settings | None = None
) -> pd.DataFrame:
    """Return what this version said of the events of the window; columns prediction and score.

    Raises:
        StoreError: when the window's predictions moved to a file that cannot be read.
    """
    if moved_from(engine, model, window):
        rows = partitions.read_log(engine, model, window, settings=settings or Settings())
        mine: pd.DataFrame = rows[rows["version"] == version]
        return mine[["prediction", "score"]].astype(object).reset_index(drop=True)
    query = (
        sa.select(predictions.c.prediction, predictions.c.score)
        .where(*_events(model, window), predictions.c.version == version)
        .execution_options(yield_per=_BATCH)
    )
    said: list[Any] = []
    scores: list[Any] = []
    with reading(engine) as connection:
        for part in connection.execute(query).partitions():
            said += [row[0] for row in part]
            scores += [row[1] for row in part]
    columns = {"prediction": pd.Series(said, dtype=object), "score": pd.Series(scores, dtype=object)}
    return pd.DataFrame(columns)


def first_event(
    engine: Engine,
    model: str,
    version: int,
    *,
    since: datetime | None = None,
    settings: Settings | None = None,
) -> datetime | None:
    """Return when the first event happened that this version predicted; None where there is none.

    Predictions that moved to files count too, of days that end after `since`; those of dropped files are
    forgotten.

    Raises:
        StoreError: when one of the files cannot be read.
    """
    query = sa.select(sa.func.min(predictions.c.event_time)).where(
        predictions.c.model == model, predictions.c.version == version
    )
    with reading(engine) as connection:
        first: datetime | None = connection.execute(query).scalar()
    for part in partitions.of_window(engine, model):
        if first is not None and part.window.start >= first:
            break
        if part.state != "moved" or (since is not None and part.window.end <= since):
            continue
        rows = read_part(
            part, part.window, ("version", "event_time"), model=model, settings=settings or Settings()
        )
        mine = rows.loc[rows["version"] == version, "event_time"]
        if len(mine):
            moment: datetime = pd.Timestamp(mine.min()).to_pydatetime()
            first = moment if first is None else min(first, moment)
    return first


def moved_from(engine: Engine, model: str, window: Window) -> list[Window]:
    """Return the days of the window whose predictions moved out of the database, or were dropped since."""
    return [one.window for one in partitions.of_window(engine, model, window) if one.state != "written"]


def settled(engine: Engine, model: str, kind: checks.Kind, window: Window) -> checks.Check | None:
    """Return the decided check of a window that cannot be checked any more; None: record what was found.

    Where predictions of the window moved out of the database, another look would find fewer, or none.
    """
    if kind not in _OF_THE_LOG or not moved_from(engine, model, window):
        return None
    same = [one for one in checks.recent(engine, model, kind, 3, window.end) if one.window == window]
    return same[0] if same and same[0].outcome != "undecided" else None


def logged_values(engine: Engine, model: str, window: Window, columns: Sequence[str]) -> pd.DataFrame:
    """Return these inputs of every prediction of the window as text, by prediction_id; None: not logged."""
    picked = [
        predictions.c.inputs[name].as_string().label(f"column{place}") for place, name in enumerate(columns)
    ]
    query = sa.select(predictions.c.prediction_id, *picked).where(*_events(model, window))
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return pd.DataFrame(rows, columns=["prediction_id", *columns], dtype=object).set_index("prediction_id")


def newest(engine: Engine, model: str, as_of: datetime) -> Mapping[str, datetime | None]:
    """Return when there was last, by `as_of`: an event that was predicted, a prediction, and a label."""
    moment = utc(as_of)
    wanted = {
        "event": (predictions, predictions.c.event_time),
        "prediction": (predictions, predictions.c.served_at),
        "label": (labels, labels.c.known_at),
    }
    found = {}
    with reading(engine) as connection:
        for name, (table, column) in wanted.items():
            query = sa.select(sa.func.max(column)).where(table.c.model == model, column <= moment)
            found[name] = connection.execute(query).scalar()
    return found


def _minutes(model: str, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    return (traffic.c.model == model, traffic.c.minute >= window.start, traffic.c.minute < window.end)


def _events(model: str, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    moment = predictions.c.event_time
    return (predictions.c.model == model, moment >= window.start, moment < window.end)


def _requests(model: str, window: Window, version: int | None) -> sa.Subquery:
    """Return each request that was answered within the window, once, with how long that took."""
    request = sa.func.coalesce(predictions.c.request_id, predictions.c.prediction_id)
    moment = predictions.c.served_at
    query = (
        sa.select(sa.func.max(predictions.c.latency_ms).label("took"))
        .where(predictions.c.model == model, moment >= window.start, moment < window.end)
        .where(predictions.c.latency_ms.is_not(None))
        .where(sa.or_(predictions.c.route.is_(None), predictions.c.route != "batch"))
        .group_by(predictions.c.version, request)
    )
    return (query if version is None else query.where(predictions.c.version == version)).subquery()


def _logged(engine: Engine, model: str, window: Window) -> list[int]:
    moment = predictions.c.served_at
    query = (
        sa.select(predictions.c.version)
        .where(predictions.c.model == model, moment >= window.start, moment < window.end)
        .where(predictions.c.latency_ms.is_not(None))
        .distinct()
    )
    with reading(engine) as connection:
        return sorted(connection.execute(query).scalars())


def _exact(
    engine: Engine, model: str, window: Window, version: int | None, limit_ms: float | None
) -> Latency:
    one = _requests(model, window, version)
    is_slow = one.c.took > limit_ms if limit_ms is not None else sa.false()
    sums = sa.select(sa.func.count(), sa.func.sum(sa.case((is_slow, 1), else_=0))).select_from(one)
    with reading(engine) as connection:
        count, slow = (int(value or 0) for value in connection.execute(sums).one())
        if not count:
            return Latency(0, None, None, None)
        place = sa.func.row_number().over(order_by=one.c.took).label("place")
        ranked = sa.select(one.c.took, place).subquery()
        query = sa.select(ranked.c.place, ranked.c.took).where(ranked.c.place.in_(ranks_needed(count)))
        ranks = {row.place: float(row.took) for row in connection.execute(query)}
    p50, p95, p99 = interpolated(ranks, count)
    return Latency(count, p50, p95, p99, slow)


def _buckets(engine: Engine, model: str, window: Window) -> dict[int, list[Mapping[str, int]]]:
    query = sa.select(traffic.c.version, traffic.c.latency).where(
        *_minutes(model, window), traffic.c.version > 0, traffic.c.status < 400
    )
    found: dict[int, list[Mapping[str, int]]] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            found.setdefault(row.version, []).append(row.latency)
    return found


def _from(parts: Sequence[Mapping[str, int]], limit_ms: float | None) -> Latency:
    return from_buckets({str(edge): n for edge, n in merged(parts).items()}, limit_ms)
