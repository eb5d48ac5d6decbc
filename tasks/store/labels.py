"""Labels as they became known, corrections included, and the predictions they belong to.

A label stands for one prediction (its id), for the predictions of one event (key and time) or for every one
of a key. A prediction takes the most specific of those that fit it, and of these the one known last; of
labels known at the same moment the one recorded last. A label that a caller told of a key is not for events
after it was known. Nothing is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from tasks.core.window import Window, utc
from tasks.store.engine import reading, writing
from tasks.store.frames import frame_of, require, values_of
from tasks.store.known_labels import Heard, Label, Nearby
from tasks.store.schema import UtcDateTime, labels, predictions

__all__ = [
    "AHEAD",
    "Heard",
    "Label",
    "fits",
    "hear",
    "in_window",
    "labels_record",
    "matured",
    "standing_labels",
]

AHEAD = timedelta(minutes=1)
"""How far before its event a label may be known by a caller's clock; our choice."""
_MATURED = ("prediction_id", "row_key", "event_time", "version", "prediction", "score")


def hear(
    engine: Engine, model: str, given: Sequence[Label], *, source: str, heard_at: datetime
) -> list[Heard]:
    """Return what each label was to us; in the store when this returns is every one that was news.

    `same`: what was known at its `known_at` already, nothing is written. `outdated`: it differs from what was
    known then, and is kept, but something newer is known since. Labels of one call are taken in their order.

    Args:
        engine: the store.
        model: name of the model.
        given: the labels.
        source: who told, `api` or `fetch`.
        heard_at: when we were told.
    """
    nearby = Nearby(model, given)
    with reading(engine) as connection:
        nearby.read(connection)
    with writing(engine, lock=f"labels:{model}") as connection:
        nearby.catch_up(connection)
        found = [nearby.hear(one) for one in given]
        told = {"model": model, "source": source, "heard_at": utc(heard_at)}
        news = [_row(one) | told for one, heard in zip(given, found, strict=True) if heard != "same"]
        if news:
            connection.execute(labels.insert(), news)
    return found


def labels_record(
    engine: Engine, model: str, frame: pd.DataFrame, known_at: datetime, *, source: str = "fetch"
) -> int:
    """Return how many labels were new or differed from what was known when they became known.

    A label that was known already is not written again, a different one is appended as a correction; rows
    without a label are left out. A window recorded again with an older `known_at` corrects what was known
    then, not what was learned since; that a label was confirmed in between is not kept.

    Args:
        engine: the store.
        model: name of the model.
        frame: columns row_key and label; optional prediction_id (the label is for that one alone) and
            known_at (aware; null: the argument's, and none is later than it).
        known_at: when labels without a time of their own became known.
        source: who told.

    Raises:
        ContractError: when a column is missing.
    """
    require(frame, ("row_key", "label"), model)
    moment = utc(known_at)
    present = frame[frame["label"].notna()]
    size = len(present)
    ids = present["prediction_id"].tolist() if "prediction_id" in present else [None] * size
    times: list[Any] = [moment] * size
    if "known_at" in present:
        given = pd.to_datetime(present["known_at"], utc=True).dt.floor("us")
        times = [moment if pd.isna(at) else min(at.to_pydatetime(), moment) for at in given]
    keys = present["row_key"].astype(str).tolist()
    rows = {  # of labels of one moment the last counts
        (key, one, at): Label(key, label, at, prediction_id=one)
        for key, one, label, at in zip(keys, ids, values_of(present["label"]), times, strict=True)
    }
    heard = hear(engine, model, list(rows.values()), source=source, heard_at=moment)
    return sum(one != "same" for one in heard)


def matured(engine: Engine, model: str, window: Window, *, as_of: datetime | None = None) -> pd.DataFrame:
    """Return the predictions of the window whose label is known, each with the label that stands for it.

    Columns: prediction_id, row_key, event_time, version, prediction, score, label. With `as_of`, what was
    known later is not seen.
    """
    standing = standing_labels(model, window, as_of=as_of)
    query = (
        sa.select(*(predictions.c[name] for name in _MATURED), labels.c.label)
        .select_from(standing)
        .join(labels, labels.c.id == standing.c.label_id)
        .join(
            predictions,
            sa.and_(predictions.c.model == model, predictions.c.prediction_id == standing.c.prediction_id),
        )
        .order_by(predictions.c.event_time, predictions.c.prediction_id)
    )
    with reading(engine) as connection:
        return frame_of(connection, query, ["event_time"])


def standing_labels(model: str, window: Window, *, as_of: datetime | None = None) -> sa.Subquery:
    """Return the query of columns prediction_id and label_id: which label stands for each prediction."""
    specific = sa.case(
        (labels.c.prediction_id.is_not(None), 2), (labels.c.event_time.is_not(None), 1), else_=0
    )
    best_first = sa.func.row_number().over(
        partition_by=predictions.c.prediction_id,
        order_by=(specific.desc(), labels.c.known_at.desc(), labels.c.id.desc()),
    )
    ranked = (
        sa.select(predictions.c.prediction_id, labels.c.id.label("label_id"), best_first.label("place"))
        .select_from(predictions.join(labels, fits()))
        .where(*in_window(model, window))
    )
    if as_of is not None:
        ranked = ranked.where(labels.c.known_at <= utc(as_of))
    inner = ranked.subquery()
    return sa.select(inner.c.prediction_id, inner.c.label_id).where(inner.c.place == 1).subquery()


def fits() -> sa.ColumnElement[bool]:
    """Return the condition that a label is for a prediction; both tables have to be in the query."""
    return sa.and_(
        labels.c.model == predictions.c.model,
        labels.c.row_key == predictions.c.row_key,
        sa.or_(labels.c.prediction_id.is_(None), labels.c.prediction_id == predictions.c.prediction_id),
        sa.or_(labels.c.event_time.is_(None), labels.c.event_time == predictions.c.event_time),
        # What was fetched was fetched for its predictions, and may tell no more than the day.
        sa.or_(
            sa.func.coalesce(labels.c.source, "fetch") != "api",
            labels.c.known_at >= _Earlier(predictions.c.event_time),
        ),
    )


def in_window(model: str, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions that a prediction is of this model and its event in the window."""
    moment = predictions.c.event_time
    return (predictions.c.model == model, moment >= window.start, moment < window.end)


class _Earlier(FunctionElement[datetime]):
    """The moment `AHEAD` before another."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(_Earlier)
def _in_postgres(element: _Earlier, compiler: Any, **kwargs: Any) -> str:  # Any: SQLAlchemy's own
    moment = compiler.process(element.clauses, **kwargs)
    return f"({moment} - interval '{AHEAD.total_seconds():.0f} seconds')"


@compiles(_Earlier, "sqlite")
def _in_sqlite(element: _Earlier, compiler: Any, **kwargs: Any) -> str:  # Any: SQLAlchemy's own
    moment = compiler.process(element.clauses, **kwargs)
    return f"strftime('%Y-%m-%d %H:%M:%f', {moment}, '-{AHEAD.total_seconds():.0f} seconds')"


def _row(one: Label) -> dict[str, Any]:  # Any: column values
    return {
        "row_key": one.row_key,
        "label": one.label,
        "known_at": one.known_at,
        "prediction_id": one.prediction_id,
        "event_time": one.event_time,
    }
