"""What the log keeps of one version's answers, and what the caller gets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from serving.holder import Served
from serving.rollout import Route
from tasks.core.data.masking import masked_inputs
from tasks.core.data.rows import joined_text
from tasks.core.spec import ModelSpec
from tasks.core.window import utc

Answer = dict[str, Any]  # Any: JSON


def told(served: Served, request_id: str, answers: Sequence[Answer], *, partner: int | None = None) -> bytes:
    """Return the answer to a request as JSON; numbers come back from it to the last bit.

    `partner` is the version that had half the vote; None: `served` answered alone.
    """
    whole = {
        "request_id": request_id,
        "model": served.name,
        "version": served.version,
        "partner": partner,
        "answers": answers,
    }
    return orjson.dumps(whole)


def records_of(
    served: Served,
    rows: Sequence[Mapping[str, Any]],  # Any: checked values
    answers: Sequence[Answer],
    *,
    request_id: str,
    at: datetime,
    latency_ms: float,
    key: bytes,
    route: Route = "champion",
    partner: int | None = None,
) -> list[dict[str, Any]]:  # Any: column values
    """Return what the log keeps: one record per row, sensitive features as keyed hashes, never in clear.

    A row without a key of its own is known by its prediction id; one without a timestamp counts as now.
    """
    spec, found = served.spec, []
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        identity = f"{request_id}/{index}"
        given, moment = _key_of(spec, row), row.get(spec.source.timestamp)
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
                "request_id": request_id,
                "route": route,
                "status": 200,
                "partner": partner,
            }
        )
    return found


def _key_of(spec: ModelSpec, row: Mapping[str, Any]) -> Any:  # Any: checked values
    """Return the row's key as given, or joined of the columns it is made of; None where there is none."""
    given = row.get(spec.source.key)
    if given is not None or isinstance(spec.source.identity, str):
        return given
    parts = {name: row.get(name) for name in spec.key_parts}
    if not parts or any(part is None for part in parts.values()):
        return None
    if spec.source.timestamp in parts:
        parts[spec.source.timestamp] = datetime.fromisoformat(str(parts[spec.source.timestamp]))
    return joined_text(parts.values())


def masked(served: Served, row: Mapping[str, Any], key: bytes) -> dict[str, Any]:  # Any: checked values
    """Return the features as they may be kept: a sensitive one as the hash that the reference has of it."""
    return masked_inputs(served.spec.features, row, key)
