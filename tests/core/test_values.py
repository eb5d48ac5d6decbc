from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tasks.core.drift.counting.values import name_values, read_floats, read_labels, read_numbers


def mixed() -> pd.Series:
    cells = [1, "2.5", None, np.nan, pd.NA, pd.NaT, Decimal("3.5"), Decimal("NaN"), True, "many", [1], 1j]
    return pd.Series([*cells, float("inf"), 10**400, pd.Timestamp("2026-01-01"), "1_000"], dtype=object)


def test_every_cell_of_a_mixed_column_is_a_number_a_null_an_infinity_or_unreadable():
    read = read_numbers(mixed())
    assert read.finite.tolist() == [1.0, 2.5, 3.5, 1.0]
    assert (read.rows, read.nulls, read.infinite, read.unreadable) == (16, 5, 2, 5)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series([1.0, 2.0, None], dtype="Float64"),
        pd.Series([1, 2, np.nan], dtype="float32"),
        pd.Series(["1", "2", None], dtype="string"),
        pd.Series([1, 2, None], dtype="category"),
        pd.Series([1, 2, None], dtype="int64[pyarrow]"),
        pd.Series([Decimal(1), Decimal(2), None]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_numbers_are_read_alike_from_every_dtype(column):
    read = read_numbers(column)
    assert read.finite.tolist() == [1.0, 2.0]
    assert (read.nulls, read.infinite, read.unreadable) == (1, 0, 0)


def test_times_in_a_numeric_column_are_unreadable_and_not_nanoseconds():
    read = read_numbers(pd.Series(pd.to_datetime(["2026-01-01", None])))
    assert (len(read.finite), read.nulls, read.unreadable) == (0, 1, 1)


def test_integers_beyond_two_to_the_53_are_rounded_and_counted():
    read = read_numbers(pd.Series([2**60, 2**63], dtype="uint64"))
    assert read.finite.tolist() == [2.0**60, 2.0**63]


@pytest.mark.parametrize("first", [True, 1, 1.0, "True", "1"])
def test_true_and_one_stay_two_categories_whichever_comes_first(first):
    # pandas takes True and 1 for the same value and keeps the first
    read = read_labels(pd.Series([first, True, 1, 1.0, Decimal(1), "True", "true", "1"], dtype=object))
    expected = {"True": 3, "1": 4}
    expected["True" if first in ("True",) or first is True else "1"] += 1
    assert dict(zip(read.labels, read.counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b", None]),
        pd.Series(["a", "b", None], dtype="category"),
        pd.Series(["a", "b", None], dtype="string"),
        pd.Series(["a", "b", None], dtype="string[pyarrow]"),
    ],
    ids=["object", "category", "string", "arrow"],
)
def test_categories_are_read_alike_from_every_dtype(column):
    read = read_labels(column)
    assert (read.labels, read.codes.tolist(), read.nulls) == (("a", "b"), [0, 1, -1], 1)


def test_categories_of_one_name_are_one_even_where_pandas_tells_them_apart():
    column = pd.Series(pd.Categorical([1, "1", 1], categories=[1, "1"]))
    assert read_labels(column).counts.tolist() == [3]


def test_cells_that_are_no_category_are_unreadable_and_not_null():
    read = read_labels(pd.Series(["a", [1], {"b": 2}, None, "", object()], dtype=object))
    assert (read.labels, read.nulls, read.unreadable) == (("a", ""), 1, 3)


def test_a_long_text_is_kept_short_and_distinct():
    read = read_labels(pd.Series(["x" * 5000 + "1", "x" * 5000 + "2"]))
    assert len(set(read.labels)) == 2
    assert max(map(len, read.labels)) < 80


def test_an_integer_too_long_to_print_is_unreadable():
    assert read_labels(pd.Series([10**5000, 1], dtype=object)).unreadable == 1


def test_a_signalling_nan_of_decimal_is_a_null():
    column = pd.Series([Decimal("sNaN"), Decimal(2), [1]], dtype=object)
    assert (read_numbers(column).nulls, read_numbers(column).finite.tolist()) == (1, [2.0])
    assert (read_labels(column).nulls, read_labels(column).unreadable) == (1, 1)


@pytest.mark.parametrize(
    "kind", ["float64", "float32", "Float64", "Int64", "object", "string", "double[pyarrow]"]
)
def test_floats_are_read_with_a_nan_for_every_cell_that_is_no_number(kind):
    column = pd.Series([1, None, 3], dtype=kind)
    values, nulls = read_floats(column)
    assert (values.dtype, nulls) == (np.float64, 1)
    assert np.array_equal(values, [1, np.nan, 3], equal_nan=True)


def test_floats_and_numbers_of_a_mixed_column_agree():
    values, nulls = read_floats(mixed())
    read = read_numbers(mixed())
    assert values[np.isfinite(values)].tolist() == read.finite.tolist()
    assert (np.isnan(values).sum(), nulls) == (read.nulls + read.unreadable, read.nulls)


def test_values_of_one_name_share_its_place_and_those_of_none_have_no_place():
    names, places = name_values([True, "true", 1, Decimal("1.0"), [1], None, "b"])
    assert names == ("True", "1", "b")
    assert places.tolist() == [0, 0, 1, 1, -1, -1, 2]
