from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from tasks.core.drift.chance.calibration import Calibration
from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.counting.sample import sample_codes
from tasks.core.drift.past.calendar import Against, choose
from tasks.core.drift.profile import build_reference
from tasks.core.drift.rows.blockwise import blockwise_reading
from tasks.core.drift.rows.domain import domain_reading
from tasks.core.drift.rows.joint import joint_reading, rows_compared, sample_blocks
from tests.make import START, make_spec

COLUMNS = ["a", "b", "c"]
NAMES = COLUMNS
SPEC = make_spec(features={"numeric": COLUMNS}, contract={}, window={"training": "40d", "check": "1d"})


def series(days, per_day, seed, *, kind):
    """Return rows that depend on each other: neighbours in a series (ar), or all rows of a day (day)."""
    rng, rows = np.random.default_rng(seed), days * per_day
    if kind == "day":
        return rng.normal(size=(rows, 3)) + np.repeat(rng.normal(size=(days, 3)) * 0.3, per_day, axis=0)
    return lfilter([1], [1, -0.9], rng.normal(size=(rows + 200, 3)) * np.sqrt(1 - 0.81), axis=0)[200:]


def coded(rows):
    return np.clip(np.floor(rows * 12 + 32), 0, 63).astype(np.int16)


def frame_of(rows, per_day=100):
    times = [START + timedelta(days=place / per_day) for place in range(len(rows))]
    return pd.DataFrame(rows, columns=COLUMNS), pd.Series(pd.to_datetime(times, utc=True))


@pytest.fixture(scope="module")
def reference():
    frame, times = frame_of(np.random.default_rng(0).normal(size=(4000, 3)))
    return build_reference(frame, SPEC, times=times, deep=True)


def window(seed, rows=400, **over):
    frame = pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, 3)), columns=COLUMNS)
    return frame.assign(**over)


def read(reference, frame, against=None):
    found = against or choose(reference, None, SPEC)
    return joint_reading(reference, found, sample_codes(frame, reference.bins))


@pytest.mark.parametrize("kind", ["ar", pytest.param("day", marks=pytest.mark.slow)])
def test_windows_that_depend_alike_are_not_called_drifted_and_naively_they_are(kind):
    naive, found = [], []
    for seed in range(4):
        rows = series(31, 200, seed, kind=kind)
        before, now, blocks = coded(rows[:6000]), coded(rows[6000:]), np.arange(6000) // 200
        naive.append(domain_reading(before, now, NAMES, seed=seed)[0].p_value)
        found.append(domain_reading(before, now, NAMES, seed=seed, blocks=blocks)[0].p_value)
    assert np.mean(np.array(naive) < 0.01) > 0.5
    assert (np.array(found) > 0.01).all()


def test_a_day_that_stands_out_from_other_days_is_found_and_named():
    rows = series(31, 300, 3, kind="day")
    rows[-300:, 1] += 2.5
    before, now, blocks = coded(rows[:-300]), coded(rows[-300:]), np.arange(9000) // 300
    reading, leaning = domain_reading(before, now, NAMES, blocks=blocks)
    assert reading.p_value < 0.001
    assert reading.value > 0.6
    assert "single blocks of the reference" in reading.note
    assert leaning[0] == "b"


def test_too_few_blocks_and_too_small_ones_cannot_tell():
    codes = coded(series(10, 100, 1, kind="day"))
    for blocks in (np.arange(1000) // 250, np.arange(1000) // 20, np.full(1000, -1)):
        reading = blockwise_reading(codes, codes, blocks)
        assert (reading.value, reading.p_value) == (None, None)
        assert "depend on each other" in reading.note


def test_a_window_like_the_reference_is_not_told_apart_and_a_changed_one_is(reference):
    assert read(reference, window(1)).p_value > 0.01
    frame = window(2)
    changed = frame.assign(b=0.9 * frame["a"] + 0.44 * frame["b"])
    reading = read(reference, changed)
    assert reading.p_value < 1e-4
    assert "by a, b" in reading.note or "by b, a" in reading.note


def test_an_exchange_of_columns_is_seen(reference):
    frame = window(3).assign(c=lambda f: f["c"] * 0.2 + 1)
    moved = frame.rename(columns={"a": "c", "c": "a"})
    assert read(reference, moved).value > 0.8


def test_a_column_that_is_not_there_is_all_null(reference):
    assert read(reference, window(4).drop(columns="a")).value > 0.95


def test_why_nothing_can_be_told_is_said(reference):
    few = read(reference, window(1, rows=150))
    assert (few.value, few.p_value) == (None, None)
    assert "150 of the window; 200 of each" in few.note
    rolling = Against(reference.profile, "rolling", "the windows before")
    assert "no rows are kept" in read(reference, window(1), rolling).note
    assert "earlier release" in read(replace(reference, sample=None), window(1)).note


def test_rows_of_the_slot_alone_are_compared(reference):
    chosen = (0, 7, 14, 21, 28)
    against = Against(reference.history.profile(chosen), "calendar", "the Mondays", chosen)
    codes, blocks = rows_compared(reference, against)
    assert len(codes) == 500
    assert set(blocks.tolist()) == set(chosen)
    unknown = replace(reference, history=None)
    assert "slot is not known" in read(unknown, window(1), against).note


def test_blocks_of_sampled_rows_are_known_and_rows_in_disorder_are_noticed(reference):
    assert sample_blocks(reference).tolist() == (np.arange(4000) // 100).tolist()
    frame, times = frame_of(np.random.default_rng(1).normal(size=(8000, 3)))
    drawn = sample_blocks(build_reference(frame, SPEC, times=times, deep=True))
    assert len(drawn) == 5000
    assert np.bincount(drawn).min() > 30
    order = np.random.default_rng(2).permutation(8000)
    mixed = build_reference(frame.iloc[order], SPEC, times=times.iloc[order], deep=True)
    assert sample_blocks(mixed) is None


def test_dependence_that_calibration_found_is_allowed_for(reference):
    found = {"a": {"distribution": Dispersion(9.0, 20.0, 40)}}
    learnt = Calibration(0.01, (50,), (0.01,), found, blockwise=True)
    dependent = replace(reference, calibration=learnt)
    moved = window(5, c=np.random.default_rng(6).normal(0.5, 1, 400))
    assert "single blocks of the reference" in read(dependent, moved).note
    assert read(dependent, window(5)) == read(reference, window(5))  # nothing to doubt
    lost = replace(dependent, history=None)
    assert "which were together is not known" in read(lost, moved).note
