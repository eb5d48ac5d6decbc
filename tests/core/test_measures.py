from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tasks.core.drift.bins import Bins, Counts, category_bins, count, numeric_bins
from tasks.core.drift.measures.base import Pair, chance
from tasks.core.drift.measures.ks import p_of
from tasks.core.drift.measures.proportions import different, more
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.measures.unseen_share import beyond

READ = {measure.name: measure.read for measure in MEASURES}


def numeric_pair(reference, current) -> Pair:
    ours, theirs = pd.Series(reference, dtype=object), pd.Series(current, dtype=object)
    bins = numeric_bins("x", ours)
    return Pair(bins, count(bins, ours), count(bins, theirs))


def category_pair(reference, current) -> Pair:
    ours, theirs = pd.Series(reference, dtype=object), pd.Series(current, dtype=object)
    bins = category_bins("c", ours)
    return Pair(bins, count(bins, ours), count(bins, theirs))


def table_pair(reference: dict[str, int], current: dict[str, int]) -> Pair:
    return category_pair(
        [c for c, k in reference.items() for _ in range(k)], [c for c, k in current.items() for _ in range(k)]
    )


def test_psi_agrees_with_a_table_worked_by_hand():
    # shares .5 .3 .2 -> .4 .3 .3: (-.1) ln(.8) + 0 + .1 ln(1.5) = .0223144 + .0405465 = .0628609
    pair = table_pair({"a": 500, "b": 300, "c": 200}, {"a": 200, "b": 150, "c": 150})
    found = READ["psi"](pair)
    assert found.statistic == pytest.approx(0.0628609, abs=1e-7)
    assert found.value == pytest.approx(0.0628609 - 2 * (1 / 1000 + 1 / 500), abs=1e-7)


def test_psi_of_the_articles_binary_feature_is_large():
    # 5 % -> 50 %: .45 ln 10 + (-.45) ln(.5 / .95) = 1.0362 + .2888 = 1.3250
    found = READ["psi"](numeric_pair([1] * 50 + [0] * 950, [1] * 500 + [0] * 500))
    assert found.statistic == pytest.approx(1.3250, abs=1e-3)


@pytest.mark.parametrize("n", [100, 1000])
def test_psi_without_drift_is_near_nothing_at_any_size(n):
    rng = np.random.default_rng(3)
    found = [READ["psi"](numeric_pair(rng.normal(size=5000), rng.normal(size=n))) for _ in range(60)]
    raw = np.array([reading.statistic for reading in found])
    expected = 9 * (1 / 5000 + 1 / n)
    # half a row in empty cells and the logarithm's curvature add a little at 10 rows per cell
    assert raw.mean() == pytest.approx(expected, rel=0.25)
    assert np.mean([reading.value for reading in found]) < 0.4 * expected


def test_psi_limits_stand_for_the_shifts_that_they_are_said_to():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=100_000)
    for shift, limit in [(0.32, 0), (0.45, 1)]:
        pair = numeric_pair(reference, rng.normal(size=100_000) + shift)
        for measure in MEASURES:
            if measure.aspect == "distribution":
                bound = (measure.warn, measure.drift)[limit]
                assert measure.read(pair).value == pytest.approx(bound, rel=0.08), measure.name


def test_jensen_shannon_agrees_with_scipy():
    pair = table_pair({"a": 500, "b": 300, "c": 200}, {"a": 200, "b": 150, "c": 150, "z": 40})
    found = READ["jensen_shannon"](pair)
    p, q = pair.groups / pair.groups.sum(axis=1, keepdims=True)
    assert found.statistic == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)
    assert READ["jensen_shannon"](table_pair({"a": 99}, {"b": 99})).statistic == pytest.approx(1)


def test_wasserstein_agrees_with_scipy_on_the_raw_values():
    rng = np.random.default_rng(4)
    for reference, current in [
        (rng.normal(size=4000), rng.normal(0.5, 1.3, 3000)),
        (rng.lognormal(0, 1, 4000), rng.lognormal(0.2, 1.2, 3000)),
        (rng.poisson(3, 4000).astype(float), rng.poisson(4, 3000).astype(float)),
    ]:
        exact = stats.wasserstein_distance(reference, current) / reference.std()
        assert READ["wasserstein"](numeric_pair(reference, current)).value == pytest.approx(
            exact, rel=0.02, abs=0.003
        )


def test_wasserstein_sees_a_change_of_unit_in_the_outermost_cell():
    rng = np.random.default_rng(4)
    current = rng.normal(size=2000)
    wrong = np.where(current > 2.3, current * 1000, current)
    exact = stats.wasserstein_distance(current, wrong) / current.std()
    assert READ["wasserstein"](numeric_pair(current, wrong)).value == pytest.approx(exact, rel=0.01)


def test_wasserstein_of_a_constant_reference_cannot_be_told():
    found = READ["wasserstein"](numeric_pair([1.0] * 100, np.arange(100.0)))
    assert found.value is None
    assert "constant" in found.note


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
    assert found.p_value >= exact.pvalue * (1 - 1e-9)


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


def test_chi_square_effect_is_cramers_v_when_the_samples_are_of_equal_size():
    table = np.array([[5000, 3000, 2000], [4000, 3000, 3000]])
    found = READ["chi_square"](table_pair(*[dict(zip("abc", row.tolist(), strict=True)) for row in table]))
    assert found.value == pytest.approx(stats.contingency.association(table, method="cramer"), abs=1e-3)


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


