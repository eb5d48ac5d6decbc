"""One prediction of the log, found by what its caller was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.store.engine import reading
from tasks.store.schema import predictions


@dataclass(frozen=True)
class Asked:
    """A prediction as it stands in the log; `inputs` have hashes for sensitive values, None: not kept."""

    model: str
    prediction_id: str
    version: int
    event_time: datetime
    served_at: datetime
    prediction: Any  # Any: a label of any type, or a number
    score: Any  # Any: probabilities, or None
    inputs: Mapping[str, Any] | None  # Any: JSON scalars
    latency_ms: float | None
    route: str | None
    partner: int | None = None  # the version that had half the vote


def find_asked(engine: Engine, model: str, named: str) -> Asked | None:
    """Return the prediction of this id, or the first one of the request of this id; None where is none."""
    columns = [predictions.c[name] for name in Asked.__dataclass_fields__]
    by_id = predictions.c.prediction_id.in_([named, f"{named}/0"])
    query = sa.select(*columns).where(predictions.c.model == model, by_id)
    with reading(engine) as connection:
        found = [Asked(**row) for row in connection.execute(query).mappings()]
    return min(found, key=lambda one: len(one.prediction_id)) if found else None
