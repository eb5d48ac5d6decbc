"""Every prediction that was served, and the labels that became known later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.errors import ContractError
from tasks.core.window import Window, utc
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import labels, plain, predictions

LOG_COLUMNS = ("prediction_id", "row_key", "event_time", "prediction", "score")
_CHUNK = 5_000  # keys per query, below the bound-parameter limits of both databases


def log(
    engine: Engine,
    rows: pd.DataFrame,
    *,
    model: str,
    version: int,
    served_at: datetime,
    inputs: Sequence[Mapping[str, Any]] | None = None,  # Any: masked feature values
    latency_ms: float | None = None,
) -> int:
    """Return how many of the predictions were new; all of them are in the store when this returns.

    Args:
        engine: the store.
        rows: one per prediction; columns prediction_id, row_key, event_time (aware), prediction, and score (a
            list of class probabilities, or None). An id that was logged before keeps its first prediction.
        model: name of the model.
        version: the version that answered.
        served_at: when it answered.
        inputs: the features of each row as they may be stored, sensitive ones already masked.
        latency_ms: how long the answer took.

    Raises:
        ContractError: when a column is missing, event times carry no zone, or inputs do not match the rows.
    """
    _require(rows, LOG_COLUMNS, model)
    if inputs is not None and len(inputs) != len(rows):
        raise ContractError(f"{len(inputs)} inputs for {len(rows)} predictions", "one per row", model=model)
    common = {"model": model, "version": int(version), "served_at": utc(served_at), "latency_ms": latency_ms}
    records = [
        {
            **common,
            "prediction_id": str(prediction_id),
            "row_key": str(row_key),
            "event_time": moment,
            "prediction": prediction,
            "score": score,
            "inputs": given,
        }
        for prediction_id, row_key, moment, prediction, score, given in zip(
            rows["prediction_id"],
            rows["row_key"],
            _moments(rows["event_time"], model),
            _values(rows["prediction"]),
            _values(rows["score"]),
            inputs if inputs is not None else [None] * len(rows),
            strict=True,
        )
    ]
    with writing(engine) as connection:
        return insert_new(connection, predictions, records)


def read(
    engine: Engine, model: str, window: Window, *, version: int | None = None, with_inputs: bool = False
) -> pd.DataFrame:
    """Return the predictions whose event lies in the window, by event time.

    Columns: prediction_id, row_key, event_time, served_at, version, prediction, score, latency_ms, and inputs
    when asked for. No prediction gives an empty frame with these columns.
    """
    columns = [predictions.c[name] for name in _READ] + ([predictions.c.inputs] if with_inputs else [])
    query = (
        sa.select(*columns)
        .where(*_in_window(model, window))
        .order_by(predictions.c.event_time, predictions.c.prediction_id)
    )
    if version is not None:
        query = query.where(predictions.c.version == version)
    with reading(engine) as connection:
        return _frame(connection, query, ["event_time", "served_at"])


def labels_record(engine: Engine, model: str, frame: pd.DataFrame, known_at: datetime) -> int:
    """Return how many labels were new or differed from what was known at `known_at`.

    `frame` has one row per row_key, column label. A label that was known already is not written again, a
    different one is appended as a correction; rows without a label are left out. A window recorded again with
    an older `known_at` corrects what was known then, not what was learned since.

    Raises:
        ContractError: when a column is missing.
    """
    _require(frame, ("row_key", "label"), model)
    moment = utc(known_at)
    present = frame.loc[frame["label"].notna(), ["row_key", "label"]]
    given = dict(zip(present["row_key"].astype(str), _values(present["label"]), strict=True))
    with writing(engine, lock=f"labels:{model}") as connection:
        known = _known_labels(connection, model, list(given), moment)
        records = [
            {"model": model, "row_key": key, "label": label, "known_at": moment}
            for key, label in given.items()
            if key not in known or known[key] != label
        ]
        if records:
            connection.execute(labels.insert(), records)
    return len(records)


def matured(engine: Engine, model: str, window: Window, *, as_of: datetime | None = None) -> pd.DataFrame:
    """Return the predictions of the window whose label is known, each with its newest label.

    Columns: prediction_id, row_key, event_time, version, prediction, score, label. The newest label is the
    one known last, and among equals the one recorded last; with `as_of`, what was known later is not seen.
    """
    joined = predictions.join(
        labels,
        sa.and_(labels.c.model == predictions.c.model, labels.c.row_key == predictions.c.row_key),
    )
    newest_first = sa.func.row_number().over(
        partition_by=predictions.c.prediction_id, order_by=(labels.c.known_at.desc(), labels.c.id.desc())
    )
    columns = [*(predictions.c[name] for name in _MATURED), labels.c.label]
    ranked = sa.select(*columns, newest_first.label("age")).select_from(joined)
    ranked = ranked.where(*_in_window(model, window))
    if as_of is not None:
        ranked = ranked.where(labels.c.known_at <= utc(as_of))
    inner = ranked.subquery()
    query = (
        sa.select(*(inner.c[name] for name in (*_MATURED, "label")))
        .where(inner.c.age == 1)
        .order_by(inner.c.event_time, inner.c.prediction_id)
    )
    with reading(engine) as connection:
        return _frame(connection, query, ["event_time"])


_READ = (
    *("prediction_id", "row_key", "event_time", "served_at"),
    *("version", "prediction", "score", "latency_ms"),
)
_MATURED = ("prediction_id", "row_key", "event_time", "version", "prediction", "score")


def _in_window(model: str, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    moment = predictions.c.event_time
    return (predictions.c.model == model, moment >= window.start, moment < window.end)


def _known_labels(connection: Connection, model: str, keys: list[str], at: datetime) -> dict[str, Any]:
    # Read oldest first, so that the newest label of a key is the one that stays in the dict.
    known: dict[str, Any] = {}
    for start in range(0, len(keys), _CHUNK):
        query = (
            sa.select(labels.c.row_key, labels.c.label)
            .where(labels.c.model == model, labels.c.row_key.in_(keys[start : start + _CHUNK]))
            .where(labels.c.known_at <= at)
            .order_by(labels.c.known_at, labels.c.id)
        )
        known.update((row.row_key, row.label) for row in connection.execute(query))
    return known


def _frame(connection: Connection, query: sa.Select[Any], moments: list[str]) -> pd.DataFrame:
    result = connection.execute(query)
    frame = pd.DataFrame(result.all(), columns=list(result.keys()))
    for name in moments:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


def _values(column: pd.Series) -> list[Any]:  # Any: whatever the model predicts
    return [plain(value) for value in column.tolist()]


def _moments(column: pd.Series, model: str) -> list[datetime]:
    times = pd.DatetimeIndex(pd.to_datetime(column)) if len(column) else pd.DatetimeIndex([], tz="UTC")
    if times.tz is None or times.hasnans:
        found = "missing event times" if times.hasnans else "event times without a zone"
        raise ContractError(found, "aware datetimes", "convert event_time to UTC first", model=model)
    return list(times.tz_convert("UTC").floor("us").to_pydatetime())


def _require(frame: pd.DataFrame, columns: Sequence[str], model: str) -> None:
    lacking = [name for name in columns if name not in frame.columns]
    if lacking:
        raise ContractError(f"rows without {lacking}", f"columns {list(columns)}", model=model)
