from __future__ import annotations

import functools
import operator
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.drift.counting.arrow import count_array, profile_batch
from tasks.core.drift.counting.bins import Bins, category_bins, count, mask, numeric_bins
from tasks.core.drift.counting.fast import WORTH
from tasks.core.drift.profile import Profile, Reference, _bins_id, build_reference, profile_frame
from tasks.core.errors import DriftError
from tests.make import make_spec

KEY = b"secret"
ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
NUMBERS = numeric_bins("x", pd.Series([*RNG.normal(size=500), 1, 2]))
NAMES = category_bins("x", pd.Series(["a", "True", "1", "1.5", "2026-01-01T00:00:00", "2026-01-01"]))
HASHES = category_bins("x", pd.Series(["a", "True", "1"]), key=KEY)


def reference_of(*bins: Bins) -> Reference:
    empty = {one.name: count(one, pd.Series([], dtype=object)) for one in bins}
    return Reference("churn", bins, Profile(_bins_id(bins), 0, empty))


def as_pandas(column: pa.Array | pa.Table):
    return column.to_pandas(integer_object_nulls=True)


ARRAYS = [
    pa.array([1, 2, None, 2**60]),
    pa.array([1, 2, 3, -7], pa.int8()),
    pa.array([1, 2**63 + 5], pa.uint64()),
    pa.array([2**53 + 1, None, 2**53]),
    pa.array([1.5, None, np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e308]),
    pa.array([1.5, 2, None], pa.float32()),
    pa.array(np.array([1.5, 2], np.float16)),
    pa.array([True, None, False]),
    pa.array([True, False]),
    pa.array([Decimal("1.10"), None, Decimal("2")]),
    pa.array([Decimal("1.5")], pa.decimal256(40, 2)),
    pa.array(["a", "True", "true", None, "1.5", "x" * 500, "", "1_000", "nan", "inf"]),
    pa.array(["a", "b", None], pa.large_string()),
    pa.array(["a", "b", None], pa.string_view()),
    pa.array(["a", None, "2"]).dictionary_encode(),
    pa.array([1, 2, 2, None]).dictionary_encode(),
    pa.array([1.5, -0.0]).dictionary_encode(),
    pa.array([True, None]).dictionary_encode(),
    pa.array([datetime(2026, 1, 1)]).dictionary_encode(),  # noqa: DTZ001
    pa.array([datetime(2026, 1, 1), None]),  # noqa: DTZ001
    pa.array([datetime(2026, 1, 1, tzinfo=UTC)]),
    pa.array([datetime(9999, 1, 1)]),  # noqa: DTZ001
    pa.array([10**18 + 1], pa.timestamp("ns")),
    pa.array([date(2026, 1, 1), None]),
    pa.array([timedelta(1)]),
    pa.array([time(1)]),
    pa.array([b"x", None]),
    pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    pa.array([None, None]),
    pa.array([[1], None, [2, 3]]),
    pa.array([{"a": 1}, None]),
    pa.array([], pa.int64()),
    pa.array([], pa.string()),
    pa.array([1.0, None, 3.0]).slice(1),
    pa.array(["a", None, "c"]).slice(1),
    pa.array(["a", None, "c"]).dictionary_encode().slice(1),
]


@pytest.mark.parametrize("bins", [NUMBERS, NAMES, HASHES], ids=["numbers", "names", "hashes"])
@pytest.mark.parametrize("array", ARRAYS, ids=[f"{i}-{array.type}" for i, array in enumerate(ARRAYS)])
def test_every_type_is_counted_as_the_same_rows_in_pandas(bins, array):
    key = KEY if bins.masked else None
    want = count(bins, as_pandas(array), key=key)
    assert count_array(bins, array, key=key) == want
    chunks = pa.chunked_array([array.slice(0, 1), array.slice(1)], array.type)
    assert count_array(bins, chunks, key=key) == want


