"""Rows in, answers out, each on record before it is given."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

from serving.answer import Answer, records_of, told
from serving.batching import Batcher, Bell, TooBusy
from serving.body import read_rows
from serving.canary import CanaryLane
from serving.holder import Holder, Served
from serving.record import AlreadyKept
from serving.rollout import Route
from serving.scoring import NoAnswer
from serving.service import Service
from tasks.core.errors import StoreError

HEADER = "X-Request-ID"
_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_REMEMBERED = 10_000
Rows = Sequence[dict[str, Any]]  # Any: checked values


def routes(service: Service) -> APIRouter:
    """Return the route that predicts."""
    lanes: dict[str, Batcher] = {}
    canaries = {name: CanaryLane(name) for name in service.holders}
    bells: list[Bell] = []
    given_ids = _Recent(_REMEMBERED)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        del app
        bells[:] = [Bell()]
        lanes.update({name: Batcher(name) for name in service.holders})
        try:
            yield
        finally:
            for lane in (*lanes.values(), *canaries.values()):
                await lane.close()

    router = APIRouter(lifespan=life)

    @router.post("/predict/{model}")
    async def answer(model: str, request: Request) -> Response:
        """Predict rows; the answer comes once it is on record.

        An `X-Request-ID` of the caller's own names the request: sent again, it is refused with 409.
        """
        champion = service.served(model)
        identity, is_given = _identity(request)
        given = await read_rows(request)
        arrived, began = datetime.now(UTC), time.perf_counter()
        if is_given and not given_ids.add((model, identity)):
            raise _answered_before()
        try:
            served, route, rows, found, partner = await _scored(
                service, lanes[model], canaries[model], champion, identity=identity, given=given
            )
            took = (time.perf_counter() - began) * 1000
            kept = records_of(
                served, rows, found,
                request_id=identity, at=arrived, latency_ms=took, key=service.key, route=route,
                partner=partner,
            )  # fmt: skip
            await _recorded(service, bells[0], kept)
        except BaseException as err:  # nothing was answered under this id: it may be sent again
            if not isinstance(err, HTTPException) or err.status_code != 409:
                given_ids.drop((model, identity))
            raise
        service.metrics.predicted(model, served.version, len(rows))
        if route == "champion":
            service.rollouts[model].shadow(identity, rows, arrived)
        return Response(told(served, identity, found, partner=partner), media_type="application/json")

    return router


async def _scored(
    service: Service,
    lane: Batcher,
    canary: CanaryLane,
    champion: Served,
    *,
    identity: str,
    given: Sequence[Any],  # Any: JSON
) -> tuple[Served, Route, Rows, list[Answer], int | None]:
    """Return who answered, by which route, the checked rows, the answers, and who had half the vote."""
    rows = champion.checker.check(given)
    rollout = service.rollouts[champion.name]
    served, route = rollout.chosen(identity, champion)
    fault: Exception | None = None
    if route == "canary":
        try:
            theirs = served.checker.check(given)
            return served, route, theirs, await canary.answers(served, theirs), None
        except TooBusy:
            pass  # no fault of its own: the champion answers
        except Exception as err:  # whatever it is: the champion answers
            fault = err
    began = time.monotonic()
    try:
        found, partner = await _by_what_serves(lane, service.holders[champion.name], champion, rows)
    except HTTPException:  # rows that neither can answer are no failure of the canary
        if fault is not None and (own := await canary.error(served)):
            rollout.failed(served, own)
        raise
    is_late = isinstance(fault, TimeoutError) and time.monotonic() - began >= canary.deadline
    if fault is not None and not is_late:  # where the champion is as slow, that is not the canary's either
        rollout.failed(served, fault)
    return champion, "champion", rows, found, partner


async def _by_what_serves(
    lane: Batcher, holder: Holder, champion: Served, rows: Rows
) -> tuple[list[Answer], int | None]:
    """Return the answers, and the partner that had half the vote; without its answer the champion's own."""
    partner, fault = champion.partner, None
    if partner is not None:
        try:
            return await lane.answers(partner.scorer, rows), partner.version
        except TooBusy as err:
            raise _busy(err) from err
        except Exception as err:  # whichever of the two it is of shows when the champion is asked alone
            fault = err
    found = await _by_champion(lane, champion, rows)
    if fault is not None:
        await asyncio.to_thread(holder.partner_failed, champion, fault)
    return found, None


async def _by_champion(lane: Batcher, champion: Served, rows: Rows) -> list[Answer]:
    try:
        return await lane.answers(champion.scorer, rows)
    except TooBusy as err:
        raise _busy(err) from err
    except NoAnswer as err:
        raise HTTPException(422, str(err)) from err
    except Exception as err:
        if await asyncio.to_thread(champion.is_well):
            raise HTTPException(422, f"the model cannot answer these rows ({type(err).__name__})") from err
        raise HTTPException(500, f"version {champion.version} cannot answer ({type(err).__name__})") from err


async def _recorded(service: Service, bell: Bell, kept: list[dict[str, Any]]) -> None:  # Any: column values
    try:
        await bell.wait(service.recorder.record(kept))
    except AlreadyKept as err:
        raise _answered_before() from err
    except StoreError as err:
        raise HTTPException(503, str(err), {"Retry-After": "1"}) from err


def _identity(request: Request) -> tuple[str, bool]:
    """Return the request's id, and whether the caller gave it.

    Raises:
        HTTPException: 422 for an id that is long, odd or not the only one.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return str(uuid.uuid4()), False
    if len(given) > 1 or not _SAFE.fullmatch(given[0]):
        raise HTTPException(422, f"{HEADER} has to be one text of 1 to 64 letters, digits or . _ : -")
    return given[0], True


def _busy(err: TooBusy) -> HTTPException:
    return HTTPException(503, f"too busy: {err}", {"Retry-After": "1"})


def _answered_before() -> HTTPException:
    return HTTPException(409, f"a request with this {HEADER} was answered before; send a new id")


class _Recent:
    """Ids that callers gave lately: a log that acknowledges before it writes cannot tell them yet."""

    def __init__(self, most: int):
        self._most = most
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, one: tuple[str, str]) -> bool:
        """Return whether the id is new, and remember it."""
        if one in self._ids:
            return False
        self._ids[one] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
        return True

    def drop(self, one: tuple[str, str]) -> None:
        """Forget the id."""
        self._ids.pop(one, None)
