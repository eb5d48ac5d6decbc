from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks.core.drift.chance.between import dispersions
from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.measures.ks import p_of
from tasks.core.drift.measures.proportions import different
from tasks.core.drift.profile import Reference, build_reference
from tests.make import make_spec

START = datetime(2026, 1, 5, tzinfo=UTC)
KNOWN = Dispersion(4.0, 30.0, 31, rows=100.0, growth=1.0, spread=2.0, top=8.0)


def reference_of(frame: pd.DataFrame, days: int | None) -> Reference:
    labels = [name for name in frame if frame[name].dtype == object]
    features = {"numeric": [n for n in frame if n not in labels], "categorical": labels}
    window = {"training": "90d", "check": "1d"}
    spec = make_spec(features={k: v for k, v in features.items() if v}, contract={}, window=window)
    times = None
    if days is not None:
        times = pd.Series(pd.date_range(START, periods=days, freq="1D").repeat(len(frame) // days))
    return build_reference(frame, spec, times=times)


def found_in(frame: pd.DataFrame, days: int | None = 40):
    reference = reference_of(frame, days)
    return dispersions(reference, reference.history)


def test_independent_rows_have_no_dispersion():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(8000, 12)), columns=[f"x{i}" for i in range(12)])
    frame["c"] = rng.choice(["a", "b", "c"], 8000).astype(object)
    frame["x0"] = frame["x0"].mask(rng.random(8000) < 0.1)
    assert found_in(frame) == {}


def test_clusters_have_the_factor_that_kish_gives():
    # clusters of 20 equal rows: 1 + (20 - 1) * 1
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"c": np.repeat(rng.choice(["a", "b", "c"], 2000), 20).astype(object)})
    found = found_in(frame)["c"]["distribution"]
    assert found.factor == pytest.approx(20, rel=0.2)
    assert (found.dof, found.blocks, found.rows) == (pytest.approx(39, abs=15), 40, 1000)


def test_an_autocorrelated_series_has_its_factor_where_it_varies_most():
    # at the median an AR(1) series of 0.8 has correlations 2/pi asin(0.8^k): 1 + 2 * their sum = 5.8
    rng = np.random.default_rng(2)
    noise = rng.normal(size=40_000) * 0.6
    values = np.empty(40_000)
    values[0] = rng.normal()
    for place in range(1, len(values)):
        values[place] = 0.8 * values[place - 1] + noise[place]
    exact = 1 + 2 * sum(2 / np.pi * np.arcsin(0.8**lag) for lag in range(1, 200))
    for days in (40, None):  # by time, and by the order of the rows
        found = found_in(pd.DataFrame({"x": values}), days)["x"]["distribution"]
        assert found.top == pytest.approx(exact, rel=0.45)
        assert found.factor < found.top
        assert found.spread > 1


def test_days_that_differ_as_a_whole_have_a_factor_that_grows_with_the_rows():
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(size=50), 200) * 0.5 + rng.normal(size=10_000)
    found = found_in(pd.DataFrame({"x": values}), 50)["x"]["distribution"]
    assert found.growth == 1
    assert float(found.at(200)) == pytest.approx(found.factor)
    assert float(found.at(2000)) == pytest.approx(1 + 10 * (found.factor - 1))
    assert float(found.at(20)) == pytest.approx(found.factor)


def test_runs_of_blocks_show_that_the_factor_of_clusters_does_not_grow():
    rng = np.random.default_rng(4)
    columns = {f"c{i}": np.repeat(rng.choice(["a", "b", "c"], 1500), 10).astype(object) for i in range(6)}
    found = found_in(pd.DataFrame(columns), None)
    assert found["c0"]["distribution"].growth < 0.5


def test_gaps_that_come_in_bursts_have_a_dispersion_of_their_own():
    rng = np.random.default_rng(5)
    outage = np.repeat(rng.random(40) < 0.3, 200)
    frame = pd.DataFrame({"x": np.where(outage & (rng.random(8000) < 0.3), np.nan, rng.normal(size=8000))})
    found = found_in(frame)["x"]
    assert found["missing"].factor > 10
    assert "distribution" not in found or found["distribution"].factor < 1.5


def test_categories_that_one_day_alone_shows_are_expected_of_the_next():
    rng = np.random.default_rng(6)
    own = np.array([f"s{day}" for day in range(40)], dtype=object).repeat(100)
    common = rng.choice(["a", "b"], 4000).astype(object)
    found = found_in(pd.DataFrame({"c": np.where(rng.random(4000) < 0.2, own, common)}))["c"]
    assert found["unseen"].expected == pytest.approx(0.2, abs=0.02)


def test_within_a_calendars_slots_only_what_is_left_counts():
    rng = np.random.default_rng(7)
    days = np.arange(56).repeat(200)
    frame = pd.DataFrame({"x": rng.normal(size=11_200) + (days % 7 >= 5)})
    reference = reference_of(frame, 56)
    assert dispersions(reference, reference.history)["x"]["distribution"].factor > 5
    assert dispersions(reference, reference.history, np.arange(56) % 7) == {}


def test_the_corrected_tests_are_the_plain_ones_where_rows_are_independent():
    assert float(INDEPENDENT.chi_square(20.0, 9, 1.0)) == pytest.approx(stats.chi2.sf(20, 9), rel=1e-9)
    assert float(INDEPENDENT.normal(2.0)) == pytest.approx(stats.norm.sf(2), rel=1e-9)
    assert float(INDEPENDENT.between(100, 10)) == 1


def test_the_corrected_tests_are_f_and_t_tests():
    assert float(KNOWN.chi_square(80.0, 8, 4.0)) == pytest.approx(stats.f.sf(80 / 4 / 8, 4, 30), rel=1e-9)
    assert float(KNOWN.normal(2.0)) == pytest.approx(stats.t.sf(2, 30), rel=1e-9)
    # half of the difference's variance is the window's, whose factor is 1 + 3 * 2 at 200 rows
    assert float(KNOWN.between(200, 200)) == pytest.approx((4 + 7) / 2)


def test_a_corrected_test_never_says_more_than_the_plain_one():
    for k in range(0, 60, 5):
        assert different(20, 1000, k, 100, KNOWN) >= different(20, 1000, k, 100) - 1e-12
    for distance in (0.05, 0.1, 0.2, 0.4):
        assert p_of(distance, 2000, 100, KNOWN) >= p_of(distance, 2000, 100)


def test_a_dispersion_reads_back_as_it_was_written():
    assert Dispersion.from_plain(KNOWN.to_plain()) == KNOWN
    assert Dispersion.from_plain(INDEPENDENT.to_plain()) == INDEPENDENT
    for bad in ({"factor": 0.5, "dof": 3, "blocks": 4}, {"factor": "2"}, {**KNOWN.to_plain(), "more": 1}):
        with pytest.raises(ValueError, match="dispersion"):
            Dispersion.from_plain(bad)
