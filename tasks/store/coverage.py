"""How many predictions have met a label, how soon, and which labels are news to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.window import Window, utc
from tasks.store.engine import reading
from tasks.store.frames import frame_of
from tasks.store.labels import fits, in_window
from tasks.store.schema import labels, predictions


@dataclass(frozen=True)
class Coverage:
    """Predictions of a window, and what became of their labels.

    `corrected` are predictions whose label was told in two ways, `unmatched` keys with labels that no
    prediction has. `delays` are seconds from each event to the first label it got, in no order.
    """

    predictions: int
    labelled: int
    corrected: int
    unmatched: int
    delays: np.ndarray


def coverage(
    engine: Engine, model: str, window: Window, *, as_of: datetime, maturity: timedelta = timedelta()
) -> Coverage:
    """Return how far the predictions of the window were labelled at `as_of`.

    Labels without a prediction have no event in the window; those count whose own time of the event lies in
    it, or that became known in the window moved on by `maturity`.
    """
    moment = utc(as_of)
    count = sa.select(sa.func.count()).select_from(predictions).where(*in_window(model, window))
    text = sa.cast(labels.c.label, sa.Text)
    first = (
        sa.select(
            predictions.c.event_time,
            sa.func.min(labels.c.known_at, type_=labels.c.known_at.type).label("known_at"),
            (sa.func.min(text) != sa.func.max(text)).label("is_corrected"),
        )
        .select_from(predictions.join(labels, fits()))
        .where(*in_window(model, window), labels.c.known_at <= moment)
        .group_by(predictions.c.prediction_id, predictions.c.event_time)
    )
    with reading(engine) as connection:
        served = int(connection.execute(count).scalar_one())
        found = frame_of(connection, first, ["event_time", "known_at"])
        unmatched = int(connection.execute(_unmatched(model, window, maturity, moment)).scalar_one())
    delays = (found["known_at"] - found["event_time"]) / pd.Timedelta("1s")
    return Coverage(
        predictions=served,
        labelled=len(found),
        corrected=int(found["is_corrected"].astype(bool).sum()),
        unmatched=unmatched,
        delays=delays.to_numpy(dtype=float),
    )


def heard_of(
    engine: Engine, model: str, windows: Sequence[Window], *, version: int | None, as_of: datetime
) -> list[int]:
    """Return, for each window, how many labels this version's predictions had got by `as_of`.

    Corrections count, and nothing is ever taken back: as long as the number stands, nothing is new.
    """
    found = []
    with reading(engine) as connection:
        for window in windows:
            query = (
                sa.select(sa.func.count())
                .select_from(predictions.join(labels, fits()))
                .where(*in_window(model, window), labels.c.known_at <= utc(as_of))
            )
            if version is not None:
                query = query.where(predictions.c.version == version)
            found.append(int(connection.execute(query).scalar_one()))
    return found


def unseen_by_training(
    engine: Engine,
    model: str,
    reach: Window,
    *,
    trained_until: datetime,
    maturity: timedelta,
    as_of: datetime,
) -> int:
    """Return how many rows with a prediction have a matured label that the last training has not seen.

    Those are rows of `reach` (what a training would take now) whose event came at or after `trained_until`,
    and those before it whose label a caller told us only after that training. A row that was predicted twice
    counts once. When we fetched a label says nothing of when the source had it, so fetched ones count by
    their event alone.
    """
    seen_at = utc(trained_until) + maturity
    told_late = sa.func.min(sa.case((labels.c.source == "api", labels.c.known_at), else_=sa.null()))
    told_late.type = labels.c.known_at.type
    fetched = sa.func.count(sa.case((sa.func.coalesce(labels.c.source, "fetch") != "api", 1)))
    rows = (
        sa.select(predictions.c.row_key)
        .select_from(predictions.join(labels, fits()))
        .where(*in_window(model, reach), labels.c.known_at <= utc(as_of))
        .group_by(predictions.c.row_key)
        .having(
            sa.or_(
                sa.func.max(predictions.c.event_time, type_=predictions.c.event_time.type)
                >= utc(trained_until),
                sa.and_(fetched == 0, told_late > seen_at),
            )
        )
    )
    with reading(engine) as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(rows.subquery())).scalar_one())


def unlabelled_since(engine: Engine, model: str, span: Window, *, as_of: datetime) -> datetime | None:
    """Return the time of the oldest event of the span whose prediction has no label; None: all have one."""
    has_label = sa.exists().where(fits(), labels.c.known_at <= utc(as_of))
    query = sa.select(sa.func.min(predictions.c.event_time, type_=predictions.c.event_time.type)).where(
        *in_window(model, span), ~has_label
    )
    with reading(engine) as connection:
        found: datetime | None = connection.execute(query).scalar_one()
    return found


def _unmatched(model: str, window: Window, maturity: timedelta, as_of: datetime) -> sa.Select[tuple[int]]:
    is_served = sa.exists().where(
        predictions.c.model == labels.c.model, predictions.c.row_key == labels.c.row_key
    )
    dated = sa.and_(labels.c.event_time >= window.start, labels.c.event_time < window.end)
    heard = sa.and_(
        labels.c.event_time.is_(None),
        labels.c.known_at > window.start + maturity,
        labels.c.known_at <= window.end + maturity,
    )
    return sa.select(sa.func.count(sa.distinct(labels.c.row_key))).where(
        labels.c.model == model, labels.c.known_at <= as_of, sa.or_(dated, heard), ~is_served
    )