@pytest.mark.parametrize("entries", [["a", None, "b"], ["a", "a", None], [0.0, -0.0, 1.5]])
def test_a_dictionary_that_pandas_refuses_is_counted_all_the_same(entries):
    # nulls or doubles among the entries, as other writers leave them
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 0, None]), pa.array(entries))
    plain = pa.array([entries[0], entries[1], entries[2], entries[0], None])
    assert count_array(NAMES, array) == count_array(NAMES, plain)
    assert count_array(NUMBERS, array) == count_array(NUMBERS, plain)


def test_the_memory_below_a_null_is_not_read():
    values = pa.py_buffer(np.array([1.0, np.inf, 3.0]))
    valid = pa.py_buffer(np.array([0b101], np.uint8))
    array = pa.Array.from_buffers(pa.float64(), 3, [valid, values])
    counts = count_array(NUMBERS, array)
    assert (counts.values, counts.nulls, counts.infinite) == (2, 1, 0)
    codes = pa.Array.from_buffers(pa.int32(), 3, [valid, pa.py_buffer(np.array([0, 10**6, 1], np.int32))])
    counts = count_array(NAMES, pa.DictionaryArray.from_arrays(codes, pa.array(["a", "b"]), safe=False))
    assert (counts.values, counts.nulls) == (2, 1)


numbers = st.one_of(
    st.just(pa.float64()).flatmap(lambda t: cells(t, st.floats())),
    st.just(pa.float32()).flatmap(lambda t: cells(t, st.floats(width=32))),
    st.just(pa.int64()).flatmap(lambda t: cells(t, st.integers(-(2**63), 2**63 - 1))),
    st.just(pa.uint64()).flatmap(lambda t: cells(t, st.integers(0, 2**64 - 1))),
    st.just(pa.int8()).flatmap(lambda t: cells(t, st.integers(-3, 3))),
    st.just(pa.bool_()).flatmap(lambda t: cells(t, st.booleans())),
    st.just(pa.decimal128(20, 3)).flatmap(lambda t: cells(t, st.decimals(-(10**9), 10**9, places=3))),
    st.just(pa.string()).flatmap(lambda t: cells(t, st.one_of(st.text(max_size=3), st.floats().map(str)))),
)
names = st.one_of(
    st.just(pa.string()).flatmap(lambda t: cells(t, st.text(max_size=2))),
    st.just(pa.dictionary(pa.int32(), pa.string())).flatmap(lambda t: cells(t, st.text(max_size=2))),
    st.just(pa.int64()).flatmap(lambda t: cells(t, st.integers(2**53 - 3, 2**53 + 3))),
    st.just(pa.bool_()).flatmap(lambda t: cells(t, st.booleans())),
    st.just(pa.float64()).flatmap(lambda t: cells(t, st.floats())),
    st.just(pa.date32()).flatmap(lambda t: cells(t, st.dates())),
)


def cells(kind, values):
    """A pool of cells of this type, some null."""
    return st.lists(st.one_of(st.none(), values), min_size=1, max_size=20).map(
        lambda pool: pa.array(pool, kind)
    )


@settings(max_examples=80, deadline=None)
@given(numbers, names, st.randoms(), st.sampled_from([5, 60, 2 * WORTH]), st.booleans())
def test_batches_in_any_order_arrow_or_pandas_add_up_to_one_pass_over_all_rows(x, c, random, rows, hidden):
    rng = np.random.default_rng(random.randrange(2**32))
    table = pa.table({"x": x.take(rng.integers(0, len(x), rows)), "c": c.take(rng.integers(0, len(c), rows))})
    key = KEY if hidden else None
    bins = numeric_bins("x", pd.Series(rng.normal(size=rng.integers(1, 300)).round(rng.integers(0, 4))))
    reference = reference_of(bins, category_bins("c", pd.Series(["a", "", "True", "0.0"]), key=key))
    places = np.sort(rng.integers(0, rows + 1, 4))
    parts = [table.slice(a, b - a) for a, b in zip([0, *places], [*places, rows], strict=True)]
    random.shuffle(parts)
    profiles = [
        profile_batch(part.combine_chunks() if random.random() < 0.5 else part, reference, key=key)
        if random.random() < 0.7
        else profile_frame(as_pandas(part), reference, key=key)
        for part in parts
    ]
    whole = profile_frame(as_pandas(table), reference, key=key)
    assert functools.reduce(operator.add, profiles) == whole == profile_batch(table, reference, key=key)


