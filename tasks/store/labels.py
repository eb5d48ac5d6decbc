"""Labels as they became known, corrections included, and the predictions they belong to.

A label stands for one prediction (its id), for the predictions of one event (key and time) or for every one
of a key. A prediction takes the most specific of those that fit it, and of these the one known last; of
labels known at the same moment the one recorded last. Nothing is ever overwritten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import Window, utc
from tasks.store.engine import reading, writing
from tasks.store.frames import frame_of, require, values_of
from tasks.store.schema import labels, predictions

Heard = Literal["new", "corrected", "same", "outdated"]
_CHUNK = 5_000  # keys per query, below the bound-parameter limits of both databases
_MATURED = ("prediction_id", "row_key", "event_time", "version", "prediction", "score")


@dataclass(frozen=True)
class Label:
    """A label, what it is for, and since when it is known.

    `row_key` is that of the prediction also where `prediction_id` names a single one.
    """

    row_key: str
    label: Any  # Any: text, a number or a boolean
    known_at: datetime
    prediction_id: str | None = None
    event_time: datetime | None = None

    @property
    def target(self) -> _Target:
        """What the label is for."""
        return self.row_key, self.prediction_id, self.event_time


_Target = tuple[str, str | None, datetime | None]
_Known = list[tuple[datetime, Any]]  # Any: labels may be of any type


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
    with writing(engine, lock=f"labels:{model}") as connection:
        known = _history(connection, model, {one.row_key for one in given})
        found, news = [], []
        for one in given:
            heard = _heard(known[one.target], one)
            found.append(heard)
            if heard == "same":
                continue
            _learn(known[one.target], one)
            news.append(_row(one) | {"model": model, "source": source, "heard_at": utc(heard_at)})
        if news:
            connection.execute(labels.insert(), news)
    return found


def labels_record(
    engine: Engine, model: str, frame: pd.DataFrame, known_at: datetime, *, source: str = "fetch"
) -> int:
    """Return how many labels were new or differed from what was known when they became known.

    A label that was known already is not written again, a different one is appended as a correction; rows
    without a label are left out. A window recorded again with an older `known_at` corrects what was known
    then, not what was learned since.

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
    )


def in_window(model: str, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions that a prediction is of this model and its event in the window."""
    moment = predictions.c.event_time
    return (predictions.c.model == model, moment >= window.start, moment < window.end)


def _history(connection: Connection, model: str, keys: Iterable[str]) -> dict[_Target, _Known]:
    """Return what is known of these keys, by what it is for, oldest first."""
    known: dict[_Target, _Known] = defaultdict(list)
    wanted, c = sorted(keys), labels.c
    for start in range(0, len(wanted), _CHUNK):
        query = (
            sa.select(c.row_key, c.prediction_id, c.event_time, c.known_at, c.label)
            .where(c.model == model, c.row_key.in_(wanted[start : start + _CHUNK]))
            .order_by(c.known_at, c.id)
        )
        for row in connection.execute(query):
            known[row.row_key, row.prediction_id, row.event_time].append((row.known_at, row.label))
    return known


def _heard(known: _Known, one: Label) -> Heard:
    then = [label for at, label in known if at <= one.known_at]
    if then and _same(then[-1], one.label):
        return "same"
    if len(then) < len(known):
        return "outdated"
    return "corrected" if then else "new"


def _same(one: Any, other: Any) -> bool:  # Any: labels may be of any type
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _learn(known: _Known, one: Label) -> None:
    place = sum(at <= one.known_at for at, _ in known)
    known.insert(place, (one.known_at, one.label))


def _row(one: Label) -> dict[str, Any]:  # Any: column values
    return {
        "row_key": one.row_key,
        "label": one.label,
        "known_at": one.known_at,
        "prediction_id": one.prediction_id,
        "event_time": one.event_time,
    }
