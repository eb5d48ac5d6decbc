"""Days of predictions with known truth, and labels for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy.engine import Engine

from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.store import predictions
from tasks.store.labels import labels_record
from tests.make import make_spec

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
LABELLED = {"column": "churned", "maturity": "2d"}


def day(number: int) -> Window:
    return Window(T0 + number * DAY, T0 + (number + 1) * DAY)


def spec_with(source: dict[str, Any] | None = None, **over: Any) -> ModelSpec:
    label = LABELLED | ({"source": source} if source else {})
    return make_spec(label=label, window={"training": "28d", "check": "1d"}, **over)


def serve(engine: Engine, number: int, *, rows: int = 100, version: int = 1) -> tuple[list[str], np.ndarray]:
    """Log one day of predictions with a true AUC of about 0.9; return keys and true labels."""
    rng = np.random.default_rng(number)
    y = (rng.random(rows) < 0.4).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(size=rows) + 1.8 * y - 1)))
    keys = [f"d{number}-{row}" for row in range(rows)]
    frame = pd.DataFrame(
        {
            "prediction_id": [f"id-{key}" for key in keys],
            "row_key": keys,
            "event_time": [day(number).start + DAY * row / rows for row in range(rows)],
            "prediction": (p > 0.5).astype(int),
            "score": np.column_stack([1 - p, p]).tolist(),
        }
    )
    predictions.log(engine, frame, model="churn", version=version, served_at=day(number).end)
    return keys, y


def label(engine: Engine, keys: list[str], y: Any, known_at: datetime, **over: Any) -> int:
    return labels_record(engine, "churn", pd.DataFrame({"row_key": keys, "label": y}), known_at, **over)
