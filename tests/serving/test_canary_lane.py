"""The canary's own lane: its queue is no failure of it, and what hangs costs a thread and no more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from serving import canary
from serving.batching import Answer, Row, TooBusy
from serving.canary import CanaryLane


@dataclass
class Paced:
    """A version whose scorer takes some seconds for a call, or as long as `gate` is shut."""

    version: int = 1
    seconds: float = 0.0
    is_rowwise: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def scorer(self) -> Any:
        return self

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        if self.seconds:
            time.sleep(self.seconds)
        else:
            assert self.gate.wait(30)
        return [{"prediction": 1} for _ in rows]


async def outcomes(lane: CanaryLane, version: Any, times: int) -> list[str]:
    asked = [lane.answers(version, [{}]) for _ in range(times)]
    return [type(one).__name__ for one in await asyncio.gather(*asked, return_exceptions=True)]


def test_what_waits_behind_others_in_time_is_no_fault_and_what_takes_too_long_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CanaryLane, "deadline", 0.3)

    async def work() -> None:
        lane = CanaryLane("m")
        found = await outcomes(lane, Paced(1, seconds=0.05), 20)
        assert (found[0], found[-1], set(found)) == ("list", "TooBusy", {"list", "TooBusy"})
        stuck = Paced(2)
        assert await outcomes(lane, stuck, 3) == ["TimeoutError"] * 3
        assert (await outcomes(lane, stuck, canary.MOST_WAITING))[-1] == "TooBusy"  # at once, no queue
        stuck.gate.set()
        until = time.monotonic() + 10
        while await outcomes(lane, stuck, 1) != ["list"]:  # what it was late with is over soon
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        await lane.close()

    asyncio.run(work())


def test_versions_that_hang_leave_a_bounded_number_of_threads_and_do_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CanaryLane, "deadline", 0.02)
    monkeypatch.setattr(canary, "_CLOSE_SECONDS", 0.05)

    async def work() -> None:
        lane, before = CanaryLane("m"), threading.active_count()
        stuck = [Paced(version) for version in range(1, 9)]
        found = [(await outcomes(lane, one, 1))[0] for one in stuck]
        assert found == ["TimeoutError"] * canary.MOST_STUCK + ["TooBusy"] * (8 - canary.MOST_STUCK)
        assert threading.active_count() - before <= canary.MOST_STUCK
        began = time.monotonic()
        await lane.close()
        assert time.monotonic() - began < 2
        for one in stuck:
            one.gate.set()

    asyncio.run(work())


def test_a_canary_is_asked_no_more_than_it_may_have_waiting() -> None:
    async def work() -> None:
        lane, slow = CanaryLane("m"), Paced()
        waiting = [asyncio.ensure_future(lane.answers(slow, [{}])) for _ in range(canary.MOST_WAITING)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(TooBusy):
            await lane.answers(slow, [{}])  # type: ignore[arg-type]
        slow.gate.set()
        assert len(await asyncio.gather(*waiting)) == canary.MOST_WAITING
        await lane.close()

    asyncio.run(work())
