"""How the app is: alive, ready, serving what, in numbers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serving.holder import Holder
from serving.rollout import Rollout
from serving.service import Service


def routes(service: Service) -> APIRouter:
    """Return the routes that tell how the app is."""
    router = APIRouter()

    @router.get("/health")
    def health() -> dict[str, str]:
        """Say that the process lives, whatever it can serve."""
        return {"status": "ok"}

    @router.get("/ready")
    def ready() -> JSONResponse:
        """Say whether every model has a version that answers; `warnings` keep nobody from it."""
        lacking = {name: one.trouble for name, one in service.holders.items() if one.current is None}
        if not service.recorder.is_alive:
            lacking["prediction log"] = "it has ended; start the app again"
        warnings = {name: one.partner_trouble for name, one in service.holders.items() if one.partner_trouble}
        told = {"ready": not lacking, "waiting_for": lacking, "warnings": warnings}
        return JSONResponse(told, 503 if lacking else 200)

    @router.get("/models")
    def models() -> list[dict[str, Any]]:
        """Say which version of each model answers, and what keeps a newer one from it."""
        return [_described(one, service.rollouts[one.name]) for one in service.holders.values()]

    @router.get("/metrics", response_class=PlainTextResponse)
    def numbers() -> Response:
        """Give the numbers that Prometheus reads."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _described(holder: Holder, rollout: Rollout) -> dict[str, Any]:  # Any: JSON
    served = holder.current
    if served is None:
        return {
            "model": holder.name,
            "version": None,
            "partner": None,
            "trouble": holder.trouble,
            "warning": "",
            "rollout": None,
        }
    return {
        "model": holder.name,
        "version": served.version,
        "partner": served.partner.version if served.partner else None,
        "digest": served.digest,
        "promise": served.manifest.promise.value,
        "metric": served.manifest.promise.metric,
        "trouble": holder.trouble,
        "warning": holder.warning,
        "rollout": rollout.described(),
    }
