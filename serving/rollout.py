"""Live rows for a version that waits: shadow answers that nobody sees, or a small share of real ones."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from serving.careful import Careful
from serving.holder import Holder, Served, take
from serving.request import BadRows
from serving.shade import Shade
from tasks.core.errors import RegistryError, WorkflowError
from tasks.settings import Settings
from tasks.store import catalog, exposures, registry
from tasks.store.engine import open_store

Route = Literal["champion", "canary"]
ACTOR = "serving app"
MEMORY_SECONDS = 600.0
"""Failures of a canary count for ten minutes."""
_TRY_AGAIN_SECONDS = 30.0  # a version that cannot be taken is asked for again after this
_NEVER = float("inf")


@dataclass(frozen=True)
class Lane:
    """A version that sees live rows, and how many of them."""

    served: Served
    share: float
    is_shadowed: bool

    def is_meant(self, request_id: str) -> bool:
        """Tell whether the canary answers this request: the same id is always told the same."""
        seed = f"{self.served.name}/{self.served.version}/{request_id}".encode()
        drawn = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")
        return drawn < self.share * 2**64


class Rollout:
    """Which version answers a request to one model, and what else sees its rows.

    What a version may see stands in its own spec, as `serving.shadow` and `serving.canary`. It is taken like
    the champion: files of a digest that the store vouches for, golden rows re-scored. `trouble` says why one
    that waits is not exposed.
    """

    def __init__(self, holder: Holder, settings: Settings, *, clock: Callable[[], float] = time.monotonic):
        self.trouble = ""
        self.refused = 0
        self.failures = 0
        self.shade = Shade(lambda: open_store(settings), holder.name)
        self._holder = holder
        self._settings = settings
        self._clock = clock
        self._lane: Lane | None = None
        self._seen: int | None = -1  # the version that waited at the last look; -1: not looked yet
        self._tried = -_TRY_AGAIN_SECONDS
        self._back: dict[int, str] = {}  # versions sent back, and why
        self._owed: dict[int, str] = {}  # those of them that the store does not know of yet
        self._recent: deque[float] = deque()
        self._looking = threading.Lock()
        self._counting = threading.Lock()

    def refresh(self) -> None:
        """Look for a version that waits and for what was decided about it; never raises."""
        with self._looking:
            try:
                self._refresh()
            except WorkflowError as err:
                self.trouble = str(err)
            except Exception as err:  # a look must never end the app
                self.trouble = f"looking for a version that waits: {type(err).__name__}"

    def chosen(self, request_id: str, champion: Served) -> tuple[Served, Route]:
        """Return which version answers this request; the same id always gives the same answer."""
        lane = self._lane
        if lane is None or not lane.share or lane.served.version == champion.version:
            return champion, "champion"
        if lane.served.version in self._back or not lane.is_meant(request_id):
            return champion, "champion"
        return lane.served, "canary"

    def failed(self, served: Served, err: Exception) -> None:
        """Count a failure of the canary; the caller then asks the champion.

        Rows that only its own contract refuses are counted apart: they are no failure.
        """
        lane = self._lane
        if lane is None or served.version != lane.served.version:
            return
        with self._counting:
            if isinstance(err, BadRows):
                self.refused += 1
                return
            now, most = self._clock(), lane.served.spec.serving.canary_max_errors
            self.failures += 1
            self._recent.append(now)
            while self._recent[0] <= now - MEMORY_SECONDS:
                self._recent.popleft()
            if len(self._recent) >= most and served.version not in self._back:
                why = f"{len(self._recent)} failures in ten minutes, the last a {type(err).__name__}"
                self._back[served.version] = self._owed[served.version] = why

    def shadow(
        self,
        request_id: str,
        rows: Sequence[Mapping[str, Any]],  # Any: checked values
        at: datetime,
    ) -> None:
        """Hand rows that the champion answered to the version in its shadow; never waits, never raises."""
        lane = self._lane
        if lane is not None and lane.is_shadowed:
            self.shade.hand(lane.served, request_id, rows, at)

    def close(self) -> None:
        """End what runs beside the requests, after what it knows was written."""
        self.shade.close()
        with self._looking:
            try:
                self._pay()
            except Exception as err:  # the store is away: the next app counts failures anew
                self.trouble = f"a return that could not be written: {type(err).__name__}"

    def described(self) -> dict[str, Any] | None:  # Any: JSON
        """Return what is exposed and how it does in this process; None where nothing is."""
        lane = self._lane
        if lane is None:
            return {"trouble": self.trouble} if self.trouble else None
        version, shade = lane.served.version, self.shade
        return {
            "version": version,
            "canary": 0.0 if version in self._back else lane.share,
            "shadow": lane.is_shadowed,
            "returned": self._back.get(version, ""),
            "failures": self.failures,
            "refused": self.refused,
            "shadow_rows": shade.kept,
            "shadow_dropped": shade.dropped,
            "trouble": self.trouble,
        }

    def _refresh(self) -> None:
        self._pay()
        engine, name, champion = open_store(self._settings), self._holder.name, self._holder.current
        number = exposures.waiting_now(engine, name)
        if number != self._seen:
            exposures.end_others(engine, name, number, actor=ACTOR, at=datetime.now(UTC))
            self._lane, self._tried, self.trouble = None, -_TRY_AGAIN_SECONDS, ""
            self._seen = number
        if number is None or champion is None or number == champion.version:
            self._lane = None
        elif self._lane is None:
            if 0 <= self._clock() - self._tried < _TRY_AGAIN_SECONDS:
                return  # what kept the version from being taken still does, and `trouble` says so
            self._begin(number)
        elif exposures.last_event(engine, name, number) == "returned":
            self._back.setdefault(number, "sent back by monitoring or another app")
        self.trouble = ""

    def _begin(self, number: int) -> None:
        if self._tried == _NEVER:
            return
        self._tried = self._clock()
        lane = self._taken(number)
        if lane is None:
            self._tried = _NEVER  # its spec says so, and it will not say otherwise
            return
        engine, mode = open_store(self._settings), "canary" if lane.share else "shadow"
        stands = exposures.begin(
            engine, lane.served.name, number, mode=mode, share=lane.share, actor=ACTOR, at=datetime.now(UTC)
        )  # fmt: skip
        if stands == "returned":
            self._back.setdefault(number, "sent back before this app began")
        with self._counting:
            self._recent.clear()
            self.failures = self.refused = 0
        self._lane = lane

    def _taken(self, number: int) -> Lane | None:
        """Return the version, loaded, or None when its spec lets it see nothing."""
        place, name = self._settings, self._holder.name
        version = registry.find_version(name, number, settings=place)
        if not catalog.is_held(open_store(place), version):
            raise RegistryError(
                f"version {number} in staging, with files that nobody here made",
                "a version that this project registered",
                "do not expose it; restore the registry",
                model=name,
            )
        rule = registry.local_copy(version, settings=place, vouched=version.digest).spec.serving
        if not rule.shadow and not rule.canary:
            return None
        served = take(version, place)
        return Lane(replace(served, scorer=Careful(served)), rule.canary, rule.shadow)

    def _pay(self) -> None:
        """Write returns that the store does not know of yet."""
        for version, why in list(self._owed.items()):
            exposures.send_back(
                open_store(self._settings), self._holder.name, version,
                reason=why, actor=ACTOR, at=datetime.now(UTC),
            )  # fmt: skip
            self._owed.pop(version, None)
