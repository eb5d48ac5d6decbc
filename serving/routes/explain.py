"""How one answer came about, for an admin."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from serving.body import read_json
from serving.explain import NotAsked, OtherInputs, explain, find, version_of
from serving.service import NoSuchModel, Service

_PATH = "/explain/{model}/{prediction_id:path}"
_MOST_BYTES = 256 * 1024  # of one row


def routes(service: Service) -> APIRouter:
    """Return the routes that retrace one answer."""
    router = APIRouter()

    @router.get(_PATH)
    async def told(model: str, prediction_id: str) -> dict[str, Any]:
        """Retrace one answer: inputs, every step, score, and whether it comes out the same again."""
        return await asyncio.to_thread(_explained, service, model, prediction_id, None)

    @router.post(_PATH)
    async def told_with(model: str, prediction_id: str, request: Request) -> dict[str, Any]:
        """Retrace one answer whose sensitive inputs the caller knows: `{"row": {field: value}}`."""
        given = await read_json(request, most_bytes=_MOST_BYTES)
        row = given.get("row") if isinstance(given, dict) and len(given) == 1 else None
        if not isinstance(row, dict):
            raise HTTPException(422, 'the body has to be {"row": {field: value, …}}')
        return await asyncio.to_thread(_explained, service, model, prediction_id, row)

    return router


def _explained(
    service: Service, model: str, prediction_id: str, given: Mapping[str, Any] | None
) -> dict[str, Any]:  # Any: JSON
    if model not in service.holders:
        raise NoSuchModel(f"no such model here; there are {sorted(service.holders)}")
    current = service.holders[model].current
    try:
        asked = find(model, prediction_id, service.settings)
        served = version_of(asked, current, service.settings)
        is_champion = current is not None and current.version == asked.version
        told = explain(asked, served, key=service.key, given=given, is_champion=is_champion)
    except NotAsked as err:
        raise HTTPException(404, str(err)) from err
    except OtherInputs as err:
        raise HTTPException(409, str(err)) from err
    return told.as_json()