def test_ten_unseen_categories_where_ten_are_to_be_expected_are_no_drift():
    rng = np.random.default_rng(2)
    pair = category_pair(rng.integers(0, 2000, 3000), rng.integers(0, 2000, 1000))
    found = READ["unseen_share"](pair)
    assert pair.current.unseen > 150  # a fifth of the rows: e^-1.5
    assert found.value < 0.03
    assert found.p_value > 0.01
    assert (READ["psi"](pair).value, READ["chi_square"](pair).value) == (None, None)  # all of them rare


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


def test_all_new_categories_have_nothing_in_common_with_the_reference():
    pair = category_pair(["a", "b"] * 100, ["y", "z"] * 50)
    assert READ["unseen_share"](pair).value == pytest.approx(1)
    assert READ["unseen_share"](pair).p_value < 1e-9
    assert READ["psi"](pair).value > 5
    assert READ["chi_square"](pair).value > 0.9


def test_unseen_of_an_identifier_or_a_sensitive_number_cannot_be_told():
    assert READ["unseen_share"](category_pair(range(10_050), range(100))).value is None
    masked = numeric_bins("x", pd.Series(range(100)), masked=True)
    counts = count(masked, pd.Series(range(100)))
    assert "sensitive" in READ["unseen_share"](Pair(masked, counts, counts)).note


def test_missing_share_counts_both_ways_and_agrees_with_fisher():
    up = READ["missing_share"](numeric_pair([1.0, 2.0] * 50, [1.0] * 80 + [None] * 20))
    down = READ["missing_share"](numeric_pair([1.0] * 80 + [None] * 20, [1.0, 2.0] * 50))
    assert up.value == down.value == pytest.approx(0.2)
    exact = stats.fisher_exact([[0, 100], [20, 80]], alternative="two-sided").pvalue
    assert up.p_value == pytest.approx(exact, rel=1e-6)  # margins are equal: both sides are alike


def test_infinite_and_unreadable_cells_are_invalid_and_nulls_are_not():
    found = READ["invalid_share"](numeric_pair([1.0, 2.0] * 50, [1.0] * 90 + [np.inf, "x"] * 4 + [None] * 2))
    assert found.value == pytest.approx(0.08)
    assert "4 infinite and 4 unreadable of 100" in found.note


def test_a_share_that_is_zero_or_one_in_both_has_no_test():
    assert more(0, 10, 0, 10) is None
    assert different(10, 10, 5, 5) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=20, max_size=200),
    st.lists(st.integers(-2, 14), min_size=20, max_size=200),
    st.randoms(),
    st.sampled_from([numeric_pair, category_pair]),
)
def test_every_measure_is_finite_never_negative_and_blind_to_the_order_of_rows(
    reference, current, random, make
):
    pair = make(reference, current)
    random.shuffle(reference)
    random.shuffle(current)
    again = make(reference, current)
    for measure in MEASURES:
        if pair.bins.kind in measure.kinds:
            found = measure.read(pair)
            assert found == measure.read(again)
            assert found.value is None or 0 <= found.value < np.inf
            assert found.p_value is None or 0 <= found.p_value <= 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=20, max_size=200), st.sampled_from([numeric_pair, category_pair])
)
def test_equal_samples_differ_in_nothing(values, make):
    pair = make(values, values)
    for measure in MEASURES:
        if pair.bins.kind in measure.kinds and measure.name != "unseen_share":
            found = measure.read(pair)
            assert found.value in (None, 0) or found.value == pytest.approx(0, abs=1e-9), measure.name
            assert found.p_value is None or found.p_value > 0.05


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=80),
    st.lists(st.integers(0, 400), min_size=1, max_size=80),
)
def test_pooling_loses_no_row_and_leaves_no_empty_group(reference, current):
    cells = max(len(reference), len(current))
    rows = [(*side, *[0] * (cells - len(side)), 0) for side in (reference, current)]
    if not all(map(sum, rows)):
        return
    for bins in (
        Bins("c", "categorical", categories=tuple(map(str, range(cells)))),
        Bins("x", "numeric", edges=tuple(map(float, range(cells)))),
    ):
        groups = Pair(bins, *[Counts(sum(r), 0, 0, 0, 0, r) for r in rows]).groups
        assert groups.sum(axis=1).tolist() == [sum(r) for r in rows]
        assert (groups.sum(axis=0) > 0).all()
        assert chance(groups) >= 0


def test_every_measure_in_the_registry_has_a_name_limits_and_a_reason_to_exist():
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    for measure in MEASURES:
        assert 0 < measure.warn < measure.drift
        assert set(measure.kinds) <= {"numeric", "categorical"}
        assert measure.read.__doc__ and "Return" in measure.read.__doc__


@pytest.mark.parametrize("measure", [m for m in MEASURES if m.aspect == "distribution"], ids=lambda m: m.name)
def test_a_larger_shift_never_measures_less(measure):
    rng = np.random.default_rng(6)
    reference, noise = rng.normal(size=3000), rng.normal(size=2000)
    values = [measure.read(numeric_pair(reference, noise + shift)).value for shift in (0, 0.3, 0.6, 1.2, 2.4)]
    assert all(a < b for a, b in pairwise(values))
