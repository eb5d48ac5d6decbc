from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.drift.counting import fast
from tasks.core.drift.counting.bins import Bins, numeric_bins
from tasks.core.drift.counting.fast import FARTHEST, WORTH, count_floats, search
from tasks.core.drift.counting.grid import grid_of

ROWS = 20_000
RNG = np.random.default_rng(5)
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 2.3e-308, 1.7e308, -1.7e308, np.inf, -np.inf, np.nan, 2.0**53, 1e-300]


def by_hand(bins: Bins, values):
    """Rows and whole steps per cell, value by value in Python's own numbers."""
    cells, sums, beyond = [0] * bins.cells, [0] * bins.cells, 0
    times = Counter(values[np.isfinite(values)].tolist())
    for value, often in times.items():
        cell = bisect_left(bins.edges, value)
        distance = (value - bins.center) / (bins.scale or 1.0)
        cells[cell] += often
        sums[cell] += often * round(min(max(distance, -FARTHEST), FARTHEST) * 2**16)
        if bins.low is not None:
            beyond += often * (value < bins.low or value > bins.high)
    return cells, sums, beyond, int(np.isnan(values).sum()), int(np.isinf(values).sum())


def as_plain(held):
    return held.cells.tolist(), held.sums.tolist(), held.beyond, held.nans, held.infinite


def around(points):
    """The points with their neighbours, near and far, and every extreme."""
    points = np.asarray(points, dtype=np.float64)
    with np.errstate(all="ignore"):
        near = [np.nextafter(points, end) for end in (-np.inf, np.inf)]
        return np.concatenate([points, *near, points * 1.5, -points, points + 1, points * 1e9, EXTREMES])


COLUMNS = {
    "normal": RNG.normal(size=ROWS),
    "narrow and far from zero": 1e9 + RNG.normal(size=ROWS) * 1e-3,
    "neighbouring floats": 1.0 + RNG.integers(0, 500, ROWS) * 2.0**-52,
    "lognormal": RNG.lognormal(0, 1, ROWS),
    "over many orders of size": RNG.lognormal(0, 5, ROWS),
    "cauchy": RNG.standard_cauchy(ROWS),
    "zeros and amounts": np.where(RNG.random(ROWS) < 0.4, 0.0, RNG.gamma(2, 3, ROWS)),
    "rounded": RNG.normal(size=ROWS).round(1),
    "binary": (RNG.random(ROWS) < 0.05).astype(float),
    "few whole numbers": RNG.poisson(10, ROWS).astype(float),
    "few, one far away": np.where(RNG.random(ROWS) < 0.001, 1e12, RNG.integers(0, 30, ROWS)).astype(float),
    "constant": np.full(ROWS, 3.5),
    "constant and huge": np.full(ROWS, 1.7e308),
    "plus and minus the largest": np.where(RNG.random(ROWS) < 0.5, -1.7e308, 1.7e308),
    "the largest floats": RNG.uniform(-1, 1, ROWS) * 1.7e308,
    "denormals": RNG.integers(-500, 500, ROWS) * 5e-324,
    "ids beyond 2**53": (2**53 + 2 * RNG.integers(0, 10**6, ROWS)).astype(float),
    "a sentinel": np.where(RNG.random(ROWS) < 0.01, 999_999.0, RNG.normal(size=ROWS)),
    "one in ten missing": np.where(RNG.random(ROWS) < 0.1, np.nan, RNG.normal(size=ROWS)),
    "nothing": np.full(ROWS, np.nan),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", COLUMNS)
def test_the_grid_counts_what_a_search_by_hand_counts(name, masked):
    column = COLUMNS[name]
    bins = numeric_bins("x", pd.Series(column), masked=masked)
    values = RNG.permutation(np.concatenate([column, np.tile(around(bins.edges), 3)]))
    assert as_plain(count_floats(bins, values)) == by_hand(bins, values)
    assert as_plain(search(bins, values)) == by_hand(bins, values)


finite = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-3, 3),
    st.integers(-5, 5).map(float),
    st.sampled_from([one for one in EXTREMES if np.isfinite(one)]),
)


@st.composite
def any_bins(draw):
    edges = np.unique(np.array(draw(st.lists(finite, max_size=70))) + 0.0)
    if draw(st.booleans()):  # a cell for a value of its own: its edge and the float below
        with np.errstate(all="ignore"):
            below = np.nextafter(edges, -np.inf)
        edges = np.unique(np.concatenate([below[np.isfinite(below)], edges]))
    values = tuple(edges[1::2].tolist()) if draw(st.booleans()) else ()
    ends = sorted(draw(st.tuples(finite, finite))) if draw(st.booleans()) and not values else (None, None)
    scale = draw(st.one_of(st.floats(0.01, 10), st.sampled_from([0.0, 5e-324, 1e-300, 1e-9, 1e9, 1e308])))
    return Bins("x", "numeric", tuple(edges.tolist()), values, *ends, center=draw(finite), scale=scale)


@settings(max_examples=300, deadline=None)
@given(
    any_bins(), st.lists(st.one_of(finite, st.sampled_from(EXTREMES)), min_size=1, max_size=30), st.randoms()
)
def test_any_edges_and_any_values_are_counted_as_by_hand(bins, values, random):
    pool = around([*values, *bins.edges])
    rows = np.random.default_rng(random.randrange(2**32)).choice(pool, WORTH + 100)
    grid_of.cache_clear()
    assert as_plain(count_floats(bins, rows)) == by_hand(bins, rows)


@pytest.mark.parametrize("length", [0, 1, WORTH - 1, WORTH, fast.CHUNK, fast.CHUNK + 1, 3 * fast.CHUNK - 1])
def test_the_number_of_values_makes_no_difference(length):
    column = RNG.normal(size=length)
    bins = numeric_bins("x", pd.Series(COLUMNS["normal"]))
    assert as_plain(count_floats(bins, column)) == by_hand(bins, column)


@pytest.mark.parametrize("step", [1, 7, -1])
def test_values_that_lie_apart_in_memory_are_counted_alike_and_left_as_they_are(step):
    column = np.repeat(COLUMNS["lognormal"], 7)
    before = column.copy()
    bins = numeric_bins("x", pd.Series(COLUMNS["lognormal"]))
    assert as_plain(count_floats(bins, column[::step])) == by_hand(bins, column[::step])
    assert (column == before).all()


@pytest.mark.parametrize(
    ("name", "share"),
    [
        *(("normal", 0.02), ("lognormal", 0.05), ("over many orders of size", 0.2), ("cauchy", 0.06)),
        *(("zeros and amounts", 0.02), ("binary", 0.0), ("few whole numbers", 0.0), ("constant", 0.0)),
        *(("a sentinel", 0.03), ("narrow and far from zero", 0.05), ("one in ten missing", 0.13)),
    ],
)
def test_of_usual_columns_hardly_a_value_is_left_to_the_search(name, share):
    bins = numeric_bins("x", pd.Series(COLUMNS[name]))
    _, rest = fast._count_by_grid(bins, grid_of(bins), COLUMNS[name])
    assert len(rest) <= share * ROWS


def test_many_threads_count_like_one():
    bins = numeric_bins("x", pd.Series(COLUMNS["lognormal"]))
    parts = np.array_split(np.tile(COLUMNS["lognormal"], 20), 16)
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda part: count_floats(bins, part), parts))
    total = held[0]
    for one in held[1:]:
        total += one
    assert as_plain(total) == by_hand(bins, np.tile(COLUMNS["lognormal"], 20))
