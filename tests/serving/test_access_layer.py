"""The layer in front of the app by itself: while the store hangs, and while there is no key."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.responses import JSONResponse

from serving import access
from serving.access import Access
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.keys import make_key


def an_admin(place: Settings) -> bytes:
    """Return a new key that may do everything."""
    return make_key(open_store(place), "ann", "admin", at=datetime(2026, 3, 1, tzinfo=UTC)).encode()


def layer(place: Settings, **over: Any) -> Access:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse("page")(scope, receive, send)

    return Access(page, engine=open_store(place), **{"open_without_keys": False, **over})


async def status_of(layer: Access, path: str = "/models", *headers: tuple[bytes, bytes]) -> int:
    statuses = []

    async def note(message: Any) -> None:
        statuses.append(message.get("status", 0))

    scope = {"type": "http", "method": "GET", "path": path, "headers": list(headers)}
    await layer(scope, None, note)  # type: ignore[arg-type]
    return int(statuses[0])


def test_a_store_that_hangs_holds_nobody_up_whose_key_is_known(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(access, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(access, "_FIRST_SECONDS", 0.2)
    key, back, looks = (b"x-api-key", an_admin(place)), threading.Event(), []

    def hangs(engine: object) -> list[object]:
        looks.append(1)
        assert back.wait(30)
        return []

    async def work() -> None:
        known, new = layer(place), layer(place)
        assert await status_of(known, "/models", key) == 200
        monkeypatch.setattr(access, "all_keys", hangs)
        began = time.monotonic()
        asked = [status_of(known, "/models", key) for _ in range(50)]
        assert set(await asyncio.gather(*asked)) == {200}
        assert [await status_of(known, "/models", key) for _ in range(50)] == [200] * 50
        assert await status_of(new, "/models", key) == 503
        assert time.monotonic() - began < 2
        assert len(looks) == 2  # one of each, however many asked
        back.set()
        for thread in [one for one in threading.enumerate() if one.name == "keys"]:
            await asyncio.to_thread(thread.join, 10)
        assert await status_of(known, "/models", key) == 401  # what the store says counts again

    asyncio.run(work())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LocalHost:8000", "localhost.", "127.8.8.8:80")),
        *((host, 200) for host in ("127.0.0.1:8000", "[::1]:8000", "[::1]")),
        *((host, 403) for host in ("evil.example", "evil.example:8000", "localhost.evil.example")),
        *((host, 403) for host in ("127.0.0.1.evil.example", "localhost@evil.example", "::1", "[::2]")),
        *((host, 403) for host in ("", "\xff", "10.0.0.1")),
    ],
)  # fmt: skip
def test_while_it_is_open_only_requests_to_this_machine_by_name_are_answered(
    place: Settings, host: str, status: int
) -> None:
    named = (b"host", host.encode("latin-1"))
    both = [(b"host", b"localhost"), named]

    async def work() -> None:
        found = layer(place, open_without_keys=True)
        assert await status_of(found, "/explain/churn/x", named) == status
        assert (
            await status_of(found, "/models", *both)
            == await status_of(found, "/models", *both[::-1])
            == status
        )
        assert await status_of(found, "/health", named) == 200
        assert await status_of(found) == 200  # no browser asks without a Host

    asyncio.run(work())


def test_with_a_key_any_host_is_answered(place: Settings) -> None:
    key = (b"x-api-key", an_admin(place))
    named = (b"host", b"models.example")
    assert asyncio.run(status_of(layer(place, open_without_keys=True), "/models", key, named)) == 200
