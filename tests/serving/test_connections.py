"""Connections that ask nothing are closed, and those that ask are answered beside any number of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from prometheus_client import generate_latest
from uvicorn.server import ServerState

from serving import __main__ as command
from serving.connections import Bounded, protocol_of
from serving.metrics import Counted, Metrics

ASK = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
Asked = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answers(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def listening(**over: Any) -> AsyncIterator[Callable[[], Awaitable[Asked]]]:
    """Give what connects to a server of the protocol."""
    config, state = uvicorn.Config(answers, ws="none", log_level="critical"), ServerState()
    made = protocol_of(**over)

    def one() -> asyncio.Protocol:
        return made(config=config, server_state=state, app_state={})  # type: ignore[call-arg]

    server = await asyncio.get_running_loop().create_server(one, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made_ones: list[Asked] = []

    async def connect() -> Asked:
        made_ones.append(await asyncio.open_connection("127.0.0.1", port))
        return made_ones[-1]

    try:
        yield connect
    finally:
        for _, writer in made_ones:
            writer.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)


async def is_closed(reader: asyncio.StreamReader, within: float = 5.0) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), within) == b""
    except TimeoutError:
        return False


async def asked(one: Asked, what: bytes = ASK) -> bytes:
    one[1].write(what)
    head = await asyncio.wait_for(one[0].readuntil(b"\r\n\r\n"), 5)
    await one[0].readexactly(2)
    return head.split()[1]


def test_a_connection_that_sends_no_whole_head_is_closed_and_one_that_waits_for_an_answer_is_not() -> None:
    async def work() -> None:
        async with listening(seconds=0.2) as connect:
            silent, slow, half, again = [await connect() for _ in range(4)]
            half[1].write(ASK[:20])
            assert await asked(again) == b"200"
            again[1].write(ASK[:20])  # the head of a second request, begun and not ended
            assert await asked(slow, ASK.replace(b"/x", b"/slow")) == b"200"
            assert [await is_closed(one[0]) for one in (silent, half, again)] == [True] * 3
            assert await asked(slow) == b"200"  # between requests it is uvicorn's to close it

    asyncio.run(work())


def test_beyond_the_most_the_oldest_connection_without_a_request_gives_way() -> None:
    async def work() -> None:
        async with listening(most_idle=3) as connect:
            busy = await connect()
            answer = asyncio.ensure_future(asked(busy, ASK.replace(b"/x", b"/slow")))
            await asyncio.sleep(0.1)
            silent = [await connect() for _ in range(5)]
            honest = await connect()
            assert await asked(honest) == b"200"
            assert [await is_closed(one[0], 0.1) for one in silent] == [True, True, True, False, False]
            assert await answer == b"200"

    asyncio.run(work())


def test_requests_beyond_the_most_in_work_hear_that_it_is_busy_and_health_is_told() -> None:
    async def work() -> None:
        gate, statuses = asyncio.Event(), []

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] != "/health":
                await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append((message["status"], dict(message["headers"]).get(b"retry-after")))

        metrics = Metrics({})
        app = Counted(Bounded(waits, most=2), metrics=metrics)

        def ask(path: str) -> Awaitable[None]:
            return app({"type": "http", "path": path, "headers": []}, _nothing, note)

        waiting = [asyncio.ensure_future(ask("/a")) for _ in range(2)]
        await asyncio.sleep(0)
        await ask("/predict/x")
        await ask("/health")
        assert b'evergreen_requests_total{model="unknown",status="503"} 1.0' in generate_latest(
            metrics.registry
        )
        assert statuses == [(503, b"1"), (200, None)]
        gate.set()
        await asyncio.gather(*waiting)
        await ask("/a")
        assert [status for status, _ in statuses] == [503, 200, 200, 200, 200]

    asyncio.run(work())


async def _nothing() -> Any:
    raise AssertionError("nothing is read")


def test_the_command_serves_with_both_and_with_no_bound_on_silent_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = command.server_of(answers, "127.0.0.1", 0)  # type: ignore[arg-type]
    assert server.config.limit_concurrency is None
    assert isinstance(server.config.http, type)
    assert server.config.http.__name__ == "Prompt"
