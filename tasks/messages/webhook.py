"""The signed webhook: the one request that tells a deployer of a promotion."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import httpx

from tasks.core.errors import SpecError
from tasks.core.hosts import on_this_host
from tasks.core.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tasks.settings import Settings
from tasks.store.deadline import SECONDS, within
from tasks.store.schema import dump_json

TIMEOUT = httpx.Timeout(10)


def post_signed(
    content: Mapping[str, object], settings: Settings, *, clock: Callable[[], float] = time.time
) -> None:
    """Send the content, signed, to this place's deployer and return when it was taken (any 2xx).

    A redirect is not followed: it would carry the message to an address that nobody here named. The answer's
    body is not read.

    Raises:
        SpecError: when no deployer or no key is set, or its address is not safe to send to; says which.
        httpx.HTTPError: when the deployer does not take it.
        NoAnswer: when it does not answer in time.
    """
    address, key = _address(settings), _key(settings)
    body, moment = dump_json(dict(content)).encode(), int(clock())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Evergreen",
        TIMESTAMP_HEADER: str(moment),
        SIGNATURE_HEADER: sign(body, moment, key),
    }
    client = httpx.Client(timeout=TIMEOUT, follow_redirects=False)

    def post() -> None:
        with client, client.stream("POST", address, content=body, headers=headers) as answer:
            answer.raise_for_status()

    within(SECONDS, post, give_up=client.close)


def _address(settings: Settings) -> str:
    url = settings.deployer or ""
    todo = "set EVERGREEN_DEPLOYER to an https:// address"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise SpecError("a deployer's address that is no URL", "https://host/path", todo) from None
    if parts.scheme not in {"http", "https"} or not host:
        raise SpecError("a deployer's address that is no URL", "https://host/path", todo)
    if parts.scheme == "http" and not on_this_host(host):
        raise SpecError(
            "a deployer that is told without encryption", "https://, or http:// on this host", todo
        )
    if parts.username is not None or parts.password is not None:
        raise SpecError("a user or password in the deployer's address", "an address without one", todo)
    return url


def _key(settings: Settings) -> str:
    key = settings.deployer_key.get_secret_value() if settings.deployer_key else ""
    if not key:
        raise SpecError(
            "a deployer without a key", "messages that the deployer can verify", "set EVERGREEN_DEPLOYER_KEY"
        )
    return key
