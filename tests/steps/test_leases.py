"""A lease is one holder's for a while; who comes back late writes nothing. On SQLite and Postgres."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import RegistryError
from tasks.store import leases, ledger, lifecycle
from tasks.store.claims import this_process
from tasks.store.engine import writing
from tasks.store.leases import TTL
from tests.stores import BOTH, fresh_store

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


def test_a_lease_has_one_holder_and_says_who_and_until_when(store: Engine) -> None:
    mine = leases.take(store, "churn.move", "far:1:x:ann", now=T0)
    assert (mine.token, mine.expires_at) == (1, T0 + TTL)
    with pytest.raises(RegistryError, match=r"churn\.move held by far:1:x:ann until 2026-03-01 00:03:00Z"):
        leases.take(store, "churn.move", "far:2:x:bob", now=T0 + TTL - SECOND)
    assert leases.take(store, "other.move", "far:2:x:bob", now=T0).token == 1


def test_a_lease_that_is_over_is_taken_over_under_a_higher_token(store: Engine) -> None:
    late = leases.take(store, "m", "far:1:x:ann", now=T0)
    taken = leases.take(store, "m", "far:2:x:bob", now=T0 + TTL)
    assert taken.token == late.token + 1
    assert [leases.is_held(store, one) for one in (late, taken)] == [False, True]
    assert leases.release(store, late) is False
    with pytest.raises(RegistryError, match="lost the lease 1 of far:1:x:ann"):
        leases.renew(store, late, now=T0 + TTL)
    assert leases.is_held(store, taken)


def test_a_lease_given_back_is_free_at_once_and_its_token_keeps_rising(store: Engine) -> None:
    first = leases.take(store, "m", "far:1:x:ann", now=T0)
    assert leases.release(store, first) is True
    assert leases.release(store, first) is False
    assert leases.take(store, "m", "far:2:x:bob", now=T0).token == 2
    assert not leases.is_held(store, first)


def test_a_renewed_lease_ends_later_and_asking_again_changes_no_token(store: Engine) -> None:
    first = leases.take(store, "m", "far:1:x:ann", now=T0)
    longer = leases.renew(store, first, now=T0 + TTL - SECOND)
    assert (longer.token, longer.expires_at) == (1, T0 + 2 * TTL - SECOND)
    assert leases.take(store, "m", "far:1:x:ann", now=T0 + TTL).token == 1
    with pytest.raises(RegistryError, match="held by"):
        leases.take(store, "m", "far:2:x:bob", now=T0 + 2 * TTL - SECOND)


def test_the_lease_of_a_dead_process_of_this_machine_is_free_before_its_time(store: Engine) -> None:
    script = "from tasks.store.claims import this_process; print(this_process())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    dead = leases.take(store, "m", done.stdout.strip(), now=T0)
    taken = leases.take(store, "m", this_process(), now=T0 + SECOND)
    assert taken.token == dead.token + 1
    with pytest.raises(RegistryError, match="held by"):  # this process lives
        leases.take(store, "m", this_process(), now=T0 + SECOND)


def test_only_leases_that_are_over_and_not_given_back_are_told_as_expired(store: Engine) -> None:
    leases.take(store, "a", "far:1:x:ann", now=T0)
    leases.release(store, leases.take(store, "b", "far:1:x:ann", now=T0))
    leases.take(store, "c", "far:1:x:ann", now=T0 + SECOND)
    over = leases.expired(store, T0 + TTL)
    assert [(lease.name, lease.owner, lease.token) for lease in over] == [("a", "far:1:x:ann", 1)]


def test_of_many_threads_one_at_a_time_is_inside_and_each_has_a_token_of_its_own(store: Engine) -> None:
    inside, tokens, most = 0, [], 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        with leases.held(store, "m", timeout_seconds=60) as lease:
            with guard:
                inside += 1
                most = max(most, inside)
                tokens.append(lease.token)
            assert leases.is_held(store, lease)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, tokens) == (1, list(range(1, 9)))


def test_a_lease_is_given_back_after_a_failure_and_waiting_for_it_has_an_end(store: Engine) -> None:
    with pytest.raises(ZeroDivisionError), leases.held(store, "m"):
        _ = 1 / 0
    with (
        leases.held(store, "m", timeout_seconds=0),
        pytest.raises(RegistryError, match="m held by"),
        leases.held(store, "m", timeout_seconds=0),
    ):
        pytest.fail("two hold the lease")


def test_the_stores_clock_is_the_time_of_day_in_utc(store: Engine) -> None:
    assert abs(leases.clock(store) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_paused_holder_whose_lease_was_taken_over_writes_nothing(store: Engine) -> None:
    """It checks, is paused for longer than its lease, and wakes up in the middle of its work."""
    paused = leases.take(store, "m.move", "far:1:x:ann", now=T0)
    second = leases.take(store, "m.move", "far:2:x:bob", now=T0 + TTL + SECOND)
    row = {"model": "m", "from_version": None, "reason": "better", "at": T0}
    ledger.record(store, **row, decision_id="d2", action="promoted", to_version=2, actor="bob", fence=second)
    with pytest.raises(RegistryError, match="lost the lease 1"):
        ledger.record(
            store, **row, decision_id="d1", action="promoted", to_version=1, actor="ann", fence=paused
        )
    with pytest.raises(RegistryError, match="lost the lease 1"):
        lifecycle.advance(
            store, "m", 1, "CANDIDATE", expected_stage=None, actor="ann", reason="better", decision_id="d1",
            at=T0, fence=paused,
        )  # fmt: skip
    assert [entry.decision_id for entry in ledger.history(store, "m")] == ["d2"]
    assert lifecycle.moves(store, "m") == []


def test_a_takeover_waits_for_a_write_that_was_checked_already(store: Engine) -> None:
    """Between check and commit the lease cannot change hands, or the check would be worth nothing."""
    first = leases.take(store, "m", "far:1:x:ann", now=T0)
    taken: list[leases.Lease] = []
    late = threading.Thread(
        target=lambda: taken.append(leases.take(store, "m", "far:2:x:bob", now=T0 + TTL + SECOND))
    )
    with writing(store) as connection:
        leases.check(connection, first)
        late.start()
        late.join(0.3)
        assert late.is_alive()
        held = connection.execute(sa.text("SELECT owner FROM leases WHERE name = 'm'")).scalar()
        assert held == "far:1:x:ann"
    late.join(30)
    assert [lease.token for lease in taken] == [2]
