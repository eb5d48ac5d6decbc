"""The HTTP app: several models in one process, each answered by its champion, each answer on record."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError

from serving.access import Access
from serving.connections import Bounded
from serving.metrics import Counted
from serving.openapi import describe
from serving.request import BadRows
from serving.routes import board, explain, info, labels, predict
from serving.service import NoSuchModel, NothingServes, Service
from tasks.core.errors import RegistryError, StoreError
from tasks.settings import Settings


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
    service = Service(names, settings, poll_seconds=poll_seconds)
    app = FastAPI(
        title="Evergreen",
        lifespan=service.life,
        openapi_url="/openapi.json",
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,  # a redirect would repeat whatever host the caller names
    )
    app.state.service = service
    app.add_middleware(
        Access, engine=service.engine, open_without_keys=open_without_keys, per_minute=per_minute
    )
    app.add_middleware(Bounded)
    app.add_middleware(Counted, metrics=service.metrics)  # the outermost: it counts what others refuse
    app.add_exception_handler(BadRows, _unprocessable)
    app.add_exception_handler(NoSuchModel, _unknown)
    for silent in (NothingServes, StoreError, RegistryError):
        app.add_exception_handler(silent, _waiting)
    for broken in (OperationalError, InterfaceError, TimeoutError):  # the store's; their text may hold values
        app.add_exception_handler(broken, _silent)
    for room in (info, predict, labels, explain, board):
        app.include_router(room.routes(service))
    describe(app, service)
    return app


async def _unprocessable(request: Request, err: Exception) -> JSONResponse:
    del request
    problems = err.problems if isinstance(err, BadRows) else ()
    detail = [{"row": one.row, "field": one.field, "problem": one.problem} for one in problems]
    return JSONResponse({"detail": detail}, 422)


async def _unknown(request: Request, err: Exception) -> JSONResponse:
    del request
    return JSONResponse({"detail": str(err)}, 404)


async def _waiting(request: Request, err: Exception) -> JSONResponse:
    del request
    return JSONResponse({"detail": str(err)}, 503, {"Retry-After": "5"})


async def _silent(request: Request, err: Exception) -> JSONResponse:
    del request, err
    return JSONResponse({"detail": "the store does not answer"}, 503, {"Retry-After": "5"})
