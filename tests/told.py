"""Predictions of known keys and days, and labels told of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pandas as pd
from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.store import predictions
from tasks.store.labels import Label, hear, matured
from tests.make import START

DAY = timedelta(days=1)
WEEK = Window(START, START + 7 * DAY)


def served(
    store: Engine, keys: Sequence[str], days: Sequence[float], *, model: str = "churn", version: int = 1
) -> None:
    """Log predictions p0, p1, … of these keys, whose events happened on these days."""
    rows = pd.DataFrame(
        {
            "prediction_id": [f"p{n}" for n in range(len(keys))],
            "row_key": list(keys),
            "event_time": pd.to_datetime([START + day * DAY for day in days], utc=True),
            "prediction": 0,
            "score": [[0.5, 0.5]] * len(keys),
        }
    )
    predictions.log(store, rows, model=model, version=version, served_at=START)


def tell(store: Engine, *labels: Label, model: str = "churn", source: str = "api") -> list[str]:
    return list(hear(store, model, labels, source=source, heard_at=START + 30 * DAY))


def standing(store: Engine, **over: Any) -> dict[str, Any]:
    frame = matured(store, "churn", WEEK, **over)
    return dict(zip(frame["prediction_id"], frame["label"], strict=True))
