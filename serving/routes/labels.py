"""Labels in: what really happened, told by whoever knows it, joined to what was predicted."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from prometheus_client import Counter as Metric
from sqlalchemy.exc import SQLAlchemyError

from serving.body import read_json
from serving.given_labels import MOST_LABELS, check_labels
from serving.service import Service
from tasks.core.errors import StoreError
from tasks.store.told import hear_told

_WANTED = f'{{"labels": [{{"prediction_id": …, "label": …}}, …]}} with 1 to {MOST_LABELS} labels'


def routes(service: Service) -> APIRouter:
    """Return the route that takes labels."""
    router = APIRouter()
    heard_of = Metric(
        "evergreen_labels",
        "Labels that callers told, by what became of them.",
        ["model", "outcome"],
        registry=service.metrics.registry,
    )

    @router.post("/labels/{model}", openapi_extra={"requestBody": _BODY})
    async def hear(model: str, request: Request) -> dict[str, Any]:  # Any: JSON
        """Keep labels; the answer comes once they are kept.

        Each label is for one prediction (`prediction_id`, or `request_id` with `index`), for the predictions
        of a `key` at its `event_time`, or for all of a `key`. A label told again changes nothing; a different
        one is a correction, and the history keeps both.
        """
        served, now = service.served(model), datetime.now(UTC)
        given = await read_json(request)
        items = given.get("labels") if isinstance(given, dict) and len(given) == 1 else None
        if not isinstance(items, list) or not 1 <= len(items) <= MOST_LABELS:
            raise HTTPException(422, f"the body has to be {_WANTED}")
        told = check_labels(items, classes=served.classes, now=now)
        try:
            found = await asyncio.to_thread(hear_told, service.engine, model, told, now=now)
        except (StoreError, SQLAlchemyError) as err:
            why = "the store of labels does not answer; ask again, a label told twice counts once"
            raise HTTPException(503, why, {"Retry-After": "1"}) from err
        counts = Counter(one.outcome for one in found)
        for outcome, number in counts.items():
            heard_of.labels(model, outcome).inc(number)
        shown = [
            {"outcome": one.outcome} | ({"problem": one.problem} if one.problem else {}) for one in found
        ]
        return {"model": model, "counts": dict(counts), "labels": shown}

    return router


_TEXT, _TIME = {"type": "string", "maxLength": 1000}, {"type": "string", "format": "date-time"}
_ITEM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["label"],
    "properties": {
        "prediction_id": _TEXT,
        "request_id": _TEXT,
        "index": {"type": "integer", "minimum": 0, "description": "Place of the row in its request."},
        "key": {"anyOf": [_TEXT, {"type": "integer"}]},
        "event_time": _TIME,
        "label": {"description": "A class that the champion knows, or a number for a regressor."},
        "known_at": _TIME | {"description": "Default: now."},
    },
}
_LIST = {"type": "array", "minItems": 1, "maxItems": MOST_LABELS, "items": _ITEM}
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["labels"],
                "properties": {"labels": _LIST},
            },
            "example": {"labels": [{"key": "customer-17", "label": 1, "known_at": "2026-05-12T08:00:00Z"}]},
        }
    },
}
