"""Probation: a champion's first windows against its error budget, and who is on probation at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.policy.probation import auto_rollback_id, is_auto_rollback, judge_probation, on_trial
from tasks.core.window import Window

PROMOTED = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Check:
    window: Window
    outcome: str


@dataclass(frozen=True)
class Row:
    action: str
    from_version: int | None
    to_version: int | None
    decision_id: str = "d"


def checked(*outcomes: str) -> list[Check]:
    """Return checks of consecutive weeks, the first of which begins with the promotion."""
    return [
        Check(Window(PROMOTED + number * WEEK, PROMOTED + (number + 1) * WEEK), outcome)
        for number, outcome in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("outcomes", "expected", "judged"),
    [
        ((), "on probation", 0),
        (("drift",), "on probation", 1),
        (("ok", "drift"), "on probation", 2),
        (("ok", "drift", "ok"), "passed", 3),
        (("warn", "warn", "warn"), "passed", 3),
        (("drift", "drift"), "rollback", 2),
        (("drift", "ok", "drift"), "rollback", 3),
        (("ok", "ok", "drift", "drift"), "passed", 3),  # the fourth window is no probation
        (("undecided", "drift", "undecided", "drift"), "rollback", 2),
        (("undecided", "undecided", "undecided"), "on probation", 0),
        (("undecided",) * 4 + ("drift", "drift"), "rollback", 2),
        (("undecided",) * 5 + ("drift", "drift"), "not on probation", 2),
        (("drift", "drift", *("ok",) * 5), "not on probation", 3),  # found out long after: too late for this
    ],
)
def test_two_bad_of_the_first_three_windows_are_too_many(
    outcomes: tuple[str, ...], expected: str, judged: int
) -> None:
    found = judge_probation(checked(*outcomes), PROMOTED, 3, (2, 3))
    assert (found.outcome, found.judged) == (expected, judged)


def test_windows_before_the_promotion_and_those_that_overlap_do_not_count_twice() -> None:
    before = Check(Window(PROMOTED - WEEK, PROMOTED), "drift")
    assert judge_probation([before, *checked("drift")], PROMOTED, 3, (2, 3)).outcome == "on probation"
    daily = [Check(Window.ending(PROMOTED + WEEK + back * DAY, WEEK), "drift") for back in range(7)]
    assert judge_probation(daily, PROMOTED, 3, (2, 3)).judged == 1
    apart = Check(Window.ending(PROMOTED + 2 * WEEK, WEEK), "drift")
    found = judge_probation([*daily, apart], PROMOTED, 3, (2, 3))
    assert found.outcome == "rollback"
    assert found.span == Window(PROMOTED, PROMOTED + 2 * WEEK)


def test_a_window_during_which_it_was_promoted_counts() -> None:
    split = Check(Window(PROMOTED - 3 * DAY, PROMOTED + 4 * DAY), "drift")
    assert judge_probation([split], PROMOTED, 3, (2, 3)).bad == (split.window,)


def test_no_probation_and_one_shorter_than_m() -> None:
    assert judge_probation(checked("drift", "drift"), PROMOTED, 0, (2, 3)).outcome == "not on probation"
    assert judge_probation(checked("drift"), PROMOTED, 1, (2, 3)).outcome == "rollback"
    assert judge_probation(checked("ok"), PROMOTED, 1, (2, 3)).outcome == "passed"


def test_the_reason_counts_and_names_the_window() -> None:
    found = judge_probation(checked("drift", "ok", "drift"), PROMOTED, 3, (2, 3))
    assert found.reasons == (
        "2 of 3 windows since its promotion bad, 2 of 3 are too many",
        "the last bad one 2026-03-16T00:00Z..2026-03-23T00:00Z",
    )


@given(st.lists(st.sampled_from(["ok", "warn", "drift", "undecided"]), max_size=12), st.randoms())
def test_the_order_of_checks_does_not_matter_and_good_windows_never_send_back(
    outcomes: list[str], random: object
) -> None:
    checks = checked(*outcomes)
    found = judge_probation(checks, PROMOTED, 3, (2, 3))
    shuffled = list(checks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge_probation(shuffled, PROMOTED, 3, (2, 3)) == found
    if outcomes.count("drift") < 2:
        assert found.outcome != "rollback"
    assert found.judged <= 3


def test_only_a_version_new_to_serving_that_followed_another_is_on_trial() -> None:
    first, second = Row("promoted", None, 1), Row("promoted", 1, 2)
    back, kept = Row("rolled_back", 2, 1), Row("kept", 2, 3)
    assert on_trial([]) is None
    assert on_trial([first]) is None
    assert on_trial([first, second]) is second
    assert on_trial([first, second, kept]) is second
    assert on_trial([first, second, back]) is None
    assert on_trial([first, second, back, Row("promoted", 1, 2)]) is None, "a person brought it back"
    assert on_trial([first, second, back, Row("promoted", 1, 4)]).to_version == 4


def test_an_automatic_rollback_has_one_id_per_time_that_the_version_came_to_serve() -> None:
    one = auto_rollback_id(3, "train-decay-1")
    assert one == auto_rollback_id(3, "train-decay-1")
    assert len({one, auto_rollback_id(3, "approval-v3"), auto_rollback_id(4, "train-decay-1")}) == 3
    assert is_auto_rollback(one)
    assert len(auto_rollback_id(2, one)) == len(one)
    assert not is_auto_rollback("rollback-v3-0123456789abcdef")
