"""The canary's requests, scored apart from the champion's: late or stuck, it delays only its own share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from serving.batching import Answer, Batcher, Row, TooBusy
from serving.holder import Served
from serving.scoring import rows_of

DEADLINE_SECONDS = 2.0
"""What a canary's answer may take, our choice; then the champion answers."""
MOST_WAITING = 64
"""Requests that may wait for the canary; beyond it the champion answers at once, our choice."""
MOST_STUCK = 3
"""Versions whose scoring never came back, each a thread; with more, no canary is asked until a restart."""
_CLOSE_SECONDS = 2.0


class CanaryLane:
    """Scores one model's canary in a thread of its own, within a deadline; asked on one event loop.

    A version that hangs keeps its thread for itself: the next one gets another.
    """

    deadline = DEADLINE_SECONDS

    def __init__(self, name: str):
        self._name = name
        self._version = 0
        self._batcher: Batcher | None = None
        self._left: list[Batcher] = []

    async def answers(self, served: Served, rows: Sequence[Row]) -> list[Answer]:
        """Return the canary's answers to one request's rows.

        Raises:
            TooBusy: when it could not be asked in time, which is no fault of its own.
            TimeoutError: when it is at one call of its scorer for too long.
            Exception: what the scorer raised for these rows.
        """
        batcher = self._batcher_of(served.version)
        try:
            async with asyncio.timeout(self.deadline):
                return await batcher.answers(served.scorer, rows)
        except TimeoutError:
            if batcher.scoring_seconds() < self.deadline / 2:  # others' rows came first: a queue, not a fault
                raise TooBusy("requests before this one took the canary's time") from None
            raise

    async def error(self, served: Served) -> Exception | None:
        """Return what is wrong with its answer to a row that it is known to answer; None: it is well."""
        try:
            await self.answers(served, rows_of(served.golden.head(1), served.spec))
        except TooBusy:
            return None
        except Exception as err:  # whatever it is, it is the version's own
            return err
        return None

    async def close(self) -> None:
        """End; a thread that hangs is left behind, and ends with the process."""
        if self._batcher is not None:
            self._left.append(self._batcher)
            self._batcher = None
        until = time.monotonic() + _CLOSE_SECONDS
        for one in self._left:
            await one.close(max(0.0, until - time.monotonic()))

    def _batcher_of(self, version: int) -> Batcher:
        if self._batcher is None or self._version != version:
            if self._batcher is not None:
                self._batcher.end()
                self._left.append(self._batcher)
                self._batcher = None
            self._left = [one for one in self._left if one.is_alive]
            if len(self._left) >= MOST_STUCK:
                raise TooBusy(f"{len(self._left)} earlier canaries have not come back")
            self._batcher = Batcher(f"{self._name} canary {version}", most_waiting=MOST_WAITING)
            self._version = version
        return self._batcher
