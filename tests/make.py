"""Small specs and frames for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.spec import ModelSpec, parse_spec

START = datetime(2026, 1, 5, tzinfo=UTC)


def spec_block(**over: Any) -> dict[str, Any]:
    """Return a model block as YAML gives it; keyword arguments replace whole sections."""
    block: dict[str, Any] = {
        "name": "churn",
        "task": "classification",
        "source": {
            "url": "sqlite:///customers.db",
            "table": "customer_events",
            "key": "event_id",
            "timestamp": "event_time",
        },
        "label": {"column": "churned", "maturity": "2d"},
        "features": {"numeric": ["tenure", "spend"], "categorical": ["plan", "region"]},
        "contract": {"spend": {"ge": 0}, "plan": {"isin": ["basic", "pro", "team"]}, "max_bad_share": 0.01},
        "estimator": {
            "class": "sklearn.ensemble.HistGradientBoostingClassifier",
            "params": {"max_iter": 30, "max_leaf_nodes": 8},
        },
        "window": {"training": "28d", "check": "7d"},
        "metric": "roc_auc",
        "retrain": {"min_new_rows": 100, "cooldown": "1d"},
    }
    return {**block, **over}


def make_spec(**over: Any) -> ModelSpec:
    """Return a valid spec; keyword arguments replace whole sections."""
    return parse_spec(spec_block(**over))


def make_frame(rows: int = 1000, *, seed: int = 0, start: datetime = START, days: float = 28) -> pd.DataFrame:
    """Return learnable rows for `make_spec`: unique keys, rising times, about a third churned."""
    rng = np.random.default_rng(seed)
    tenure = rng.gamma(2.0, 12.0, rows)
    spend = rng.lognormal(3.0, 0.6, rows)
    plan = rng.choice(["basic", "pro", "team"], rows, p=[0.5, 0.3, 0.2])
    region = rng.choice(["north", "south", "east", "west"], rows)
    logit = 0.4 - 0.06 * tenure + 0.03 * spend - 0.8 * (plan == "team") + 0.3 * (region == "south")
    churned = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    times = [start + timedelta(days=days * i / rows) for i in range(rows)]
    return pd.DataFrame(
        {
            "event_id": [f"e{seed}-{i:06d}" for i in range(rows)],
            "event_time": pd.to_datetime(times, utc=True),
            "tenure": tenure,
            "spend": spend,
            "plan": plan,
            "region": region,
            "churned": churned,
        }
    )
