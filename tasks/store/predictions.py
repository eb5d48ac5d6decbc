"""Every prediction that was served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import ContractError
from tasks.core.window import Window, utc
from tasks.store.engine import insert_new, reading, writing
from tasks.store.frames import frame_of, require, values_of
from tasks.store.labels import in_window, labels_record, matured
from tasks.store.schema import predictions

__all__ = ["LOG_COLUMNS", "labels_record", "log", "matured", "read", "read_keys"]

LOG_COLUMNS = ("prediction_id", "row_key", "event_time", "prediction", "score")


def log(
    engine: Engine,
    rows: pd.DataFrame,
    *,
    model: str,
    version: int,
    served_at: datetime,
    inputs: Sequence[Mapping[str, Any]] | None = None,  # Any: masked feature values
    latency_ms: float | None = None,
    route: str | None = None,
    partner: int | None = None,
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
        route: the way it was asked for: champion, canary or batch.
        partner: the version that had half the vote; None: `version` answered alone.

    Raises:
        ContractError: when a column is missing, event times carry no zone, or inputs do not match the rows.
    """
    require(rows, LOG_COLUMNS, model)
    if inputs is not None and len(inputs) != len(rows):
        raise ContractError(f"{len(inputs)} inputs for {len(rows)} predictions", "one per row", model=model)
    common = {"model": model, "version": int(version), "served_at": utc(served_at), "latency_ms": latency_ms}
    common |= {"route": route, "partner": partner}
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
            values_of(rows["prediction"]),
            values_of(rows["score"]),
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
        .where(*in_window(model, window))
        .order_by(predictions.c.event_time, predictions.c.prediction_id)
    )
    if version is not None:
        query = query.where(predictions.c.version == version)
    with reading(engine) as connection:
        return frame_of(connection, query, ["event_time", "served_at"])


def read_keys(engine: Engine, model: str, window: Window) -> pd.DataFrame:
    """Return prediction_id and row_key, both text, of the predictions whose event lies in the window."""
    query = sa.select(predictions.c.prediction_id, predictions.c.row_key).where(*in_window(model, window))
    with reading(engine) as connection:
        return frame_of(connection, query, [])


_READ = (
    *("prediction_id", "row_key", "event_time", "served_at"),
    *("version", "prediction", "score", "latency_ms"),
)


def _moments(column: pd.Series, model: str) -> list[datetime]:
    times = pd.DatetimeIndex(pd.to_datetime(column)) if len(column) else pd.DatetimeIndex([], tz="UTC")
    if times.tz is None or times.hasnans:
        found = "missing event times" if times.hasnans else "event times without a zone"
        raise ContractError(found, "aware datetimes", "convert event_time to UTC first", model=model)
    return list(times.tz_convert("UTC").floor("us").to_pydatetime())