def test_counts_are_those_of_numpy_and_pandas():
    rng = np.random.default_rng(3)
    x = np.where(rng.random(50_000) < 0.1, np.nan, rng.gamma(2, 3, 50_000))
    c = rng.choice(["a", "b", "c", None], 50_000, p=[0.5, 0.3, 0.1, 0.1])
    reference = reference_of(
        numeric_bins("x", pd.Series(rng.gamma(2, 3, 9000))), category_bins("c", pd.Series(["a", "b"]))
    )
    profile = profile_batch(pa.table({"x": pa.array(x, from_pandas=True), "c": pa.array(c)}), reference)
    held = profile.features["x"]
    # numpy's cells are closed on the left, ours on the right: turned round they are the same
    edges = np.array([-np.inf, *reference.bins[0].edges, np.inf])
    assert list(held.cells) == np.histogram(-x[~np.isnan(x)], -edges[::-1])[0][::-1].tolist()
    assert held.nulls == np.isnan(x).sum()
    assert held.unseen == ((x < reference.bins[0].low) | (x > reference.bins[0].high)).sum()
    times = pd.Series(c).value_counts()
    assert profile.features["c"].cells == (times["a"], times["b"], times["c"])
    assert profile.features["c"].nulls == pd.isna(c).sum()


def spec():
    return make_spec(features={"numeric": ["x"], "categorical": ["c"], "sensitive": ["c"]}, contract={})


def frame(rows=300):
    return pd.DataFrame({"x": RNG.normal(size=rows), "c": RNG.choice(["Jewish", "Muslim"], rows)})


def test_sensitive_categories_are_known_by_their_keyed_hash_alone():
    reference = build_reference(frame(), spec(), key=KEY, deep=False)
    batch = pa.RecordBatch.from_pandas(frame())
    profile = profile_batch(batch, reference, key=KEY)
    assert profile == profile_frame(batch.to_pandas(), reference, key=KEY)
    assert profile.features["c"].unseen == 0
    assert set(reference.bins[1].categories) == {mask("c", name, KEY) for name in ("Jewish", "Muslim")}
    with pytest.raises(DriftError, match="another key"):
        profile_batch(batch, reference, key=b"another")


def test_absent_columns_scores_and_rows_without_columns_are_told_as_of_a_frame():
    scores = np.linspace(0, 1, 300)
    reference = build_reference(frame(), spec(), scores=scores, key=KEY, deep=False)
    table = pa.Table.from_pandas(frame())
    assert profile_batch(table.drop_columns("x"), reference, key=KEY).absent == ("x",)
    assert profile_batch(table, reference, scores=scores, key=KEY) == profile_frame(
        as_pandas(table), reference, scores=scores, key=KEY
    )
    with pytest.raises(DriftError, match="score columns"):
        profile_batch(table, reference, scores=scores[:-1], key=KEY)
    none = profile_batch(table.slice(0, 0), reference, key=KEY)
    assert none.rows == 0
    assert none + profile_batch(table, reference, key=KEY) == profile_batch(table, reference, key=KEY)


def test_a_profile_loads_neither_pandas_nor_scikit_learn_nor_scipys_statistics(tmp_path):
    # together these take longer to import than a million rows to profile
    (tmp_path / "reference.json").write_text(build_reference(frame(), spec(), key=KEY, deep=False).to_json())
    pq.write_table(
        pa.table({"x": [1.5, None, 2.5], "c": ["Jewish", None, "other"]}), tmp_path / "rows.parquet"
    )
    program = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from tasks.core.drift.counting.arrow import profile_batch
from tasks.core.drift.profile import Reference
folder = Path(sys.argv[1])
reference = Reference.from_json((folder / "reference.json").read_text())
profile = profile_batch(pq.ParquetFile(folder / "rows.parquet").read(), reference, key=b"secret")
assert profile.features["c"].nulls == profile.features["x"].nulls == 1
print(sorted({"pandas", "sklearn", "scipy.stats"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
