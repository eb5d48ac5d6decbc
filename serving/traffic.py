"""Requests by the minute, model, version and status, as this process counted them, brought into the store.

A process writes what it counted of a minute so far, under an instance id of its own: writing again, after a
failure of which nobody knows whether it took, changes nothing.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.engine import Engine

from tasks.store.traffic import write_traffic

FLUSH_SECONDS = 5.0
"""How old a count in the store may be, our choice."""
CLOSE_SECONDS = 10.0
"""How long the end of the app waits for a store that does not answer, our choice."""
MOST_HELD = 100_000
"""Counts that wait while the store does not answer: weeks of them; beyond it the oldest are given up."""
_STEPS = 4  # buckets of latency per doubling: an edge is at most 19 % above the value it stands for
_LOWEST, _HIGHEST = -4, 16  # powers of two: from 0.06 ms to 65 s

_Key = tuple[str, datetime, int, int]


@dataclass
class _Count:
    requests: int = 0
    rows: int = 0
    lost: int = 0
    latency: dict[str, int] = field(default_factory=dict)


class Traffic:
    """Counts requests from any thread; a thread of its own brings the counts into the store."""

    def __init__(
        self,
        engine: Engine,
        *,
        instance: str = "",
        flush_seconds: float = FLUSH_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self.instance = instance or secrets.token_hex(8)
        self.failed = 0
        self._engine = engine
        self._now = now
        self._every = flush_seconds
        self._counts: dict[_Key, _Count] = {}
        self._changed: set[_Key] = set()
        self._minute = datetime.fromtimestamp(0, UTC)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, model: str, version: int, status: int, *, rows: int, seconds: float) -> None:
        """Count a request that ended now; version 0 where none answered."""
        edge = edge_of(seconds * 1000)
        with self._lock:
            one = self._of(model, version, status)
            one.requests += 1
            one.rows += rows
            one.latency[edge] = one.latency.get(edge, 0) + 1

    def lost(self, model: str, version: int, rows: int) -> None:
        """Count rows that were answered and are not in the log."""
        with self._lock:
            self._of(model, version, 200).lost += rows

    def start(self) -> None:
        """Bring counts into the store from now on."""
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def flush(self) -> bool:
        """Write what changed; return whether the store took it. What it did not take is written next time."""
        with self._lock:
            changed, self._changed = self._changed, set()
            rows = [_row(key, self._counts[key], self.instance) for key in changed]
        try:
            write_traffic(self._engine, rows)
        except Exception:  # whatever it is: the next flush tries again, and `failed` tells
            self.failed += 1
            with self._lock:
                self._changed |= changed & self._counts.keys()
            return False
        with self._lock:
            self._forget()
        return True

    def close(self) -> None:
        """Write what is left, then end; what a store that hangs does not take in time is given up."""
        self._over.set()
        if self._thread is None:
            self.flush()
            return
        self._thread.join(CLOSE_SECONDS)
        self.failed += self._thread.is_alive()

    def _of(self, model: str, version: int, status: int) -> _Count:
        # A clock that is set back must not lead to a minute whose count is written and forgotten.
        self._minute = max(self._minute, self._now().replace(second=0, microsecond=0))
        key = (model, self._minute, version, status)
        self._changed.add(key)
        found = self._counts.get(key)
        if found is None:
            found = self._counts[key] = _Count()
            if len(self._counts) > MOST_HELD:
                oldest = next(iter(self._counts))
                self._counts.pop(oldest)
                self._changed.discard(oldest)
        return found

    def _forget(self) -> None:
        """Drop minutes that are over and written."""
        past = self._minute - timedelta(minutes=1)
        for key in [one for one in self._counts if one[1] < past and one not in self._changed]:
            del self._counts[key]

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self.flush()
        self.flush()


def edge_of(milliseconds: float) -> str:
    """Return the upper edge of the bucket that holds this latency, as text; "inf" beyond the highest.

    Example:
        >>> edge_of(10.0), edge_of(8.0), edge_of(0.0), edge_of(1e9)
        ('11.31', '8', '0.0625', 'inf')
    """
    if milliseconds <= 2.0**_LOWEST:
        return f"{2.0**_LOWEST:.4g}"
    step = math.ceil(round(math.log2(milliseconds) * _STEPS, 9))
    return f"{2.0 ** (step / _STEPS):.4g}" if step <= _HIGHEST * _STEPS else "inf"


def _row(key: _Key, count: _Count, instance: str) -> Mapping[str, Any]:  # Any: column values
    model, minute, version, status = key
    return {
        "model": model,
        "minute": minute,
        "version": version,
        "status": status,
        "instance": instance,
        "requests": count.requests,
        "rows": count.rows,
        "lost": count.lost,
        "latency": dict(count.latency),
    }
