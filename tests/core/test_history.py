from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.drift.counting.bins import STEP
from tasks.core.drift.counting.packed import pack, unpack
from tasks.core.drift.counting.sample import INVALID, NULL, pick, sample_codes
from tasks.core.drift.past import history as histories
from tasks.core.drift.past.history import build_history
from tasks.core.drift.profile import SCORE, build_reference, profile_frame
from tasks.core.errors import DriftError
from tests.make import make_frame, make_spec

KEY = b"secret"
DAY = timedelta(days=1)
START = datetime(2026, 1, 5, tzinfo=UTC)


def small_spec(check="1d", **over):
    return make_spec(
        features={"numeric": ["x"], "categorical": ["c"], **over},
        contract={},
        window={"training": "90d", "check": check},
    )


def small_frame(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"x": rng.normal(size=rows), "c": rng.choice(list("abc"), rows)})


def spread(rows, days=10, seed=0):
    seconds = np.random.default_rng(seed).integers(0, days * 86_400, rows)
    return pd.Series(pd.Timestamp(START) + pd.to_timedelta(seconds, unit="s"))


def everything(history):
    return history.profile(np.arange(len(history)))


cells = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.decimals(allow_nan=True),
    st.text(max_size=2),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, cells, st.integers(0, 10 * 86_399)), min_size=30, max_size=60))
def test_each_block_is_the_profile_of_its_own_rows_and_all_blocks_are_the_profile_of_all_rows(rows):
    reference = build_reference(small_frame(), small_spec(), deep=False)
    frame = pd.DataFrame({name: pd.Series([r[i] for r in rows], dtype=object) for i, name in enumerate("xc")})
    times = pd.Series(pd.Timestamp(START) + pd.to_timedelta([r[2] for r in rows], unit="s"))
    history = build_history(frame, reference.bins, reference.id, times=times, length=DAY)
    if history is None:
        assert times.dt.date.nunique() < 4
        return
    assert everything(history) == profile_frame(frame, reference)
    for block, start in enumerate(history.starts):
        inside = (times >= start) & (times < start + DAY)
        assert history.profile([block]) == profile_frame(frame[inside.to_numpy()], reference)


def test_a_deep_reference_keeps_a_history_whose_sum_is_its_own_profile_scores_included():
    frame = make_frame(3000)
    scores = np.random.default_rng(0).random(3000)
    spec = make_spec(window={"training": "28d", "check": "1d"})
    reference = build_reference(frame, spec, scores=scores, times=frame["event_time"])
    assert len(reference.history) == 28
    assert everything(reference.history) == reference.profile
    assert reference.history.starts[:2] == (START, START + DAY)
    assert reference.history.cells(SCORE).sum() == 3000


def test_scores_of_other_rows_are_in_no_block():
    frame = make_frame(3000)
    scores = np.random.default_rng(0).random(600)  # of the holdout only
    reference = build_reference(frame, make_spec(), scores=scores, times=frame["event_time"])
    assert SCORE in reference.profile.features
    assert SCORE not in reference.history.features


def test_blocks_lie_on_one_grid_whatever_the_order_of_the_rows_and_empty_ones_are_left_out():
    frame, times = small_frame(500), spread(500, days=12)
    kept = (times.dt.day % 3 != 0).to_numpy()
    frame, times = frame[kept], times[kept]
    reference = build_reference(frame, small_spec(), times=times)
    mixed = np.random.default_rng(1).permutation(len(frame))
    again = build_reference(frame.iloc[mixed], small_spec(), times=times.iloc[mixed])
    assert histories.to_plain(again.history) == histories.to_plain(reference.history)
    assert {start.day % 3 for start in reference.history.starts} == {1, 2}
    assert {start.hour for start in reference.history.starts} == {0}
    assert (reference.history.rows > 0).all()


def test_without_times_there_are_fifty_blocks_of_equal_rows():
    history = build_reference(small_frame(2000), small_spec()).history
    assert (history.starts, history.length, history.rows.tolist()) == ((), None, [40] * 50)
    few = build_reference(small_frame(90), small_spec()).history
    assert sum(few.rows) == 90
    assert min(few.rows) >= 20


@pytest.mark.parametrize("days", [1, 3])
def test_of_fewer_than_four_blocks_there_is_no_history(days):
    frame = small_frame(300)
    assert build_reference(frame, small_spec(), times=spread(300, days)).history is None
    assert build_reference(small_frame(79), small_spec()).history is None


def test_only_the_newest_thousand_blocks_are_kept():
    rows = 1200
    times = pd.Series(pd.date_range(START, periods=rows, freq="1h"))
    history = build_reference(small_frame(rows), small_spec(check="1h"), times=times).history
    assert len(history) == 1000
    assert history.starts[-1] == times.iloc[-1].to_pydatetime()


