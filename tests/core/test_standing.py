"""A decision starts something while it stands, and is sent again no sooner than a server forgets it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.policy.standing import AGAIN, AHEAD, due, objection

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
VALID = timedelta(days=3)
TICK = timedelta(microseconds=1)


def found(written: datetime, acts: datetime | None = None) -> str:
    return objection(written_at=written, acts_as_of=acts, valid_for=VALID, now=NOW)


@pytest.mark.parametrize(
    ("written", "acts", "said"),
    [
        (NOW, NOW, ""),
        (NOW - VALID, NOW, ""),
        (NOW - VALID - TICK, NOW, "decided 3 days ago, a decision stands for 3 days"),
        (NOW + AHEAD, NOW, ""),
        (NOW + AHEAD + TICK, NOW, "written 2026-01-05 12:05 UTC, which is 5 minutes ahead of this clock"),
        (NOW, NOW + AHEAD, ""),
        (NOW, NOW + 2 * VALID, "dated 2026-01-11 12:00 UTC, which is 6 days ahead of this clock"),
        (NOW, None, ""),
        (NOW, NOW - 100 * VALID, ""),  # late labels make a decision about a window long ago
    ],
)
def test_a_decision_stands_until_it_is_too_old_and_never_from_the_future(
    written: datetime, acts: datetime | None, said: str
) -> None:
    assert found(written, acts) == said


@given(minutes=st.integers(-20_000, 20_000))
def test_a_decision_stands_exactly_between_the_two_limits(minutes: int) -> None:
    written = NOW + timedelta(minutes=minutes)
    assert (found(written) == "") == (-3 * 24 * 60 <= minutes <= 5)


def test_a_decision_is_due_at_first_and_again_only_when_the_server_has_forgotten_it() -> None:
    assert due(sent_at=None, now=NOW)
    assert not due(sent_at=NOW, now=NOW)
    assert not due(sent_at=NOW - AGAIN, now=NOW)
    assert due(sent_at=NOW - AGAIN - TICK, now=NOW)
    assert timedelta(minutes=5) < AGAIN  # how long a server drops an event id it has seen
