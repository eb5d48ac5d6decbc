from __future__ import annotations

import functools
import itertools
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.drift.counting.bins import FARTHEST, STEP, category_bins, cell_of, count, numeric_bins
from tasks.core.drift.profile import SCORE, Reference, build_reference, profile_frame
from tasks.core.errors import DriftError
from tests.make import make_frame, make_spec

KEY = b"secret"


def small_spec(**over):
    return make_spec(features={"numeric": ["x"], "categorical": ["c"], **over}, contract={})


def small_frame(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"x": rng.normal(size=rows), "c": rng.choice(list("abc"), rows)})


numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.decimals(allow_nan=True),
    st.text(max_size=3),
)
categories = st.one_of(
    st.none(), st.text(max_size=2), st.booleans(), st.integers(0, 3), st.floats(), st.dates()
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(numbers, categories), max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
    st.randoms(),
)
def test_profiles_of_batches_add_up_exactly_to_the_profile_of_all_rows_in_any_order(rows, cuts, random):
    reference = build_reference(small_frame(), small_spec(), deep=False)
    frame = pd.DataFrame(
        {
            "x": pd.Series([x for x, _ in rows], dtype=object),
            "c": pd.Series([c for _, c in rows], dtype=object),
        }
    )
    places = [0, *sorted(min(cut, len(frame)) for cut in cuts), len(frame)]
    parts = [frame.iloc[a:b] for a, b in itertools.pairwise(places)]
    random.shuffle(parts)
    total = functools.reduce(lambda a, b: a + b, (profile_frame(part, reference) for part in parts))
    assert total == profile_frame(frame, reference)
    for counts in total.features.values():
        assert counts.values + counts.nulls + counts.infinite + counts.unreadable == len(frame)


def test_addition_is_associative_and_an_empty_batch_is_its_zero():
    reference = build_reference(small_frame(), small_spec(), scores=np.linspace(0, 1, 400))
    a, b, c = (
        profile_frame(small_frame(rows, seed), reference, scores=np.linspace(0, seed, rows))
        for seed, rows in [(1, 10), (2, 30), (3, 77)]
    )
    zero = profile_frame(small_frame().iloc[:0], reference)
    assert (a + b) + c == a + (b + c) == c + (b + a)
    assert zero + a == a + zero == a
    assert zero.rows == 0


def test_a_continuous_column_gets_64_cells_of_equal_share():
    cells = numeric_bins("x", pd.Series(np.random.default_rng(0).normal(size=6400)))
    held = count(cells, pd.Series(np.random.default_rng(0).normal(size=6400))).cells
    assert set(held) == {100}
    assert len(held) == 64


def test_a_column_of_few_values_has_a_cell_for_each_and_knows_new_ones_between():
    column = pd.Series([0, 1, 5] * 20)
    cells = numeric_bins("x", column)
    seen = count(cells, pd.Series([0, 1, 5, 3, -1, 9, 1.0000001]))
    assert seen.unseen == 4
    assert [held for held in count(cells, column).cells if held] == [20, 20, 20]


def test_the_zeros_of_a_spend_column_have_a_cell_of_their_own():
    rng = np.random.default_rng(1)
    column = pd.Series(np.where(rng.random(5000) < 0.4, 0.0, rng.gamma(2, 3, 5000)))
    zeros = int((column == 0).sum())
    assert zeros in count(numeric_bins("x", column), column).cells


def test_binary_columns_are_no_blind_spot():
    # the quantile edges of the article's sample tie, and 5 % -> 50 % looks like no change at all
    before, now = pd.Series([1] * 5 + [0] * 95), pd.Series([1] * 50 + [0] * 50)
    cells = numeric_bins("x", before)
    assert [held for held in count(cells, now).cells if held] == [50, 50]


def test_values_beyond_the_reference_are_kept_in_the_outer_cells_and_counted():
    cells = numeric_bins("x", pd.Series(np.linspace(0, 1, 500)))
    seen = count(cells, pd.Series([-5.0, 0.5, 7.0, 1e300]))
    assert (seen.values, seen.unseen) == (4, 3)
    assert seen.cells[0] == 1
    assert seen.cells[-1] == 2


