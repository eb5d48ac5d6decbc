"""What answers beside the champion, read from rows of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.model.second_opinion import Answering, why_no_mean
from tasks.core.policy.partners import (
    ServingPair,
    earlier_partners,
    pair_after,
    pair_at,
    partner_rollback_id,
    why_not_partner,
    withdrawn_partners,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    action: str
    to_version: int | None
    partner: int | None = None
    decision_id: str = "rule"
    at: datetime = START
    from_version: int | None = None
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


def promoted(number: int, day: int = 0) -> Row:
    return Row("promoted", number, at=START + timedelta(days=day))


def beside(champion: int, partner: int | None, day: int = 0, *, by_hand: bool = False) -> Row:
    decision = partner_rollback_id(champion, str(day)) if by_hand else "rule"
    return Row("partnered", champion, partner, decision, START + timedelta(days=day))


def test_a_new_champion_ends_any_partnership() -> None:
    rows = [promoted(1), promoted(2), beside(2, 1)]
    assert pair_after(rows) == ServingPair(2, 1)
    assert pair_after([*rows, Row("kept", 3)]) == ServingPair(2, 1)
    assert pair_after([*rows, promoted(3)]) == ServingPair(3)
    assert pair_after([*rows, Row("rolled_back", 1)]) == ServingPair(1)
    assert pair_after([]) == ServingPair(None)


def test_the_pair_of_a_moment() -> None:
    rows = [promoted(1, 1), promoted(2, 2), beside(2, 1, 3), beside(2, None, 5), promoted(3, 6)]
    at = [pair_at(rows, START + timedelta(days=day)) for day in range(7)]
    assert at == [
        *(ServingPair(None), ServingPair(1), ServingPair(2), ServingPair(2, 1)),
        *(ServingPair(2, 1), ServingPair(2), ServingPair(3)),
    ]


def test_a_change_dated_before_the_one_it_followed_counts_from_that_ones_date_on() -> None:
    rows = [promoted(1, 1), promoted(2, 2), beside(2, 1, 6), beside(2, None, 4)]
    assert pair_at(rows, START + timedelta(days=5)) == ServingPair(2)
    rows = [promoted(1, 1), promoted(2, 2), beside(2, 1, 6), promoted(3, 4)]
    assert pair_at(rows, START + timedelta(days=5)) == ServingPair(3)


MOVE = st.one_of(
    st.builds(promoted, st.integers(1, 4)),
    st.builds(lambda number: Row("rolled_back", number), st.integers(1, 4)),
    st.just(None),
)


@given(st.lists(st.tuples(MOVE, st.sampled_from([None, 1, 2, 3]), st.booleans()), max_size=12))
def test_undoing_ends_and_never_returns_to_what_was_withdrawn(steps: list[Any]) -> None:
    rows: list[Row] = [promoted(9)]
    for move, partner, by_hand in steps:
        champion = pair_after(rows).champion
        assert champion is not None
        rows.append(move or beside(champion, partner, len(rows), by_hand=by_hand))
    champion = pair_after(rows).champion
    assert champion is not None
    seen: set[int | None] = set()
    while earlier := earlier_partners(rows):
        left = pair_after(rows).partner
        assert earlier[0] != left
        assert left not in seen or left is None
        seen.add(left)
        rows.append(beside(champion, earlier[0], len(rows), by_hand=True))
        assert pair_after(rows) == ServingPair(champion, earlier[0])
        if left is not None:
            assert left in withdrawn_partners(rows, champion)
        assert len(rows) < 40


def test_a_rollback_undoes_the_last_change_and_then_the_one_before() -> None:
    rows = [promoted(1), promoted(2), promoted(3), beside(3, 1), beside(3, 2)]
    assert earlier_partners(rows) == (1, None)
    rows.append(beside(3, 1, by_hand=True))
    assert (earlier_partners(rows), withdrawn_partners(rows, 3)) == ((None,), {2})
    rows.append(beside(3, None, by_hand=True))
    assert (earlier_partners(rows), withdrawn_partners(rows, 3)) == ((), {1, 2})
    assert withdrawn_partners(rows, 2) == frozenset()


def test_a_rule_that_ends_a_partnership_withdraws_nothing() -> None:
    rows = [promoted(1), promoted(2), beside(2, 1), beside(2, None)]
    assert (earlier_partners(rows), withdrawn_partners(rows, 2)) == ((1,), frozenset())


def test_a_person_may_set_what_was_withdrawn() -> None:
    rows = [promoted(1), promoted(2), beside(2, 1), beside(2, None, by_hand=True), beside(2, 1, by_hand=True)]
    assert withdrawn_partners(rows, 2) == frozenset()


def test_a_partner_is_a_former_champion_that_nobody_found_bad() -> None:
    rows = [promoted(1), promoted(2), promoted(3), Row("kept", 4), beside(3, 1)]
    assert not why_not_partner(rows, 1)
    assert not why_not_partner(rows, 2)
    assert why_not_partner(rows, 4)
    assert why_not_partner([*rows, Row("rolled_back", 2)], 3)
    assert not why_not_partner([*rows, Row("rolled_back", 2), promoted(3), promoted(5)], 3)
    assert why_not_partner([*rows, Row("rejected", 1)], 1)


KNOWN = Answering(frozenset({"a", "b"}), frozenset({"c"}), (0, 1), has_probabilities=True)


@pytest.mark.parametrize(
    ("partner", "fits"),
    [
        (KNOWN, True),
        (Answering(frozenset({"a"}), frozenset(), (0, 1), has_probabilities=True), True),
        (Answering(frozenset({"a", "x"}), frozenset({"c"}), (0, 1), has_probabilities=True), False),
        (Answering(frozenset({"a"}), frozenset({"b"}), (0, 1), has_probabilities=True), False),
        (Answering(KNOWN.numeric, KNOWN.categorical, (1, 0), has_probabilities=True), False),
        (Answering(KNOWN.numeric, KNOWN.categorical, (0, 1), has_probabilities=False), False),
        (Answering(KNOWN.numeric, KNOWN.categorical, None, has_probabilities=False), False),
    ],
)
def test_two_versions_have_a_mean(partner: Answering, fits: bool) -> None:
    assert (why_no_mean(KNOWN, partner) == "") is fits


def test_two_regressors_have_a_mean() -> None:
    number = Answering(frozenset({"a"}), frozenset(), None, has_probabilities=False)
    assert why_no_mean(number, number) == ""
