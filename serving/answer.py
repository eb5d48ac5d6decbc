"""Rows in, answers out: one version's predictions, and what the log keeps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from serving.holder import Served
from tasks.core.drift.counting.bins import mask
from tasks.core.model.pipeline import predict
from tasks.core.window import utc

Answer = dict[str, Any]  # Any: JSON


def answers_to(served: Served, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:  # Any: checked values
    """Return the prediction of each checked row, with the probability of every class where there are any."""
    names = served.checker.names
    frame = pd.DataFrame({name: [row[name] for row in rows] for name in names})
    for name in served.spec.features.numeric:
        frame[name] = frame[name].astype("float64")
    with threadpool_limits(1):  # one row is too little work to share
        said = predict(served.model, frame)
    labels = said.prediction.tolist()
    if said.probabilities is None:
        return [{"prediction": label} for label in labels]
    classes = [str(label) for label in served.classes or said.classes or ()]
    return [
        {"prediction": label, "probabilities": dict(zip(classes, given, strict=True))}
        for label, given in zip(labels, np.asarray(said.probabilities).tolist(), strict=True)
    ]


def records_of(
    served: Served,
    rows: Sequence[Mapping[str, Any]],  # Any: checked values
    answers: Sequence[Answer],
    *,
    request_id: str,
    at: datetime,
    latency_ms: float,
    key: bytes,
) -> list[dict[str, Any]]:  # Any: column values
    """Return what the log keeps: one record per row, sensitive features as keyed hashes, never in clear.

    A row without a key of its own is known by its prediction id; one without a timestamp counts as now.
    """
    spec, found = served.spec, []
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        identity = f"{request_id}/{index}"
        given, moment = row.get(spec.source.key), row.get(spec.source.timestamp)
        probabilities = answer.get("probabilities")
        found.append(
            {
                "model": served.name,
                "prediction_id": identity,
                "version": served.version,
                "row_key": str(given) if given is not None else identity,
                "event_time": utc(datetime.fromisoformat(moment)) if moment else at,
                "served_at": at,
                "prediction": answer["prediction"],
                "score": list(probabilities.values()) if probabilities else None,
                "inputs": masked(served, row, key),
                "latency_ms": latency_ms,
            }
        )
    return found


def masked(served: Served, row: Mapping[str, Any], key: bytes) -> dict[str, Any]:  # Any: checked values
    """Return the features as they may be kept."""
    sensitive = set(served.spec.features.sensitive)
    return {
        name: mask(name, str(row[name]), key) if name in sensitive and row[name] is not None else row[name]
        for name in served.checker.names
    }