def test_sums_are_the_means_of_the_cells_to_a_hundred_thousandth_of_a_deviation():
    column = pd.Series(np.random.default_rng(2).lognormal(3, 1, 3000))
    cells = numeric_bins("x", column)
    held = count(cells, column)
    mean = sum(held.sums) * STEP / held.values * cells.scale + cells.center
    assert mean == pytest.approx(column.mean(), abs=1e-5 * column.std())
    by_cell = column.groupby(np.searchsorted(cells.edges, column)).mean()
    first = held.sums[0] * STEP / held.cells[0] * cells.scale + cells.center
    assert first == pytest.approx(by_cell.iloc[0], abs=1e-5 * column.std())


def test_extreme_numbers_neither_overflow_nor_vanish():
    column = pd.Series([-1.7e308, 1.7e308, 0.0, 5e-324, np.finfo(float).min, np.finfo(float).max] * 10)
    cells = numeric_bins("x", column)
    held = count(cells, column)
    assert held.values == 60
    assert held.unseen == 0
    assert all(abs(total) <= 60 * FARTHEST / STEP for total in held.sums)
    json.dumps(cells.edges, allow_nan=False)


def test_a_constant_column_has_no_scale_and_any_other_value_is_unseen():
    cells = numeric_bins("x", pd.Series([3.5] * 100))
    assert cells.scale == 0
    assert count(cells, pd.Series([3.5, 3.6, 3.4])).unseen == 2


def test_an_unseen_category_is_counted_and_singles_tell_how_many_to_expect():
    cells = category_bins("c", pd.Series(["a", "a", "b", None]))
    assert cells.categories == ("a", "b")
    assert cells.singles == 1
    seen = count(cells, pd.Series(["b", "z", "y", "y", None]))
    assert (seen.cells, seen.unseen, seen.nulls) == ((0, 1, 3), 3, 1)


def test_zero_and_one_are_the_false_and_true_of_another_database():
    cells = category_bins("c", pd.Series([0, 1, 1]))
    assert count(cells, pd.Series([True, False, True])).unseen == 0
    assert count(category_bins("c", pd.Series(["true", "false"])), pd.Series([1, 0, 1])).cells == (1, 2, 0)


def test_an_identifier_column_keeps_ten_thousand_names_and_says_that_unseen_is_unknown():
    cells = category_bins("c", pd.Series(np.arange(10_050)))
    assert (len(cells.categories), cells.complete) == (10_000, False)
    assert count(cells, pd.Series([-1, -2])).unseen == 0


def test_the_cell_of_every_row_agrees_with_the_counts():
    column = pd.Series(["a", "b", "a", None, "z"])
    cells = category_bins("c", column.iloc[:4])
    assert np.bincount(cell_of(cells, column), minlength=3).tolist() == list(count(cells, column).cells)
    x = pd.Series(np.random.default_rng(0).normal(size=300))
    bins = numeric_bins("x", x)
    assert np.bincount(cell_of(bins, x), minlength=64).tolist() == list(count(bins, x).cells)


def test_a_reference_survives_json_unchanged():
    spec = make_spec()
    reference = build_reference(make_frame(500), spec, scores=np.random.default_rng(0).random(200))
    again = Reference.from_json(reference.to_json())
    assert again == reference
    assert again.id == reference.id
    frame = make_frame(300, seed=5)
    assert profile_frame(frame, again) == profile_frame(frame, reference)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.pop("bins"),
        lambda raw: raw.update(format=99),
        lambda raw: raw["bins"][0].update(scale=raw["bins"][0]["scale"] + 1),
        lambda raw: raw["profile"]["features"].pop("x"),
        lambda raw: raw["profile"]["features"]["x"]["cells"].pop(),
        lambda raw: raw["bins"][0].update(surprise=1),
    ],
)
def test_a_damaged_reference_is_refused(damage):
    raw = json.loads(build_reference(small_frame(), small_spec()).to_json())
    damage(raw)
    with pytest.raises(DriftError, match="cannot be read"):
        Reference.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": 1}', "\x00"])
