"""One decision, one retraining: raced for by real processes, on SQLite and Postgres."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy.engine import Engine

from tasks.attempt import Attempt, begin_attempt
from tasks.core.policy.decision import Decision
from tasks.store import claims, ledger
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.stores import BOTH, fresh_url, place

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

# Waits for "go", claims, says what it was told, and then lives until its input ends.
RACER = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from pydantic import SecretStr
from tasks.settings import Settings
from tasks.store import claims
from tasks.store.engine import open_store
url, folder, decision = sys.argv[1:]
store = open_store(Settings(state_dir=Path(folder), store=SecretStr(url)))
print("ready", flush=True)
sys.stdin.readline()
me = claims.this_process()
answer = claims.claim(store, decision, "churn", me, datetime(2026, 1, 5, tzinfo=UTC))
print(answer.acquired, answer.state, answer.holder == me, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture
def store(url: str, tmp_path: Path) -> Engine:
    return open_store(place(url, tmp_path))


class Racers:
    """Processes that claim when told to; all have ended when the test has."""

    def __init__(self, url: str, folder: Path):
        self.command = [sys.executable, "-c", RACER, url, str(folder)]
        self.processes: list[subprocess.Popen[str]] = []

    def line_up(self, *decisions: str) -> None:
        self.processes = [
            subprocess.Popen(
                [*self.command, decision],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for decision in decisions
        ]
        assert [self._said(process) for process in self.processes] == ["ready"] * len(decisions)

    def race(self) -> list[str]:
        for process in self.processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        return [self._said(process) for process in self.processes]

    def close(self) -> None:
        for process in self.processes:
            process.communicate(timeout=30)

    @staticmethod
    def _said(process: subprocess.Popen[str]) -> str:
        assert process.stdout
        return process.stdout.readline().strip()


@pytest.fixture
def racers(url: str, tmp_path: Path) -> Iterator[Racers]:
    racers = Racers(url, tmp_path / "state")
    yield racers
    racers.close()


def test_of_five_processes_one_runs_and_after_its_death_another(racers: Racers, store: Engine) -> None:
    racers.line_up(*["d1"] * 5)
    answers = racers.race()
    assert sorted(answers) == ["False busy False"] * 4 + ["True new True"]

    # The holder lives, though it says nothing: nobody else may run.
    assert claims.claim(store, "d1", "churn", claims.this_process(), NOW + MINUTE).state == "busy"

    holder = racers.processes[answers.index("True new True")]
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    me = claims.this_process()
    taken = claims.claim(store, "d1", "churn", me, NOW + MINUTE)
    assert (taken.acquired, taken.state, taken.holder) == (True, "taken_over", me)
    assert claims.claim(store, "d1", "churn", claims.this_process(), NOW + MINUTE).state == "busy"


def test_of_processes_with_different_decisions_one_retrains_the_model(racers: Racers, store: Engine) -> None:
    racers.line_up("d1", "d2", "d3")
    answers = racers.race()
    assert sorted(answers) == ["False busy False"] * 2 + ["True new True"]
    winner = f"d{answers.index('True new True') + 1}"
    blocked = claims.claim(store, "d9", "churn", claims.this_process(), NOW)
    assert (blocked.state, blocked.decision_id) == ("busy", winner)
    assert claims.claim(store, "d9", "spend", claims.this_process(), NOW).acquired


def test_of_eight_threads_one_runs(store: Engine) -> None:
    barrier = Barrier(8)

    def claim(_: int) -> bool:
        barrier.wait()
        return claims.claim(store, "d1", "churn", claims.this_process(), NOW).acquired

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == [False] * 7 + [True]


def test_a_finished_decision_is_never_run_again(store: Engine) -> None:
    me = claims.this_process()
    claims.claim(store, "d1", "churn", me, NOW)
    assert claims.finish(store, "d1", me, "promoted")
    again = claims.claim(store, "d1", "churn", me, NOW + 99 * MINUTE)
    assert (again.acquired, again.state, again.outcome) == (False, "done", "promoted")
    assert claims.claim(store, "d2", "churn", claims.this_process(), NOW).state == "new"


def test_a_holder_elsewhere_keeps_its_claim_for_its_lease_and_no_longer(store: Engine) -> None:
    far, me = "elsewhere:1:77:run", claims.this_process()
    claims.claim(store, "d1", "churn", far, NOW)
    assert claims.claim(store, "d1", "churn", me, NOW + 29 * MINUTE).state == "busy"
    assert claims.renew(store, "d1", far, NOW + 29 * MINUTE)
    assert claims.claim(store, "d1", "churn", me, NOW + 31 * MINUTE).state == "busy"
    assert claims.claim(store, "d1", "churn", me, NOW + 59 * MINUTE).state == "taken_over"
    # What the first holder does from now on no longer counts, and it is told so.
    assert not claims.renew(store, "d1", far, NOW + 60 * MINUTE)
    assert not claims.finish(store, "d1", far, "promoted")
    assert not claims.release(store, "d1", far)
    assert claims.look(store, "d1", "churn", NOW + 60 * MINUTE).holder == me


def test_a_process_that_got_the_number_of_a_dead_one_does_not_hold_its_claim(store: Engine) -> None:
    host, pid, started, run = claims.this_process().split(":")
    claims.claim(store, "d1", "churn", f"{host}:{pid}:{int(started) - 1}:{run}", NOW)
    assert claims.claim(store, "d1", "churn", claims.this_process(), NOW).state == "taken_over"


def test_a_dead_holder_of_another_decision_does_not_block_the_model(store: Engine) -> None:
    host, _, _, _ = claims.this_process().split(":")
    claims.claim(store, "d1", "churn", f"{host}:{2**22 + 1}:5:x", NOW)  # beyond the largest pid of Linux
    me = claims.this_process()
    assert claims.claim(store, "d2", "churn", me, NOW).state == "new"
    assert claims.claim(store, "d1", "churn", claims.this_process(), NOW).decision_id == "d2"
    claims.finish(store, "d2", me, "kept")
    assert claims.claim(store, "d1", "churn", claims.this_process(), NOW).state == "taken_over"


def test_a_released_decision_can_be_claimed_again(store: Engine) -> None:
    me = claims.this_process()
    claims.claim(store, "d1", "churn", me, NOW)
    assert claims.release(store, "d1", me)
    assert claims.claim(store, "d1", "churn", claims.this_process(), NOW).state == "taken_over"


def test_the_same_run_may_claim_again_what_it_holds(store: Engine) -> None:
    me = claims.this_process("flow-run-7")
    assert claims.claim(store, "d1", "churn", me, NOW).state == "new"
    assert claims.claim(store, "d1", "churn", claims.this_process("flow-run-7"), NOW).acquired
    assert not claims.claim(store, "d1", "churn", claims.this_process("flow-run-8"), NOW).acquired


def test_looking_claims_nothing(store: Engine) -> None:
    assert [claims.look(store, "d1", "churn", NOW).state for _ in range(2)] == ["new", "new"]
    me = claims.this_process()
    claims.claim(store, "d1", "churn", me, NOW)
    seen = claims.look(store, "d1", "churn", NOW)
    assert (seen.acquired, seen.state, seen.holder) == (False, "busy", me)


# A decision that was overtaken.

DAY = timedelta(days=1)


@pytest.fixture
def begun(url: str, store: Engine, tmp_path: Path) -> Callable[[datetime | None], Attempt]:
    """Begin the attempt of decision d1, decided at NOW, by an event or as of a given moment."""
    decision = Decision("TRAIN", "decay", ("score fell",), "d1")
    ledger.record_decision(store, decision, model="churn", at=NOW, now=datetime.now(UTC))
    return lambda as_of: begin_attempt.fn(
        make_spec(), as_of, reason="decay", decision_id="d1", settings=place(url, tmp_path)
    )


def trained(store: Engine, decision: str, at: datetime, action: ledger.Action = "kept") -> None:
    ledger.record(
        store, model="churn", decision_id=decision, action=action, from_version=None, to_version=9,
        actor="retrain", reason="test", at=at,
    )  # fmt: skip


@pytest.mark.parametrize("as_of", [None, NOW, NOW + 9 * DAY])
def test_a_decision_that_another_training_overtook_starts_nothing_whatever_moment_is_given(
    as_of: datetime | None, begun: Callable[[datetime | None], Attempt], store: Engine
) -> None:
    trained(store, "d2", NOW + DAY)
    found = begun(as_of)
    assert (found.acquired, found.why) == (False, "overtaken by d2, a retraining after it was decided")
    assert claims.look(store, "d1", "churn", datetime.now(UTC)).state == "new"


def test_what_was_trained_before_or_at_the_moment_of_the_decision_overtakes_nothing(
    begun: Callable[[datetime | None], Attempt], store: Engine
) -> None:
    trained(store, "d0", NOW)  # as in a replay, whose checks of one window act as of one moment
    trained(store, "d2", NOW + DAY, "skipped")
    trained(store, "promotion-v9-1", NOW + DAY, "promoted")
    assert begun(NOW).acquired
