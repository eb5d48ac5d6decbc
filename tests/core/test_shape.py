"""How a feature was distributed before, beside how it is now."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.drift.counting.bins import category_bins, count, count_absent, numeric_bins
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.shape import Shape, shape_of, shapes_of, worst_first
from tasks.core.drift.verdict import judge
from tests.make import make_frame, make_spec


def numbers(before: pd.Series, now: pd.Series, *, masked: bool = False) -> Shape:
    bins = numeric_bins("x", before, masked=masked)
    return shape_of(bins, count(bins, before), count(bins, now))


def texts(before: list[str], now: list[str], key: bytes | None = None) -> Shape:
    old, new = pd.Series(before, dtype=object), pd.Series(now, dtype=object)
    bins = category_bins("plan", old, key=key)
    return shape_of(bins, count(bins, old, key=key), count(bins, new, key=key))


def test_a_number_is_shown_in_tenths_of_the_reference_with_their_ranges() -> None:
    shape = numbers(pd.Series(np.arange(1000.0)), pd.Series(np.full(10, 5000.0)))
    assert len(shape.labels) == 10
    assert shape.reference == pytest.approx([0.1] * 10, abs=0.02)
    assert shape.current == (0.0,) * 9 + (1.0,)
    assert shape.labels[0].startswith("up to ")
    assert shape.labels[-1].startswith("above ")


def test_a_number_of_few_values_is_shown_value_by_value() -> None:
    shape = numbers(pd.Series([0.0, 0.0, 0.0, 1.0] * 10), pd.Series([0.0, 1.0, 0.5, 7.0]))
    assert shape.labels == ("0", "1", "other values")
    assert shape.reference == (0.75, 0.25, 0.0)
    assert shape.current == (0.25, 0.25, 0.5)


def test_what_is_missing_and_what_cannot_be_read_have_their_own_bars() -> None:
    before = pd.Series([1.0, 2.0, 3.0, 4.0])
    shape = numbers(before, pd.Series([1.0, np.nan, np.inf, np.nan]))
    now = dict(zip(shape.labels, shape.current, strict=True))
    assert now["missing"] == 0.5
    assert now["unreadable"] == 0.25


def test_a_column_that_vanished_is_all_missing() -> None:
    before = pd.Series([1.0, 2.0, 3.0, 4.0])
    bins = numeric_bins("x", before)
    shape = shape_of(bins, count(bins, before), count_absent(bins, 9))
    assert dict(zip(shape.labels, shape.current, strict=True))["missing"] == 1.0
    assert sum(shape.current) == 1.0


def test_a_category_never_seen_before_is_named_so_and_the_small_ones_share_a_bar() -> None:
    many = [f"c{place:02}" for place in range(20) for _ in range(20 - place)]
    shape = texts(many, ["new"] * 3 + ["c00"])
    assert shape.labels == (*(f"c{place:02}" for place in range(8)), "other known", "not seen before")
    assert shape.current == (0.25, *[0.0] * 8, 0.75)
    assert shape.reference[-2] == pytest.approx(sum(range(1, 13)) / 210)


def test_a_category_that_was_rare_and_is_large_now_has_a_bar() -> None:
    many = [f"c{place:02}" for place in range(20) for _ in range(20 - place)]
    assert "c19" in texts(many, ["c19"] * 9).labels


def test_nothing_sensitive_stands_in_a_label() -> None:
    shape = texts(["jane", "jane", "joe"], ["joe", "ann"], key=b"secret")
    assert shape.labels == ("category 1", "category 2", "not seen before")
    assert shape.current == (0.0, 0.5, 0.5)
    masked = numbers(pd.Series(np.arange(1000.0)), pd.Series([3.0]), masked=True)
    assert masked.labels == tuple(f"part {place}" for place in range(1, 11))


@given(
    st.lists(st.floats(allow_nan=True), max_size=60),
    st.lists(st.floats(allow_nan=True), max_size=60),
)
def test_the_shares_of_either_side_come_to_all_rows(before: list[float], now: list[float]) -> None:
    shape = numbers(pd.Series(before, dtype=float), pd.Series(now, dtype=float))
    assert sum(shape.reference) == pytest.approx(1.0 if before else 0.0)
    assert sum(shape.current) == pytest.approx(1.0 if now else 0.0)
    assert len(set(shape.labels)) == len(shape.labels) == len(shape.current)


def test_only_what_moved_is_drawn_and_what_moved_most_comes_first() -> None:
    spec, frame = make_spec(), make_frame(3000)
    reference = build_reference(frame, spec)
    now = make_frame(3000, seed=1).assign(
        spend=lambda f: f["spend"] * 10, tenure=lambda f: f["tenure"] * 1.4, region="west"
    )
    profile = profile_frame(now, reference)
    verdict = judge(reference, profile, spec)
    drawn = [shape.feature for shape in shapes_of(reference, profile, verdict)]
    assert set(drawn) == set(verdict.drifted) | {"tenure"}
    assert drawn == [one.feature for one in worst_first(verdict)][: len(drawn)]
    assert drawn.index("spend") < drawn.index("tenure")
    calm = profile_frame(make_frame(3000, seed=2), reference)
    assert shapes_of(reference, calm, judge(reference, calm, spec)) == ()
