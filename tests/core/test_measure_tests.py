from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.measures.base import Pair
from tasks.core.drift.measures.ks import p_of
from tasks.core.drift.measures.proportions import different, more
from tasks.core.drift.measures.unseen_share import beyond
from tests.pairs import READ, category_pair, numeric_pair, table_pair


def test_ks_of_a_discrete_column_is_scipys_to_the_last_digit():
    rng = np.random.default_rng(5)
    reference, current = rng.poisson(3, 1000).astype(float), rng.poisson(3.3, 700).astype(float)
    found, exact = (
        READ["ks"](numeric_pair(reference, current)),
        stats.ks_2samp(reference, current, method="asymp"),
    )
    assert found.value == pytest.approx(exact.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(exact.pvalue, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.5, 0.5), st.floats(0.6, 1.6))
def test_ks_of_a_continuous_column_is_never_more_significant_than_scipys_and_close(seed, shift, width):
    rng = np.random.default_rng(seed)
    reference, current = rng.normal(size=2000), rng.normal(shift, width, 500)
    found, exact = (
        READ["ks"](numeric_pair(reference, current)),
        stats.ks_2samp(reference, current, method="asymp"),
    )
    assert found.value <= exact.statistic + 1e-12
    assert found.value >= exact.statistic - 1 / 64
    assert found.p_value >= exact.pvalue * (1 - 1e-9 if exact.pvalue < 0.02 else 0.995)


def test_the_limit_used_for_huge_samples_agrees_with_the_slow_formula():
    size = 60_000  # n m / (n + m)
    for z in (0.8, 1.5, 2.5, 3.5):
        distance = z / np.sqrt(size)
        assert p_of(distance, 2 * size, 2 * size) == pytest.approx(stats.kstwo.sf(distance, size), rel=0.02)


def test_chi_square_agrees_with_scipy():
    reference, current = {"a": 500, "b": 300, "c": 200}, {"a": 200, "b": 150, "c": 150}
    found = READ["chi_square"](table_pair(reference, current))
    table = [list(reference.values()), list(current.values())]
    exact = stats.chi2_contingency(table, correction=False)
    assert found.statistic == pytest.approx(exact.statistic, rel=1e-12)
    assert found.p_value == pytest.approx(exact.pvalue, rel=1e-9)


def test_chi_square_of_a_rare_category_is_the_exact_test():
    found = READ["chi_square"](table_pair({"a": 980, "b": 20}, {"a": 44, "b": 6}))
    exact = stats.fisher_exact([[20, 980], [6, 44]], alternative="less").pvalue
    assert found.p_value == pytest.approx(2 * 2 * exact, rel=1e-9)  # two sides, two groups


@pytest.mark.parametrize("kind", ["chi_square", "ks", "missing_share", "unseen_share"])
def test_p_values_reject_no_more_often_than_they_say(kind):
    # counts drawn directly, so that the tail where a shared budget lies is reached
    rng = np.random.default_rng(11)
    repeats, n, m = 2_000 if kind in {"chi_square", "ks"} else 5_000, 3000, 150
    p_values = []
    if kind in {"chi_square", "ks"}:
        share = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.04, 0.01])
        bins = (
            Bins("c", "categorical", categories=tuple("abcdefg"))
            if kind == "chi_square"
            else Bins("x", "numeric", edges=(1.0, 2, 3, 4, 5, 6), values=(1.0, 2, 3, 4, 5, 6, 7))
        )
        tail = (0,) if kind == "chi_square" else ()
        for ours, theirs in zip(
            rng.multinomial(n, share, repeats), rng.multinomial(m, share, repeats), strict=True
        ):
            cells = [(*map(int, row), *tail) for row in (ours, theirs)]
            pair = Pair(bins, *[Counts(sum(c), 0, 0, 0, 0, c) for c in cells])
            p_values.append(READ[kind](pair).p_value)
    elif kind == "missing_share":
        for a, b in zip(rng.binomial(n, 0.02, repeats), rng.binomial(m, 0.02, repeats), strict=True):
            p_values.append(different(int(a), n, int(b), m))
    else:  # values beyond the range of n draws: the mass there is Beta(2, n - 1), the reference knows two
        outside = rng.binomial(m, rng.beta(2, n - 1, repeats))
        p_values = [beyond(2, 0, n, int(k), m) for k in outside]
    found = np.array([1.0 if p is None else p for p in p_values])
    for level in (0.05, 0.01, 0.001):
        assert (found <= level).mean() <= level + 3.3 * np.sqrt(level / repeats) + 0.1 * level


@pytest.mark.parametrize(
    ("levels", "n", "m"), [(30, 42, 42), (300, 42, 1000), (2000, 300, 10_000), (2000, 5000, 10_000)]
)
def test_unseen_categories_are_called_new_no_more_often_than_said(levels, n, m):
    # a reference of few rows per category is itself unsure how much it did not show
    rng = np.random.default_rng(levels + n)
    even, repeats = np.full(levels, 1 / levels), 1500
    found = []
    for ours, theirs in zip(
        rng.multinomial(n, even, repeats), rng.multinomial(m, even, repeats), strict=True
    ):
        once, twice = int((ours == 1).sum()), int((ours == 2).sum())
        p_value = beyond(once, twice, n, int(theirs[ours == 0].sum()), m)
        found.append(1.0 if p_value is None else p_value)
    for level in (0.05, 0.01, 0.002):
        assert (np.array(found) <= level).mean() <= level + 3.3 * np.sqrt(level / repeats)


def test_where_every_reference_value_is_single_nothing_is_called_new():
    assert beyond(50, 0, 50, 50, 50) == 1.0
    assert beyond(0, 0, 50, 0, 50) is None


def test_the_frequent_categories_of_the_reference_are_not_taken_for_drift():
    # of 2,000 equal categories the reference's most frequent ones are frequent by luck
    rng = np.random.default_rng(8)
    p_values = [
        READ["chi_square"](category_pair(rng.integers(0, 300, 6000), rng.integers(0, 300, 3000))).p_value
        for _ in range(40)
    ]
    assert np.mean(np.array(p_values) < 0.05) < 0.2


def test_missing_share_counts_both_ways_and_agrees_with_fisher():
    up = READ["missing_share"](numeric_pair([1.0, 2.0] * 50, [1.0] * 80 + [None] * 20))
    down = READ["missing_share"](numeric_pair([1.0] * 80 + [None] * 20, [1.0, 2.0] * 50))
    assert up.value == down.value == pytest.approx(0.2)
    exact = stats.fisher_exact([[0, 100], [20, 80]], alternative="two-sided").pvalue
    assert up.p_value == pytest.approx(exact, rel=1e-6)  # margins are equal: both sides are alike


def test_a_share_that_is_zero_or_one_in_both_has_no_test():
    assert more(0, 10, 0, 10) is None
    assert different(10, 10, 5, 5) is None
