from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon, minkowski

from tasks.core.drift.counting.bins import Bins, Counts, count, numeric_bins
from tasks.core.drift.measures.base import Pair, chance
from tasks.core.drift.measures.domain_auc import DOMAIN_AUC
from tasks.core.drift.measures.registry import MEASURES
from tests.pairs import READ, category_pair, numeric_pair, table_pair


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


def test_kullback_leibler_agrees_with_scipy_and_a_table_worked_by_hand():
    # .4 ln(.4 / .5) + .3 ln 1 + .3 ln(.3 / .2) = -.0892574 + .1216395 = .0323821
    pair = table_pair({"a": 500, "b": 300, "c": 200}, {"a": 200, "b": 150, "c": 150})
    found = READ["kl"](pair)
    assert found.statistic == pytest.approx(0.0323821, abs=1e-7)
    assert found.statistic == pytest.approx(stats.entropy([0.4, 0.3, 0.3], [0.5, 0.3, 0.2]), rel=1e-12)
    assert found.value == pytest.approx(0.0323821 - (1 / 1000 + 1 / 500), abs=1e-7)


def test_total_variation_agrees_with_scipy_and_a_table_worked_by_hand():
    pair = table_pair({"a": 500, "b": 300, "c": 200}, {"a": 200, "b": 150, "c": 150})
    found = READ["total_variation"](pair)
    assert found.statistic == pytest.approx(0.1)  # (.1 + 0 + .1) / 2
    assert found.statistic == pytest.approx(minkowski([0.5, 0.3, 0.2], [0.4, 0.3, 0.3], 1) / 2)
    both = np.array([700, 450, 350]) / 1500
    by_chance = np.sqrt(2 / np.pi * both * (1 - both) * (1 / 1000 + 1 / 500)).sum() / 2
    assert found.value == pytest.approx(np.sqrt(0.01 - by_chance**2))


@pytest.mark.parametrize("measure", ["kl", "total_variation"])
def test_what_chance_alone_makes_of_a_distance_is_taken_off(measure):
    rng = np.random.default_rng(5)
    found = [READ[measure](numeric_pair(rng.normal(size=3000), rng.normal(size=150))) for _ in range(80)]
    corrected, raw = (np.mean([getattr(one, part) for one in found]) for part in ("value", "statistic"))
    assert corrected < 0.45 * raw


def test_a_classifier_of_whole_rows_reads_no_single_feature_and_takes_its_limits_from_the_same_shifts():
    found = READ["domain_auc"](numeric_pair([1.0, 2.0] * 50, [1.0, 2.0] * 50))
    assert (found.value, found.p_value) == (None, None)
    for shift, limit in [(0.32, DOMAIN_AUC.warn), (0.45, DOMAIN_AUC.drift)]:
        assert limit == pytest.approx(stats.norm.cdf(shift / np.sqrt(2)), abs=0.001)


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


def test_chi_square_effect_is_cramers_v_when_the_samples_are_of_equal_size():
    table = np.array([[5000, 3000, 2000], [4000, 3000, 3000]])
    found = READ["chi_square"](table_pair(*[dict(zip("abc", row.tolist(), strict=True)) for row in table]))
    assert found.value == pytest.approx(stats.contingency.association(table, method="cramer"), abs=1e-3)


def test_ten_unseen_categories_where_ten_are_to_be_expected_are_no_drift():
    rng = np.random.default_rng(2)
    pair = category_pair(rng.integers(0, 2000, 3000), rng.integers(0, 2000, 1000))
    found = READ["unseen_share"](pair)
    assert pair.current.unseen > 150  # a fifth of the rows: e^-1.5
    assert found.value < 0.03
    assert found.p_value > 0.01
    assert (READ["psi"](pair).value, READ["chi_square"](pair).value) == (None, None)  # all of them rare


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


def test_infinite_and_unreadable_cells_are_invalid_and_nulls_are_not():
    found = READ["invalid_share"](numeric_pair([1.0, 2.0] * 50, [1.0] * 90 + [np.inf, "x"] * 4 + [None] * 2))
    assert found.value == pytest.approx(0.08)
    assert "4 infinite and 4 unreadable of 100" in found.note


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
