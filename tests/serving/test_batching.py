"""Requests scored together: each gets its own answers, its own error, and nobody waits for company."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest

from serving.batching import Answer, Batcher, Bell, Row, TooBusy

T = TypeVar("T")


class Doubles:
    """Answers twice the row's number, refuses 13, and waits for `gate` if it is shut."""

    def __init__(self, *, is_rowwise: bool = True):
        self.is_rowwise = is_rowwise
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[list[int]] = []
        self.threads: set[int] = set()

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        assert self.gate.wait(30)
        numbers = [row["n"] for row in rows]
        self.asked.append(numbers)
        self.threads.add(threading.get_ident())
        if 13 in numbers:
            raise ValueError("13")
        return [{"prediction": 2 * number} for number in numbers]


def rows(*numbers: int) -> list[dict[str, int]]:
    return [{"n": number} for number in numbers]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def together(batcher: Batcher, scorer: Doubles, *asked: Sequence[Row]) -> list[Any]:
    """Ask while the first one holds the scoring thread, so that all others come together."""
    scorer.gate.clear()
    waiting = [asyncio.ensure_future(batcher.answers(scorer, rows(0)))]
    await asyncio.sleep(0)
    while batcher.batches == 0:  # the thread has taken the first
        await asyncio.sleep(0.001)
    waiting += [asyncio.ensure_future(batcher.answers(scorer, given)) for given in asked]
    await asyncio.sleep(0)
    scorer.gate.set()
    return (await asyncio.gather(*waiting, return_exceptions=True))[1:]


def test_what_came_while_a_batch_ran_is_one_call_and_each_gets_its_own_answers() -> None:
    async def work() -> None:
        scorer, batcher = Doubles(), Batcher("m")
        found = await together(batcher, scorer, rows(1), rows(2, 3), rows(4))
        assert found == [
            [{"prediction": 2}], [{"prediction": 4}, {"prediction": 6}], [{"prediction": 8}],
        ]  # fmt: skip
        assert scorer.asked == [[0], [1, 2, 3, 4]]
        assert scorer.threads == {batcher._thread.ident}
        await batcher.close()

    run(work())


def test_one_requests_error_is_its_own_and_the_others_are_answered() -> None:
    async def work() -> None:
        scorer, batcher = Doubles(), Batcher("m")
        found = await together(batcher, scorer, rows(1), rows(13, 5), rows(2))
        assert found[0] == [{"prediction": 2}]
        assert isinstance(found[1], ValueError)
        assert found[2] == [{"prediction": 4}]
        assert await batcher.answers(scorer, rows(7)) == [{"prediction": 14}]
        await batcher.close()

    run(work())


def test_requests_go_alone_where_company_could_change_a_bit() -> None:
    async def work() -> None:
        scorer, batcher = Doubles(is_rowwise=False), Batcher("m")
        await together(batcher, scorer, rows(1), rows(2, 3))
        assert scorer.asked == [[0], [1], [2, 3]]
        await batcher.close()

    run(work())


def test_requests_to_two_versions_are_never_one_call() -> None:
    async def work() -> None:
        old, new, batcher = Doubles(), Doubles(), Batcher("m")
        old.gate.clear()
        waiting = [
            asyncio.ensure_future(batcher.answers(one, rows(n))) for n, one in enumerate([old, new, old])
        ]
        await asyncio.sleep(0)
        old.gate.set()
        await asyncio.gather(*waiting)
        assert sorted(number for asked in old.asked for number in asked) == [0, 2]
        assert new.asked == [[1]]
        await batcher.close()

    run(work())


def test_a_batch_is_bounded_and_a_larger_request_goes_whole() -> None:
    async def work() -> None:
        scorer, batcher = Doubles(), Batcher("m", most_together=3)
        await together(batcher, scorer, rows(1, 2), rows(3, 4), rows(5), rows(6, 7, 8, 9), rows(10))
        assert scorer.asked == [[0], [1, 2], [3, 4, 5], [6, 7, 8, 9], [10]]
        await batcher.close()

    run(work())


def test_beyond_the_queue_a_request_is_refused_at_once_and_the_place_is_free_again_later() -> None:
    async def work() -> None:
        scorer, batcher = Doubles(), Batcher("m", most_waiting=2)
        scorer.gate.clear()
        waiting = [asyncio.ensure_future(batcher.answers(scorer, rows(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(TooBusy, match="2 requests wait"):
            await batcher.answers(scorer, rows(3))
        scorer.gate.set()
        assert await asyncio.gather(*waiting) == [[{"prediction": 2}], [{"prediction": 4}]]
        assert await batcher.answers(scorer, rows(3)) == [{"prediction": 6}]
        await batcher.close()

    run(work())


def test_a_caller_who_has_gone_costs_the_others_nothing() -> None:
    async def work() -> None:
        scorer, batcher = Doubles(), Batcher("m", most_waiting=3)
        scorer.gate.clear()
        first, gone, last = (asyncio.ensure_future(batcher.answers(scorer, rows(n))) for n in (1, 2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        scorer.gate.set()
        assert await first == [{"prediction": 2}]
        assert await last == [{"prediction": 6}]
        assert gone.cancelled()
        assert batcher._waiting == 0
        await batcher.close()

    run(work())


def test_closing_answers_what_waits_and_takes_nothing_more() -> None:
    async def work() -> None:
        scorer, batcher = Doubles(), Batcher("m")
        scorer.gate.clear()
        waiting = [asyncio.ensure_future(batcher.answers(scorer, rows(n))) for n in range(20, 70)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0)
        scorer.gate.set()
        await closing
        assert [found[0]["prediction"] for found in await asyncio.gather(*waiting)] == list(range(40, 140, 2))
        with pytest.raises(TooBusy, match="ending"):
            await batcher.answers(scorer, rows(1))
        assert not batcher._thread.is_alive()

    run(work())


def test_a_bell_tells_everybody_how_their_work_ended_and_forgets_who_has_gone() -> None:
    async def work() -> None:
        bell = Bell()
        works: list[Future[None]] = [Future() for _ in range(300)]
        waiting = [asyncio.ensure_future(bell.wait(one)) for one in works]
        await asyncio.sleep(0)
        waiting[5].cancel()

        def end(number: int) -> None:
            if number % 100 == 7:
                works[number].set_exception(ValueError(str(number)))
            else:
                works[number].set_result(None)

        threads = [
            threading.Thread(target=lambda first=first: [end(n) for n in range(first, 300, 3)])
            for first in range(3)
        ]
        for one in threads:
            one.start()
        found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        failed = [n for n, one in enumerate(found) if isinstance(one, ValueError)]
        assert failed == [7, 107, 207]
        assert isinstance(found[5], asyncio.CancelledError)
        assert sum(one is None for one in found) == 296
        done: Future[None] = Future()
        done.set_result(None)
        await bell.wait(done)
        for one in threads:
            one.join()

    run(work())
