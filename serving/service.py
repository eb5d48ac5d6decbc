"""What every route of the app shares: who serves, what is counted, where answers are kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from serving.holder import Holder, Served
from serving.metrics import Metrics
from serving.record import Recorder
from serving.rollout import Rollout
from serving.spool import Spool
from serving.traffic import Traffic
from tasks.settings import Settings
from tasks.store.engine import open_store

if TYPE_CHECKING:
    from fastapi import FastAPI


class NoSuchModel(Exception):
    """A name that this app serves no model of."""


class NothingServes(Exception):
    """A model without a version that could answer; the text says why."""


class Service:
    """One app's state. `recorder` and `key` stand from the app's start to its end."""

    recorder: Recorder
    key: bytes

    def __init__(self, names: Iterable[str], settings: Settings, *, poll_seconds: float = 1.0):
        self.settings = settings
        self.engine = open_store(settings)
        self.holders: Mapping[str, Holder] = {name: Holder(name, settings) for name in names}
        self.rollouts: Mapping[str, Rollout] = {
            name: Rollout(holder, settings) for name, holder in self.holders.items()
        }
        self.traffic = Traffic(self.engine)
        self.metrics = Metrics(self.holders, self.traffic)
        self.metrics.watch_rollouts(self.rollouts)
        self._poll_seconds = poll_seconds

    def served(self, model: str) -> Served:
        """Return the version that answers now.

        Raises:
            NoSuchModel: when the app was not started with it.
            NothingServes: when it has no version to answer with.
        """
        holder = self.holders.get(model)
        if holder is None:
            raise NoSuchModel(f"no such model here; there are {sorted(self.holders)}")
        if holder.current is None:
            raise NothingServes(holder.trouble)
        return holder.current

    @asynccontextmanager
    async def life(self, app: FastAPI) -> AsyncIterator[None]:
        """Take every champion, then look for new ones until the app ends; write what waits at the end."""
        del app
        over = threading.Event()
        self.recorder, self.key = self._recorder(), self.settings.masking_key()
        self.metrics.watch(self.recorder)
        self.traffic.start()
        await asyncio.to_thread(self._look)
        threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            for lane in self.rollouts.values():
                await asyncio.to_thread(lane.close)
            await asyncio.to_thread(self.recorder.close)
            await asyncio.to_thread(self.traffic.close)

    def _recorder(self) -> Recorder:
        # What a process left on disk goes into the store, whatever this one does when the store fails.
        return Recorder(
            self.engine,
            mode=self.settings.log,
            spool=Spool(self.settings.root / "spool"),
            spools=self.settings.log_outage == "spool",
            lost=self.metrics.lost,
        )

    def _look(self) -> None:
        for one in self.holders.values():
            one.refresh()
        for lane in self.rollouts.values():
            lane.refresh()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(self._poll_seconds):
            self._look()
