from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.renames import THRESHOLD, likely_renames, likeness

NAMES = st.lists(
    st.lists(
        st.sampled_from(["cust", "customer", "age", "id", "amt", "amount", "total", "1", "2"]),
        min_size=1,
        max_size=3,
    ).map("_".join),
    max_size=6,
)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("customer_age", "cust_age"),
        ("cust_age", "customer_age"),
        ("customer_age", "CustomerAge"),
        ("customer_age", "customer-age"),
        ("customer_age", "age_customer"),
        ("customer_age", "custage"),
        ("customer_age", "customer_agee"),
        ("tenure", "tenrue"),
        ("quantity", "qty"),
        ("total_amount", "amt_total"),
        ("spend", "spend_usd"),
        ("nswprice", "nsw_price"),
        ("größe_cm", "Größe_CM"),
        ("HTTPStatus", "http_status"),
    ],
)
def test_a_rename_is_recognised(expected: str, found: str) -> None:
    assert likely_renames([expected], [found, "unrelated", "x"]) == {expected: found}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("min_temperature", "max_temperature"),
        ("start_date", "end_date"),
        ("spend_1", "spend_2"),
        ("age", "customer_age_group"),
        ("age", "agency_code"),
        ("nswprice", "vicprice"),
        ("event_time", "timestamp"),
        ("cust_id", "cust_age"),
        ("plan", "region"),
        ("_", "__"),
    ],
)
def test_another_column_is_not_taken_for_a_rename(expected: str, found: str) -> None:
    assert likely_renames([expected], [found]) == {}


def test_there_is_no_guess_between_two_likely_names() -> None:
    assert likely_renames(["spend"], ["spend_usd", "spend_eur"]) == {}
    assert likely_renames(["customer_age", "customer_age_years"], ["cust_age"]) == {
        "customer_age": "cust_age"
    }
    assert likely_renames(["spend_a", "spend_b"], ["spend"]) == {}


def test_an_equal_name_in_another_spelling_beats_an_abbreviation() -> None:
    assert likely_renames(["customer_age"], ["cust_age", "customerAge"]) == {"customer_age": "customerAge"}
    assert likely_renames(["customer_age"], ["Customer_Age", "customerAge"]) == {}


def test_several_renames_at_once_are_paired_one_to_one() -> None:
    missing = ["customer_age", "customer_income", "plan"]
    found = ["cust_income", "cust_age", "plan_name", "noise"]
    expected = {"customer_age": "cust_age", "customer_income": "cust_income", "plan": "plan_name"}
    assert likely_renames(missing, found) == expected


@given(missing=NAMES, found=NAMES)
def test_hints_are_one_to_one_and_do_not_depend_on_order(missing: list[str], found: list[str]) -> None:
    hints = likely_renames(missing, found)
    assert set(hints) <= set(missing)
    assert set(hints.values()) <= set(found) - set(missing)
    assert len(set(hints.values())) == len(hints)
    assert likely_renames(missing[::-1], found[::-1]) == hints
    assert all(likeness(want, have) >= THRESHOLD for want, have in hints.items())


@given(one=st.text(max_size=20), other=st.text(max_size=20))
def test_likeness_is_a_share_and_works_both_ways(one: str, other: str) -> None:
    assert 0 <= likeness(one, other) <= 1
    assert likeness(one, other) == pytest.approx(likeness(other, one))
