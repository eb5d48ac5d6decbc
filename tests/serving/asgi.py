"""An app asked without a socket: thousands of requests a second, and a body may come in any pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

JSON = {"content-type": "application/json"}


@dataclass
class Answer:
    """What came back; status 0 means that nothing did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Driver:
    """Asks an app that has started; an error that leaves the app leaves `ask` too."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop):
        self._app = app
        self._loop = loop

    def ask(
        self,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        *,
        method: str = "POST",
        headers: Mapping[str, str | bytes] | None = None,
        ends: str = "whole",
    ) -> Answer:
        """Return the answer; `ends` says how the body does: whole, early (the caller goes) or never."""
        return self._loop.run_until_complete(self._asked(path, body, method, headers, ends))

    def ask_all(self, requests: Iterable[Mapping[str, Any]]) -> list[Answer]:
        async def all_of_them() -> list[Answer]:
            return [await self._asked(**one) for one in requests]

        return self._loop.run_until_complete(all_of_them())

    async def _asked(
        self,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        method: str = "POST",
        headers: Mapping[str, str | bytes] | None = None,
        ends: str = "whole",
    ) -> Answer:
        parts = [body] if isinstance(body, bytes) else list(body)
        found, at = Answer(), 0

        async def receive() -> dict[str, Any]:
            nonlocal at
            if at < len(parts):
                at += 1
                more = at < len(parts) or ends != "whole"
                return {"type": "http.request", "body": parts[at - 1], "more_body": more}
            if ends == "early":
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.status = message["status"]
                found.headers = {key.decode(): value.decode() for key, value in message["headers"]}
            else:
                found.body += message.get("body", b"")

        given = JSON if headers is None else headers
        raw = [(key.encode(), v if isinstance(v, bytes) else v.encode("latin-1")) for key, v in given.items()]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": b"", "root_path": "",
            "headers": raw, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await self._app(scope, receive, send)
        return found


@contextmanager
def driven(app: FastAPI) -> Iterator[Driver]:
    """Give a driver of the app, started before and ended after."""
    loop = asyncio.new_event_loop()
    life = app.router.lifespan_context(app)
    loop.run_until_complete(life.__aenter__())
    try:
        yield Driver(app, loop)
    finally:
        loop.run_until_complete(life.__aexit__(None, None, None))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
