"""Who may ask what: every route needs a key of the right role, but for the few that are named here."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress

from sqlalchemy.engine import Engine
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.store.keys import Key, Role, all_keys, digest_of_key, role_of

OPEN = frozenset({"/health"})
Right = tuple[str, re.Pattern[str]]  # a method, and the paths it may be used on
_DESCRIBED = re.compile(r"/(models|ready|docs|openapi\.json)")
RIGHTS: Mapping[Role, tuple[Right, ...]] = {
    "predict": (("POST", re.compile(r"/predict/[^/]+")), ("GET", _DESCRIBED)),
    "label": (("POST", re.compile(r"/labels/[^/]+")),),
}
"""What a key may ask for, by role; an admin's may ask for everything, others for nothing that is not here."""
_NEAR: Mapping[Role, re.Pattern[str]] = {
    "predict": re.compile(r"/predict/.*", re.DOTALL),
    "label": re.compile(r"/labels/.*", re.DOTALL),
}
"""Where a key of this role hears 404 instead of 403: who may ask for these pages knows which there are."""
_HEADER, _BEARER = b"x-api-key", b"authorization"
_LOOK_SECONDS = 2.0
"""How soon a new or revoked key counts."""
_FIRST_SECONDS = 5.0
"""How long the first requests may wait for the store of keys; our choice."""
_PATIENCE_SECONDS = 0.5
"""How long requests may wait for it where only old keys are known; our choice."""
_MOST_BUCKETS = 10_000


class Access:
    """A layer in front of the app: 401 without a good key, 403 with the wrong role, 429 above the rate.

    A route that nobody thought of needs an admin's key. Where there is no key at all, everything is open if
    `open_without_keys`, which the command allows on loopback only.
    """

    def __init__(self, app: ASGIApp, *, engine: Engine, open_without_keys: bool, per_minute: int = 0):
        self._app = app
        self._engine = engine
        self._open = open_without_keys
        self._rate = _Rate(per_minute) if per_minute else None
        self._keys: list[Key] | None = None
        self._looked = -_LOOK_SECONDS
        self._began = 0.0  # when the present look did
        self._looking: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no other kind of connection is served
        if scope["path"] not in OPEN:
            await self._look()
        refusal = self._refusal(scope)
        await (refusal(scope, receive, send) if refusal else self._app(scope, receive, send))

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        path = scope["path"]
        if path in OPEN:
            return None
        given, known = _given(dict(scope["headers"]), path), self._keys
        if known is None:  # whose key it is cannot be told: nobody is let in
            return _no(503, "the store of keys does not answer", **{"Retry-After": "5"})
        if not known and self._open:
            who, refusal = str((scope.get("client") or ("?",))[0]), _not_here(scope["headers"])
        else:
            who, refusal = digest_of_key(given), _not_allowed(scope, given, known)
        if refusal is not None:
            return refusal
        wait = self._rate.wait(who, time.monotonic()) if self._rate else 0.0
        if wait:
            seconds = str(int(wait) + 1)
            return _no(429, f"too many requests; ask again in {seconds} s", **{"Retry-After": seconds})
        return None

    async def _look(self) -> None:
        """See that the keys are read again when that is due; those read last count until then.

        One look at a time, in a thread of its own. A request waits for it only while no keys are known, or
        only old ones (nobody asked for a while), and then for a bounded time after the look began.
        """
        now = time.monotonic()
        age = now - self._looked
        if age < _LOOK_SECONDS:
            return
        if self._looking is None or self._looking.done():
            self._began, self._looking = now, asyncio.get_running_loop().create_future()
            threading.Thread(target=self._read, args=(self._looking,), name="keys", daemon=True).start()
        if self._keys is not None and age < 2 * _LOOK_SECONDS:
            return
        patience = _FIRST_SECONDS if self._keys is None else _PATIENCE_SECONDS
        left = self._began + patience - now
        if left > 0:
            await asyncio.wait({self._looking}, timeout=left)

    def _read(self, done: asyncio.Future[None]) -> None:
        with suppress(Exception):  # of the store, whatever it is: the keys read last count
            self._keys = all_keys(self._engine)
        self._looked = time.monotonic()  # after a failure too, or the store would be asked all the time
        with suppress(RuntimeError):  # the loop has ended
            done.get_loop().call_soon_threadsafe(done.set_result, None)