def test_a_feature_of_ten_thousand_cells_leaves_fewer_blocks_not_a_larger_history(monkeypatch):
    monkeypatch.setattr(histories, "MOST_NUMBERS", 20_000)
    frame = small_frame(6000).assign(c=np.arange(6000) % 2000)
    history = build_reference(frame, small_spec(), times=spread(6000, days=90)).history
    assert sum(table.size for table in history.features.values()) <= 20_000
    assert len(history) >= 4


def test_naive_times_and_a_wrong_number_of_them_are_refused():
    frame = small_frame(300)
    with pytest.raises(DriftError, match="naive times"):
        build_reference(frame, small_spec(), times=spread(300).dt.tz_localize(None))
    with pytest.raises(DriftError, match="299 times for 300 rows"):
        build_reference(frame, small_spec(), times=spread(299))


def test_rows_without_a_time_are_in_no_block():
    frame, times = small_frame(300), spread(300)
    times.iloc[:30] = pd.NaT
    history = build_reference(frame, small_spec(), times=times).history
    assert history.rows.sum() == 270


def test_the_sum_of_a_block_does_not_tell_a_sensitive_value():
    frame, times = small_frame(400), spread(400, days=40)
    frame["x"] = np.round(frame["x"], 3)
    reference = build_reference(frame, small_spec(sensitive=["x"]), times=times)
    history, whole = reference.history, reference.profile.features["x"]
    table = history.features["x"]
    alone = history.cells("x") == 1
    sums = table[:, -alone.shape[1] :][alone]
    values = sums * STEP * reference.bins[0].scale + reference.bins[0].center
    means = np.array(whole.sums) / np.array(whole.cells) * STEP * reference.bins[0].scale
    near = np.abs(values[:, None] - (means + reference.bins[0].center)).min(axis=1)
    assert near.max() < 1e-4  # what is kept of a single row is the mean of its cell over all blocks
    assert everything(history) == reference.profile


def test_a_history_survives_json_exactly():
    frame = make_frame(2000)
    history = build_reference(frame, make_spec(), times=frame["event_time"]).history
    again = histories.from_plain(histories.to_plain(history))
    assert histories.to_plain(again) == histories.to_plain(history)
    assert (again.starts, again.length) == (history.starts, history.length)
    for name, table in history.features.items():
        assert np.array_equal(again.features[name], table)


@pytest.mark.parametrize("kind", ["int16", "int64"])
def test_packed_tables_come_back_to_the_last_bit(kind):
    limits = np.iinfo(kind)
    table = np.array([[limits.min, limits.max, 0], [-1, 1, 7]], dtype=kind)
    back = unpack(pack(table), table.dtype.str)
    assert back.dtype == table.dtype
    assert np.array_equal(back, table)
    assert unpack(pack(table[:0]), table.dtype.str).shape == (0, 3)


def test_counting_a_thousand_blocks_costs_about_as_much_as_counting_four():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{i}": rng.normal(size=200_000) for i in range(3)})
    spec = make_spec(features={"numeric": list(frame), "categorical": []}, contract={})
    reference = build_reference(frame[:5000], spec, deep=False)
    times = spread(len(frame), days=40)

    def seconds(length):
        began = time.process_time()
        build_history(frame, reference.bins, reference.id, times=times, length=length)
        return time.process_time() - began

    few, many = (min(seconds(length) for _ in range(3)) for length in (10 * DAY, DAY / 24))
    assert many < 3 * few + 0.1  # 1.1 times on a quiet machine; block by block it would be 250 times


def test_a_sample_holds_the_cell_of_every_row_and_no_value():
    frame = pd.DataFrame(
        {"x": [0.5, None, np.inf, "many", Decimal(1)], "c": ["a", None, "z", ["list"], "b"]}, dtype=object
    )
    reference = build_reference(small_frame(), small_spec(), deep=False)
    sample = sample_codes(frame, reference.bins)
    edges = np.array(reference.bins[0].edges)
    assert sample.names == ("x", "c")
    assert sample.codes.dtype == np.int16
    assert sample.codes[:, 0].tolist() == [
        np.searchsorted(edges, 0.5),
        NULL,
        INVALID,
        INVALID,
        np.searchsorted(edges, 1.0),
    ]
    place = {label: i for i, label in enumerate(reference.bins[1].categories)}
    assert sample.codes[:, 1].tolist() == [place["a"], NULL, 3, INVALID, place["b"]]
    assert (sample_codes(frame.drop(columns="c"), reference.bins).codes[:, 1] == NULL).all()


def test_a_reference_keeps_at_most_five_thousand_rows_of_sample_and_the_same_for_one_seed():
    frame = small_frame(7000)
    one, two, other = (build_reference(frame, small_spec(), seed=seed).sample for seed in (1, 1, 2))
    assert len(one) == 5000
    assert np.array_equal(one.codes, two.codes)
    assert not np.array_equal(one.codes, other.codes)
    assert pick(10, 20, 0).tolist() == list(range(10))
    chosen = pick(1000, 100, 3)
    assert len(set(chosen.tolist())) == 100
    assert (np.diff(chosen) > 0).all()
