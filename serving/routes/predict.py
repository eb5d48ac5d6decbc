"""Rows in, answers out, each on record before it is given."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from serving.answer import answers_to, records_of
from serving.body import read_rows
from serving.service import Service
from tasks.core.errors import StoreError


def routes(service: Service) -> APIRouter:
    """Return the route that predicts."""
    router = APIRouter()

    @router.post("/predict/{model}")
    async def answer(model: str, request: Request) -> dict[str, Any]:
        """Predict rows; the answer comes once it is on record."""
        served = service.served(model)
        given = await read_rows(request)
        arrived, began = datetime.now(UTC), time.perf_counter()
        rows = served.checker.check(given)
        found = await asyncio.to_thread(answers_to, served, rows)
        identity, took = str(uuid.uuid4()), (time.perf_counter() - began) * 1000
        kept = records_of(
            served, rows, found, request_id=identity, at=arrived, latency_ms=took, key=service.key
        )
        try:
            await asyncio.wrap_future(service.recorder.record(kept))
        except StoreError as err:
            raise HTTPException(503, str(err), {"Retry-After": "1"}) from err
        service.metrics.predicted(model, served.version, len(rows))
        return {"request_id": identity, "model": model, "version": served.version, "answers": found}

    return router