_ASK = {"WWW-Authenticate": "Bearer"}
_ASK_A_PERSON = {
    "WWW-Authenticate": 'Basic realm="evergreen: any name, and the key as password", charset="UTF-8"'
}
_PAGES = re.compile(r"^/(dashboard(/.*)?|docs|openapi\.json)$")
"""What people open in a browser, which sends no header of ours: there the key may be given as a password."""


def may(role: Role, method: str, path: str) -> bool:
    """Return whether a key of this role may ask for this path in this way.

    Example:
        >>> may("predict", "POST", "/predict/churn"), may("predict", "GET", "/metrics")
        (True, False)
        >>> may("admin", "GET", "/metrics"), may("label", "POST", "/predict/churn")
        (True, False)
    """
    if role == "admin":
        return True
    return any(method == way and paths.fullmatch(path) for way, paths in RIGHTS.get(role, ()))


def _not_here(headers: Iterable[tuple[bytes, bytes]]) -> JSONResponse | None:
    if _is_for_loopback(headers):
        return None
    return _no(403, "while no key exists, only requests to localhost or 127.0.0.1 are answered")


def _not_allowed(scope: Scope, given: str, known: list[Key]) -> JSONResponse | None:
    path, role = scope["path"], role_of(given, known) if given else None
    if role is None:
        ask = _ASK_A_PERSON if _PAGES.match(path) else _ASK
        found = "this key is not known, or was revoked" if given else "a key is needed"
        return _no(401, f"{found}: X-API-Key, or Authorization: Bearer", **ask)
    return None if may(role, scope["method"], path) else _not_yours(role, path)


def _not_yours(role: Role, path: str) -> JSONResponse:
    ways = [way for way, paths in RIGHTS.get(role, ()) if paths.fullmatch(path)]
    if ways:
        return _no(405, f"only {', '.join(ways)}", Allow=", ".join(ways))
    if role in _NEAR and _NEAR[role].fullmatch(path):
        return _no(404, "there is no such page")
    able = [one for one, rights in RIGHTS.items() if any(paths.fullmatch(path) for _, paths in rights)]
    return _no(403, f"a key of role {role} may not do this; one of role {' or '.join([*able, 'admin'])} may")


_HOST = re.compile(r"(\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[0-9a-z.-]+))(:[0-9]{1,5})?")


class _Rate:
    """A bucket per caller that fills evenly: a minute's requests may come at once, then one by one."""

    def __init__(self, per_minute: int):
        self._most = float(per_minute)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, who: str, now: float) -> float:
        """Return how many seconds the caller has to wait; 0 lets the request through and counts it."""
        with self._lock:
            left, at = self._left.pop(who, (self._most, now))
            left = min(self._most, left + (now - at) * self._most / 60)
            waits = 0.0 if left >= 1 else (1 - left) * 60 / self._most
            self._left[who] = (left if waits else left - 1, now)
            if len(self._left) > _MOST_BUCKETS:
                self._left.popitem(last=False)
            return waits


def _given(headers: Mapping[bytes, bytes], path: str) -> str:
    key = headers.get(_HEADER, b"").decode("latin-1").strip()
    how, _, what = headers.get(_BEARER, b"").decode("latin-1").partition(" ")
    if key or how.lower() == "bearer":
        return key or what.strip()
    return _password(what) if how.lower() == "basic" and _PAGES.match(path) else ""


def _is_for_loopback(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether every Host names this machine: a page elsewhere may let its own name point here."""
    return all(_is_loopback(value.decode("latin-1")) for name, value in headers if name == b"host")


def _is_loopback(host: str) -> bool:
    found = _HOST.fullmatch(host.strip().lower())
    if found is None:
        return False
    name = found["six"] or found["name"]
    if name.rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")[2]
    except ValueError:
        return ""


def _no(status: int, why: str, **headers: str) -> JSONResponse:
    return JSONResponse({"detail": why}, status, headers)
