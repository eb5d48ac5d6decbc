"""The body of a request, read within limits: of bytes, time, depth and objects, in one meaning only."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from serving.request import MOST_ROWS

MOST_BYTES = 4 * 1024**2  # of a request's body; our choice: a thousand wide rows fit
MOST_SECONDS = 10.0  # for the whole body to arrive; our choice: a slow sender must not hold a place for ever
_MOST_MARKS = {b":": 120_000, b",": 120_000, b"[": 20_000}  # our choice: 120 fields in each of 1000 rows
_WANTED = f'{{"rows": [{{field: value}}, …]}} with 1 to {MOST_ROWS} rows'


class BadBody(ValueError):
    """Bytes that are no JSON, or not in one meaning; the text never holds a value."""


async def read_rows(request: Request) -> list[Any]:  # Any: checked by the champion's spec
    """Return the rows of the request, not checked against any model yet.

    Raises:
        HTTPException: see `read_json`; 422 also for a body that holds no rows.
    """
    given = await read_json(request)
    rows = given.get("rows") if isinstance(given, dict) and len(given) == 1 else None
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_ROWS:
        raise HTTPException(422, f"the body has to be {_WANTED}")
    return rows


async def read_json(request: Request, *, most_bytes: int = MOST_BYTES) -> Any:  # Any: whatever JSON holds
    """Return what the body holds.

    Raises:
        HTTPException: 415 for another type or a packed body, 413 for one that is too large, 408 for one that
            does not come, 400 for one that ends early, 422 for one that is no JSON in one meaning only.
    """
    _check_headers(request, most_bytes)
    try:
        async with asyncio.timeout(MOST_SECONDS):
            raw = await _received(request, most_bytes)
    except TimeoutError as err:
        raise HTTPException(408, "the body took too long", {"Connection": "close"}) from err
    except ClientDisconnect as err:
        raise HTTPException(400, "the body ended early") from err
    try:
        return parse_json(raw)
    except BadBody as err:
        raise HTTPException(422, f"the body has to be JSON; {err}") from err


def parse_json(raw: bytes | bytearray) -> Any:  # Any: whatever JSON holds
    """Return what these bytes hold.

    Raises:
        BadBody: for what is no JSON (NaN and Infinity are none), is nested too deep, holds too much, names a
            field twice (which of the two is meant?), or half of a character.

    Example:
        >>> parse_json(b'{"rows": [1.5, null]}')
        {'rows': [1.5, None]}
    """
    if any(raw.count(mark) > most for mark, most in _MOST_MARKS.items()):  # cheap to count, slow to make
        raise BadBody("it holds too many fields; send fewer rows")
    try:
        text = raw.decode("utf-8")
        found = json.JSONDecoder(object_pairs_hook=_Objects(), parse_constant=_no_constant).decode(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # halves of a pair are no character
    except RecursionError:
        raise BadBody("it is nested too deep") from None
    except json.JSONDecodeError as err:
        raise BadBody(f"it is none from character {err.pos}") from None
    except UnicodeError:
        raise BadBody("it is no UTF-8") from None
    except BadBody:
        raise
    except ValueError:  # an integer of thousands of digits
        raise BadBody("it holds a number that is too long") from None
    return found


class _Objects:
    """Makes the objects of one body: so many at most, and no field of one twice."""

    def __init__(self, most: int = 2 * MOST_ROWS + 1):
        self._left = most

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise BadBody("it holds too many objects")
        found = dict(pairs)
        if len(found) < len(pairs):
            raise BadBody("an object names a field twice")
        return found


def _no_constant(name: str) -> float:
    raise BadBody(f"{name} is no JSON (null says that a value is not known)")


def _check_headers(request: Request, most_bytes: int) -> None:
    headers = request.headers
    if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise HTTPException(415, "a packed body is not taken; send it as it is")
    kind, _, more = headers.get("content-type", "").partition(";")
    charset = more.replace(" ", "").replace('"', "").lower()
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise HTTPException(415, "the header Content-Type: application/json is needed, in UTF-8")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise HTTPException(400, "a Content-Length that is no number")
    if len(length) > 15 or int(length) > most_bytes:
        raise _too_large(most_bytes)


async def _received(request: Request, most_bytes: int) -> bytearray:
    raw = bytearray()
    async for part in request.stream():  # a length that the client states is no evidence
        raw += part
        if len(raw) > most_bytes:
            raise _too_large(most_bytes)
    return raw


def _too_large(most_bytes: int) -> HTTPException:
    return HTTPException(413, f"a body of at most {most_bytes} bytes is taken; send fewer rows")
