"""The HTTP app: several models in one process, each answered by its champion, each answer on record."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from serving.access import Access
from serving.answer import answers_to, records_of
from serving.holder import Holder, Served
from serving.metrics import Counted, Metrics
from serving.record import Recorder
from serving.request import MOST_ROWS, BadRows
from tasks.core.errors import StoreError
from tasks.settings import Settings
from tasks.store.engine import open_store

MOST_BYTES = 4 * 1024**2  # of a request's body; our choice: a thousand wide rows fit


class Rows(BaseModel):
    """Rows to predict, each an object of fields by name."""

    model_config = ConfigDict(extra="forbid")
    rows: list[dict[str, Any]] = Field(
        min_length=1, max_length=MOST_ROWS
    )  # Any: checked by the champion's spec


def create_app(
    names: Iterable[str],
    settings: Settings,
    *,
    poll_seconds: float = 1.0,
    open_without_keys: bool = True,
    per_minute: int = 0,
) -> FastAPI:
    """Return the app that serves these models.

    Nothing is loaded before the app starts; from then on every model is looked at each `poll_seconds`.

    Args:
        names: registered models.
        settings: this place.
        poll_seconds: how often to look for a new champion.
        open_without_keys: whether everything is open while no key exists; only for an app on loopback.
        per_minute: requests that one caller may make in a minute; 0 sets no limit.
    """
    holders = {name: Holder(name, settings) for name in names}
    metrics = Metrics(holders)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        recorder, over = Recorder(open_store(settings)), threading.Event()
        app.state.recorder, app.state.key = recorder, settings.masking_key()
        metrics.watch(recorder)
        await asyncio.to_thread(_look, holders)
        watcher = threading.Thread(target=_watch, args=(holders, over, poll_seconds), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            await asyncio.to_thread(recorder.close)

    app = FastAPI(title="Evergreen", lifespan=life, openapi_url="/openapi.json")
    app.state.holders, app.state.metrics = holders, metrics
    app.add_middleware(
        Access, engine=open_store(settings), open_without_keys=open_without_keys, per_minute=per_minute
    )
    app.add_middleware(Counted, metrics=metrics)  # the outermost layer: what Access refuses is counted too
    app.add_exception_handler(BadRows, _unprocessable)

    @app.get("/health")
    def health() -> dict[str, str]:
        """Say that the process lives, whatever it can serve."""
        return {"status": "ok"}

    @app.get("/ready")
    def ready() -> JSONResponse:
        """Say whether every model has a version that answers."""
        lacking = {name: one.trouble for name, one in holders.items() if one.current is None}
        if not app.state.recorder.is_alive:
            lacking["prediction log"] = "it has ended; start the app again"
        return JSONResponse({"ready": not lacking, "waiting_for": lacking}, 503 if lacking else 200)

    @app.get("/models")
    def models() -> list[dict[str, Any]]:
        """Say which version of each model answers, and what keeps a newer one from it."""
        return [_described(one) for one in holders.values()]

    @app.get("/metrics", response_class=PlainTextResponse)
    def numbers() -> Response:
        """Give the numbers that Prometheus reads."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/predict/{model}")
    async def answer(model: str, request: Request) -> dict[str, Any]:
        """Predict rows; the answer comes once it is on record."""
        served = _served(holders, model)
        given = await _body(request)
        arrived, began = datetime.now(UTC), time.perf_counter()
        rows = served.checker.check(given.rows)
        found = await asyncio.to_thread(answers_to, served, rows)
        identity, took = str(uuid.uuid4()), (time.perf_counter() - began) * 1000
        kept = records_of(
            served, rows, found, request_id=identity, at=arrived, latency_ms=took, key=app.state.key
        )
        try:
            await asyncio.wrap_future(app.state.recorder.record(kept))
        except StoreError as err:
            raise HTTPException(503, str(err), {"Retry-After": "1"}) from err
        metrics.predicted(model, served.version, len(rows))
        return {"request_id": identity, "model": model, "version": served.version, "answers": found}

    return app


async def _body(request: Request) -> Rows:
    raw = bytearray()
    async for part in request.stream():  # a length that the client states is no evidence
        raw += part
        if len(raw) > MOST_BYTES:
            raise HTTPException(413, f"a body of at most {MOST_BYTES} bytes is taken")
    try:
        return Rows.model_validate_json(bytes(raw))
    except ValueError as err:
        wanted = f'{{"rows": [{{field: value}}, …]}} with 1 to {MOST_ROWS} rows'
        raise HTTPException(422, f"the body has to be {wanted}") from err


def _served(holders: dict[str, Holder], model: str) -> Served:
    holder = holders.get(model)
    if holder is None:
        raise HTTPException(404, f"no such model here; there are {sorted(holders)}")
    if holder.current is None:
        raise HTTPException(503, holder.trouble, {"Retry-After": "5"})
    return holder.current


def _described(holder: Holder) -> dict[str, Any]:
    served = holder.current
    if served is None:
        return {"model": holder.name, "version": None, "trouble": holder.trouble}
    return {
        "model": holder.name,
        "version": served.version,
        "digest": served.digest,
        "promise": served.manifest.promise.value,
        "metric": served.manifest.promise.metric,
        "trouble": holder.trouble,
    }


async def _unprocessable(request: Request, err: Exception) -> JSONResponse:
    del request
    problems = err.problems if isinstance(err, BadRows) else ()
    detail = [{"row": one.row, "field": one.field, "problem": one.problem} for one in problems]
    return JSONResponse({"detail": detail}, 422)


def _look(holders: dict[str, Holder]) -> None:
    for one in holders.values():
        one.refresh()


def _watch(holders: dict[str, Holder], over: threading.Event, seconds: float) -> None:
    while not over.wait(seconds):
        _look(holders)