def test_text_that_is_no_reference_is_refused(text):
    with pytest.raises(DriftError, match="cannot be read"):
        Reference.from_json(text)


def test_a_reference_without_rows_or_columns_is_refused():
    with pytest.raises(DriftError, match="no rows"):
        build_reference(small_frame().iloc[:0], small_spec())
    with pytest.raises(DriftError, match="no column"):
        build_reference(small_frame().drop(columns="x"), small_spec())


@pytest.mark.parametrize("cells", [["many", "few"], pd.to_datetime(["2026-01-01", "2026-01-02"]), [1j, 2j]])
def test_a_numeric_column_without_a_number_is_refused_as_a_reference(cells):
    with pytest.raises(DriftError, match="without one readable value"):
        build_reference(pd.DataFrame({"x": cells, "c": ["a", "b"]}), small_spec())


def test_a_column_of_nulls_is_no_error_and_keeps_its_nulls():
    frame = pd.DataFrame({"x": [None, None], "c": [None, None]}, dtype=object)
    reference = build_reference(frame, small_spec())
    assert reference.profile.features["x"].nulls == 2
    assert Reference.from_json(reference.to_json()) == reference


def test_one_row_of_decimals_and_booleans_is_profiled():
    reference = build_reference(pd.DataFrame({"x": [Decimal("1.5")], "c": [True]}), small_spec())
    assert profile_frame(pd.DataFrame({"x": [1.5], "c": ["True"]}), reference).features["c"].unseen == 0


def test_a_column_the_window_lacks_counts_as_null_and_is_named():
    reference = build_reference(small_frame(), small_spec())
    profile = profile_frame(small_frame(30).drop(columns="x"), reference)
    assert profile.absent == ("x",)
    assert (profile.features["x"].nulls, profile.features["x"].values) == (30, 0)


def test_the_frame_of_the_caller_is_not_changed():
    frame = small_frame()
    before = frame.copy(deep=True)
    profile_frame(frame, build_reference(frame, small_spec(sensitive=["c"]), key=KEY), key=KEY)
    pd.testing.assert_frame_equal(frame, before)


def test_profiles_of_different_references_do_not_add_up():
    one = build_reference(small_frame(), small_spec())
    other = build_reference(small_frame(seed=9), small_spec())
    with pytest.raises(DriftError, match="two references"):
        profile_frame(small_frame(), one) + profile_frame(small_frame(), other)


def test_scored_and_unscored_batches_do_not_add_up():
    reference = build_reference(small_frame(), small_spec(), scores=np.linspace(0, 1, 400))
    scored = profile_frame(small_frame(10), reference, scores=np.ones(10))
    with pytest.raises(DriftError, match="scores"):
        scored + profile_frame(small_frame(10), reference)


def test_scores_are_profiled_per_class_and_for_two_classes_once():
    table = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    assert {b.name for b in build_reference(small_frame(), small_spec(), scores=table).bins} == {
        "x",
        "c",
        f"{SCORE}0",
        f"{SCORE}1",
        f"{SCORE}2",
    }
    two = build_reference(small_frame(), small_spec(), scores=np.c_[1 - table[:, 0], table[:, 0]])
    one = build_reference(small_frame(), small_spec(), scores=table[:, 0])
    assert two == one
    with pytest.raises(DriftError, match="score columns"):
        profile_frame(small_frame(50), one, scores=table)
    with pytest.raises(DriftError, match="score columns"):
        profile_frame(small_frame(40), one, scores=table[:, 0])


def test_the_order_of_the_rows_does_not_change_a_reference():
    frame = small_frame()
    assert build_reference(frame, small_spec()) == build_reference(
        frame.sample(frac=1, random_state=1), small_spec()
    )
