"""Connections that ask nothing: closed soon, and the oldest first where there are many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HEADER_SECONDS = 10.0
"""What the head of a request may take to arrive; our choice."""
MOST_IDLE = 800
"""Connections that may be open without a request; beyond it the oldest of them is closed, our choice: below
what a process may usually open, 1024."""
MOST_ANSWERED = 1000
"""Requests that may be in work at once; beyond it a caller hears 503, our choice."""
_ALWAYS = "/health"  # whoever restarts what is ill must hear that a busy app lives


class Bounded:
    """A layer in front of the app: 503 to what comes while as many requests as may be are being answered."""

    def __init__(self, app: ASGIApp, *, most: int = MOST_ANSWERED):
        self._app = app
        self._most = most
        self._now = 0  # of the loop's thread alone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http" or scope["path"] == _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._now >= self._most:
            refusal = JSONResponse({"detail": "too busy; ask again soon"}, 503, {"Retry-After": "1"})
            await refusal(scope, receive, send)
            return
        self._now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._now -= 1


def protocol_of(*, seconds: float = HEADER_SECONDS, most_idle: int = MOST_IDLE) -> type[asyncio.Protocol]:
    """Return uvicorn's own protocol, which waits for the head of a request no longer than these seconds.

    Only silence after an answer is bounded by uvicorn itself: not that before the first request, nor a head
    that comes byte by byte.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    idle: dict[Any, None] = {}  # the connections without a request, the oldest first

    class Prompt(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # which one depends on what is installed
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._rest()
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._has_request():
                idle.pop(self, None)
                self._stop()
            else:
                self._await_head()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._has_request():
                self._rest()

        def connection_lost(self, exc: Exception | None) -> None:
            idle.pop(self, None)
            self._stop()
            super().connection_lost(exc)

        def _has_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _rest(self) -> None:
            idle.pop(self, None)
            idle[self] = None
            if len(idle) > most_idle:
                oldest = next(iter(idle))
                del idle[oldest]
                oldest.transport.close()

        def _await_head(self) -> None:
            if self._late is None:
                self._late = self.loop.call_later(seconds, self._close_late)

        def _close_late(self) -> None:
            self._late = None
            if not self._has_request() and not self.transport.is_closing():
                self.transport.close()

        def _stop(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Prompt
