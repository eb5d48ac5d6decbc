"""What waits and until when, which version to go back to, and which rows a person wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import PromotionRefused
from tasks.core.messages import opening
from tasks.core.policy.approval import (
    approval_cause,
    approval_id,
    check_not_backdated,
    is_by_hand,
    promotion_id,
    rollback_id,
    waiting_versions,
)
from tasks.core.policy.approval_record import Shelf, shelf_markdown
from tasks.core.policy.decision import decision_id
from tasks.core.policy.served import served_before
from tasks.core.window import Window

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Row:
    decision_id: str
    action: str
    to_version: int | None
    at: datetime = T0
    from_version: int | None = None
    reason: str = "better"
    evidence: dict[str, str] = field(default_factory=dict)


def moved(*steps: int | str) -> list[Row]:
    """Return moves: a number promotes it, "<2" rolls back to version 2."""
    return [
        Row(f"d{place}", "rolled_back", int(step[1:]))
        if isinstance(step, str)
        else Row(f"d{place}", "promoted", step)
        for place, step in enumerate(steps)
    ]


def test_a_version_waits_for_as_long_as_the_spec_says_and_counts_as_rejected_from_then_on() -> None:
    (one,) = waiting_versions([Row("t1", "waiting", 1, from_version=7)], "3d")
    assert (one.version, one.attempt, one.against, one.since, one.until) == (1, "t1", 7, T0, T0 + 3 * DAY)
    assert not one.is_over(T0 + 3 * DAY - timedelta(microseconds=1))
    assert one.is_over(T0 + 3 * DAY)
    assert (one.is_overtaken(7), one.is_overtaken(8), one.is_overtaken(None)) == (False, True, True)


@pytest.mark.parametrize("action", ["promoted", "rejected", "refused"])
def test_any_end_of_its_approval_ends_the_waiting(action: str) -> None:
    rows = [Row("t1", "waiting", 1), Row("t2", "waiting", 2), Row(approval_id(1), action, 1)]
    assert [one.version for one in waiting_versions(rows, "3d")] == [2]


def test_a_promotion_by_other_means_ends_the_waiting_and_rows_about_others_do_not() -> None:
    waits = Row("t1", "waiting", 1)
    assert waiting_versions([waits, Row("promotion-v1-x", "promoted", 1)], "3d") == ()
    for other in (Row(approval_id(2), "rejected", 2), Row("t3", "kept", 1), Row("t4", "blocked", None)):
        assert len(waiting_versions([waits, other], "3d")) == 1


def test_nothing_is_decided_at_a_moment_before_the_newest_row() -> None:
    check_not_backdated(T0, [], model="churn")
    rows = [Row("d2", "kept", 2, at=T0 + DAY), Row("d1", "kept", 1)]  # by its moment, not by its place
    check_not_backdated(T0 + DAY, rows, model="churn")
    with pytest.raises(PromotionRefused) as caught:
        check_not_backdated(T0 + DAY - timedelta(seconds=1), rows, model="churn")
    assert str(caught.value) == (
        "[churn] found as_of 2026-01-05T23:59:59+00:00, before the ledger's newest row, d2 of "
        "2026-01-06T00:00:00+00:00; expected a moment not before it; to do: leave out --as-of, or give "
        "that one"
    )


def test_each_version_that_waits_is_an_incident_of_its_own_with_one_thing_to_do() -> None:
    assert approval_cause(7) != approval_cause(8)
    told = opening("churn", approval_cause(7), "warning", "version 7 waits", key="k")
    assert told.subject == "[warning] churn: approval v7"
    assert "To do: look at the waiting version with the flow promote" in told.body


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ((), ()),
        ((1,), ()),
        ((1, 2), (1,)),
        ((1, 2, 3), (2, 1)),
        ((1, 2, 3, "<2"), (1,)),
        ((1, 2, 3, "<2", "<1"), ()),
        ((1, 2, 3, "<1"), ()),  # 2 was passed over on purpose
        ((1, 2, 3, "<2", 4), (2, 1)),
        ((1, 2, 3, "<2", 3), (2, 1)),  # promoted again, 3 is good again: the top, not a target
        ((1, 2, 3, "<2", 3, 4), (3, 2, 1)),
        ((1, 2, "<9"), (1,)),  # a target that never served
        ((1, 2, 1), (2,)),
        (("<1",), ()),
    ],
)
def test_a_rollback_may_go_to_what_served_before_and_was_not_rolled_back(
    history: tuple[int | str, ...], expected: tuple[int, ...]
) -> None:
    assert served_before(moved(*history)) == expected


STEPS = st.lists(st.one_of(st.integers(1, 4), st.sampled_from(["<1", "<2", "<3", "<4"])), max_size=12)


@given(STEPS)
def test_following_the_proposals_never_meets_a_version_twice_and_comes_to_an_end(
    history: list[int | str],
) -> None:
    rows = moved(*history)
    seen = [rows[-1].to_version] if rows else []
    while targets := served_before(rows):
        assert targets[0] not in seen
        seen.append(targets[0])
        rows.append(Row("r", "rolled_back", targets[0]))
    assert len(seen) <= 4


def test_the_same_wish_has_the_same_id_and_any_other_another() -> None:
    ids = {
        promotion_id(3, state, actor, reason)
        for state in ("d1", "d2")
        for actor in ("ann", "bob")
        for reason in ("x", "y")
    }
    assert len(ids) == 8
    assert promotion_id(3, "d1", "ann", "x") == promotion_id(3, "d1", "ann", "x")
    assert promotion_id(3, "a", "bc", "x") != promotion_id(3, "ab", "c", "x")
    assert rollback_id(3, "d1") != rollback_id(3, "d2")


def test_a_persons_rows_are_told_from_those_of_the_loop() -> None:
    ours = decision_id("churn", "TRAIN", "decay", Window(T0, T0 + DAY))
    for by_hand in (approval_id(1), promotion_id(1, "s", "a", "r"), rollback_id(1, "s")):
        assert is_by_hand(by_hand)
    for other in (ours, "manual-churn-20260105T000000", "first-churn-20260105T000000"):
        assert not is_by_hand(other)


def test_a_look_at_an_empty_shelf_says_what_serves() -> None:
    text = shelf_markdown(Shelf("churn", 4, ()))
    assert text == "## churn: nothing waits for approval\n\nnothing waits for approval; version 4 serves\n"


def test_every_command_on_the_page_names_the_version_that_was_looked_at() -> None:
    rows = [Row("t1", "waiting", 1), Row("t2", "waiting", 2)]
    text = shelf_markdown(Shelf("churn", None, waiting_versions(rows, "3d"), 1))
    commands = [line for line in text.splitlines() if "flows/promote.py" in line]
    assert [line.rpartition(" ")[2] for line in commands] == ["approve", "reject"]
    assert all("--version 1 " in line for line in commands)


def test_a_reason_with_markup_stays_text_on_the_page() -> None:
    rows = [Row("t1", "waiting", 1, reason="<script>|*x*"), Row("t2", "waiting", 2)]
    text = shelf_markdown(Shelf("churn", None, waiting_versions(rows, "3d"), 2))
    assert r"\<script\>\|\*x\*" in text
    assert "<script>" not in text
