from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.verdict import judge
from tests.drifting import check, one_feature, outcome_of
from tests.make import make_spec


def test_a_column_of_nothing_but_nulls_drifts_by_its_missing_share():
    verdict = check(np.arange(1000.0), [np.nan] * 100)
    assert (verdict.outcome, outcome_of(verdict, "missing_share")) == ("drift", "drift")
    assert outcome_of(verdict, "ks") == outcome_of(verdict, "psi") == "undecided"
    assert "0.0% before, 100.0% now" in verdict.features[0].reason


def test_a_column_that_is_absent_drifts_and_is_named():
    spec = one_feature()
    reference = build_reference(pd.DataFrame({"x": np.arange(1000.0)}), spec)
    verdict = judge(reference, profile_frame(pd.DataFrame({"y": range(100)}), reference), spec)
    assert verdict.drifted == ("x",)
    assert "absent from the window: x" in verdict.reason


def test_one_null_does_not_silence_a_drifted_column():
    # KS of a column with one NaN has p = nan, and nan < alpha is False
    current = np.r_[np.random.default_rng(0).normal(3, 1, 499), np.nan]
    assert check(np.random.default_rng(1).normal(size=1000), current).outcome == "drift"


def test_nulls_in_the_reference_do_not_silence_a_drifted_column():
    reference = np.where(np.arange(2000) % 100 == 0, np.nan, np.random.default_rng(1).normal(size=2000))
    assert check(reference, np.random.default_rng(0).normal(3, 1, 500)).outcome == "drift"


def test_nulls_on_both_sides_alone_are_undecided():
    verdict = check([None] * 500, [None] * 100)
    assert verdict.outcome == "undecided"
    assert "0 values in the reference" in verdict.reason


def test_a_sparse_column_is_named_and_does_not_silence_the_others():
    spec = make_spec(features={"numeric": ["x", "rare"]}, contract={})
    rng = np.random.default_rng(0)

    def frame(rows, shift=0.0):
        rare = np.where(np.arange(rows) % 100 == 0, 1.0, np.nan)
        return pd.DataFrame({"x": rng.normal(shift, 1, rows), "rare": rare})

    reference = build_reference(frame(5000), spec)
    calm = judge(reference, profile_frame(frame(500), reference), spec)
    assert calm.outcome == "ok"
    assert "1 of 2 features could not be judged (rare: 5 values in the window, 20 are needed)" in calm.reason
    assert judge(reference, profile_frame(frame(500, 2.0), reference), spec).drifted == ("x",)


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        ([3.5] * 500, [3.5] * 100, "ok"),  # of one value in both, "unseen" is judged: there is none
        ([3.5] * 500, [4.5] * 100, "drift"),
        ([3.5] * 500, [3.5] * 60 + [9.9] * 40, "drift"),
        (list(np.linspace(0, 1, 500)), [0.5] * 100, "drift"),
    ],
)
def test_constant_numbers_are_judged_by_what_else_appears(reference, current, expected):
    assert check(reference, current).outcome == expected


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        (["a"] * 500, ["a"] * 100, "ok"),
        (["a"] * 500, ["b"] * 100, "drift"),
        (["a", "b"] * 250, ["y", "z"] * 50, "drift"),
        (["a", "b"] * 250, ["a", "b"] * 44 + ["z"] * 12, "drift"),
        ([True] * 250 + [False] * 250, ["True"] * 50 + ["False"] * 50, "ok"),
        ([0] * 250 + [1] * 250, [True] * 50 + [False] * 50, "ok"),
        ([True] * 475 + [False] * 25, [True] * 50 + [False] * 50, "drift"),
        ([1, 2] * 250, [Decimal(1), "2"] * 50, "ok"),
        (["a", "b"] * 250, ["a", ["b"]] * 50, "drift"),
        (["a", "b"] * 250, [None, "b"] * 50, "drift"),
    ],
)
def test_categories_of_every_kind_have_a_stated_outcome(reference, current, expected):
    verdict = check(pd.Series(reference, dtype=object), pd.Series(current, dtype=object), "categorical")
    assert verdict.outcome == expected


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        ([Decimal(i % 100) for i in range(200)], "ok"),
        ([str(i % 100) for i in range(200)], "ok"),
        ([*range(90), *["text"] * 10], "drift"),
        ([*range(90), *[float("inf")] * 10], "drift"),
        ([*range(90), *[10**400] * 10], "drift"),
        ([*range(80), *[10**17 + i for i in range(20)]], "drift"),
        ([*range(90), *[None] * 5, *[[1]] * 5], "drift"),
        ([True, False] * 50, "drift"),
    ],
)
def test_numbers_of_every_kind_have_a_stated_outcome(current, expected):
    reference = pd.Series(np.tile(np.arange(100), 20))
    assert check(reference, pd.Series(current, dtype=object)).outcome == expected


def test_huge_identifiers_that_move_are_found():
    before = pd.Series(np.arange(2000) + 2**60)
    assert check(before, pd.Series(np.arange(500) * 4 + 2**60)).outcome == "ok"
    assert check(before, pd.Series(np.arange(500) * 4 + 2**61)).outcome == "drift"


def test_an_identifier_column_never_says_that_its_new_values_are_fine():
    verdict = check(np.arange(12_000), np.arange(12_000) + 10**6, "categorical")
    assert outcome_of(verdict, "unseen_share") == "undecided"
    assert verdict.outcome == "undecided"
    assert "frequent enough" in verdict.reason


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=2)), min_size=50, max_size=90),
    st.sampled_from(["numeric", "categorical"]),
)
def test_any_window_at_all_gets_a_verdict_that_fits_into_json(values, kind):
    reference = list(range(30)) * 10
    verdict = check(reference, pd.Series(values, dtype=object), kind)
    assert verdict.outcome in {"ok", "warn", "drift", "undecided"}
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["outcome"] == verdict.outcome
    assert verdict.reason


def test_many_rare_categories_are_judged_by_the_unseen_and_said_to_be_too_rare_otherwise():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2000, 4000)
    calm = check(before, rng.integers(0, 2000, 500), "categorical")
    assert (calm.outcome, outcome_of(calm, "unseen_share")) == ("undecided", "ok")
    assert check(before, rng.integers(1500, 2500, 500), "categorical").outcome == "drift"
