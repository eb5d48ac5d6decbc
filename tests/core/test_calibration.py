from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from tasks.core.drift.chance.calibration import LOWEST, RESAMPLES, SIZES, Calibration, alarm_levels, calibrate
from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.chance.leave_out import left_out
from tasks.core.drift.chance.many import Many
from tasks.core.drift.chance.resample import Urn
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.profile import Reference, build_reference
from tests.drifting import mixed_frame, mixed_spec
from tests.make import make_spec

READ = {measure.name: measure.read for measure in MEASURES}


def plain_reference(rows: int = 4000) -> Reference:
    """Return a reference of the thirty mixed features without a calibration."""
    return build_reference(mixed_frame(rows, np.random.default_rng(3)), mixed_spec(), deep=False)


def series_reference(days: int, rows: int, *, features: int = 6, shift_on: int | None = None) -> Reference:
    """Return a reference whose days differ as a whole, one of them by far."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            f"x{i}": np.repeat(0.4 * rng.normal(size=days), rows) + rng.normal(size=days * rows)
            for i in range(features)
        }
    )
    if shift_on is not None:
        frame.iloc[shift_on * rows : (shift_on + 1) * rows] += 9.0
    times = pd.Series(pd.date_range("2026-01-05", periods=days, freq="1D", tz="UTC").repeat(rows))
    spec = make_spec(
        features={"numeric": list(frame)}, contract={}, window={"training": "90d", "check": "1d"}
    )
    return build_reference(frame, spec, times=times)


def agree(many: Many, name: str, p_values: np.ndarray) -> int:
    """Compare p-values drawn at once with the measure's own reading of each pair; return how many."""
    compared = 0
    for place in range(len(many.singles)):
        pair = many.pair(place)
        alone = READ[name](pair).p_value
        if math.isnan(p_values[place]):
            assert alone is None or min(pair.reference.values, pair.current.values) < 20
        elif p_values[place] < 1:  # 1 stands for all that could not matter
            assert p_values[place] == pytest.approx(alone, rel=1e-9)
            compared += 1
        else:
            assert alone is None or alone > 0.01
    return compared


@pytest.mark.parametrize("size", [60, 900])
def test_p_values_drawn_at_once_are_the_measures_own(size):
    reference, rng = plain_reference(), np.random.default_rng(0)
    compared = dict.fromkeys(("ks", "chi_square", "missing_share"), 0)
    for bins in reference.bins:
        many = Urn(bins, reference.profile.features[bins.name], 12, rng).window(size)
        for name, p_values in many.p_values().items():
            if name in compared:  # what is unseen is drawn apart from the cells, and compared below
                compared[name] += agree(many, name, p_values)
    assert compared["missing_share"] > 0
    assert min(compared["ks"], compared["chi_square"]) > 80


def test_p_values_of_left_out_blocks_are_the_measures_own():
    reference = series_reference(20, 80)
    learnt, history = reference.calibration, reference.history
    for bins in reference.bins:
        many = left_out(bins, history, np.zeros(20, dtype=np.int64), learnt.dispersions[bins.name])
        for name in ("ks", "chi_square", "wasserstein"):
            assert agree(many, name, many.p_values()[name]) > 4


def test_a_left_out_block_is_compared_with_all_the_others_of_its_slot():
    reference = series_reference(20, 80)
    slots = np.arange(20) % 2
    many = left_out(reference.bins[0], reference.history, slots)
    assert many.reference.rows.tolist() == [720.0] * 20
    cells = reference.history.cells(reference.bins[0].name)
    kept = cells.sum(axis=0) > 0
    assert many.reference.cells[3] == pytest.approx((cells[1::2].sum(axis=0) - cells[3])[kept])


def test_redrawn_windows_have_the_references_shares_and_lose_no_row():
    reference, rng = plain_reference(), np.random.default_rng(1)
    for bins in reference.bins[::4]:
        counts = reference.profile.features[bins.name]
        many = Urn(bins, counts, 200, rng).window(500)
        side = many.current
        assert (side.rows == 500).all()
        assert (side.values + side.nulls + side.invalid == 500).all()
        assert side.nulls.mean() / 500 == pytest.approx(counts.nulls / counts.rows, abs=0.01)


def test_redrawn_categories_show_as_many_new_ones_as_the_reference_leads_one_to_expect():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"c": rng.integers(0, 2000, 3000).astype(str)})
    spec = make_spec(features={"categorical": ["c"]}, contract={})
    reference = build_reference(frame, spec, deep=False)
    many = Urn(reference.bins[0], reference.profile.features["c"], 300, rng).window(1000)
    drawn = np.zeros(300)
    share = np.array(reference.profile.features["c"].cells) / 3000
    for place in range(300):  # the same by drawing every single category
        before, now = rng.multinomial(3000, share), rng.multinomial(1000, share)
        drawn[place] = now[before == 0].sum()
    assert many.current.unseen.mean() == pytest.approx(drawn.mean(), rel=0.03)
    assert many.current.unseen.std() == pytest.approx(drawn.std(), rel=0.2)


def test_the_level_is_the_budget_where_rows_are_independent_and_the_same_for_the_same_seed():
    reference = plain_reference()
    first, again = (calibrate(reference, None, budget=0.05, seed=4) for _ in range(2))
    assert first == again
    assert (first.sizes, first.resamples, first.blockwise) == (SIZES, RESAMPLES, False)
    assert all(0.02 < level <= 0.05 for level in first.levels)
    assert first.levels[-1] > 0.03
    assert calibrate(reference, None, budget=0.05, seed=5).levels != first.levels or set(first.levels) == {
        0.05
    }


def test_between_two_sizes_the_stricter_level_holds():
    learnt = Calibration(0.01, (50, 500, 5000), (0.002, 0.008, 0.01))
    assert [learnt.level(n) for n in (10, 50, 51, 500, 501, 5000, 10**7)] == [
        0.002, 0.002, 0.002, 0.008, 0.008, 0.01, 0.01,
    ]  # fmt: skip


def test_days_that_differ_are_found_and_blocks_left_out():
    reference = series_reference(40, 100)
    learnt = reference.calibration
    assert learnt.blockwise
    assert learnt.resamples == RESAMPLES + 40
    assert learnt.dispersions["x0"]["distribution"].top > 5


def test_one_odd_day_in_the_reference_does_not_blind_every_later_check():
    learnt = series_reference(40, 100, shift_on=7).calibration
    assert all(LOWEST * learnt.budget <= level <= learnt.budget for level in learnt.levels)


def test_a_check_alarms_from_the_smallest_level_at_which_a_change_that_matters_rejects():
    reference, rng = plain_reference(), np.random.default_rng(0)
    names = ("n0", "n1", "n2")
    bins = [cell for cell in reference.bins if cell.name in names]
    checks = [Urn(cell, reference.profile.features[cell.name], 400, rng).window(60) for cell in bins]
    levels = alarm_levels(checks, 0.9)
    loud = np.flatnonzero(levels < 1)
    assert 0 < len(loud) < 300  # even of 60 rows most differ too little to matter
    assert (alarm_levels(checks, 0.0) == 1).all()
    for check in loud[:5]:
        p_values = [many.p_values()[name][check] for many in checks for name in ("ks", "chi_square")]
        assert levels[check] >= min(p_values)


def test_scores_of_unknown_blocks_are_taken_as_dispersed_as_the_worst_feature():
    rng = np.random.default_rng(1)
    days = np.repeat(rng.normal(size=30), 100)
    frame = pd.DataFrame({"x": days + rng.normal(size=3000), "y": rng.normal(size=3000)})
    times = pd.Series(pd.date_range("2026-01-05", periods=30, freq="1D", tz="UTC").repeat(100))
    spec = make_spec(features={"numeric": ["x", "y"]}, contract={}, window={"training": "90d", "check": "1d"})
    learnt = build_reference(frame, spec, scores=rng.random(500), times=times).calibration
    assert learnt.dispersions["__score__"]["distribution"] == learnt.dispersions["x"]["distribution"]


def test_a_calibration_reads_back_as_it_was_written_and_nothing_else_does():
    made = Calibration(
        0.01,
        (50, 500),
        (0.01, 0.004),
        {"x": {"missing": Dispersion(2.0, 30.0, 31)}},
        "weekday",
        "why",
        300,
        True,
    )
    plain = json.loads(json.dumps(made.to_plain(), allow_nan=False))
    assert Calibration.from_plain(plain) == made
    for change in (
        {"levels": [0.01, 0.02]},
        {"sizes": [500, 50]},
        {"levels": [0.01]},
        {"dispersions": {"x": {"colour": {}}}},
        {"dispersions": {"x": {"missing": {"factor": 0.1, "blocks": 3}}}},
    ):
        with pytest.raises(ValueError, match=r"level|dispersion"):
            Calibration.from_plain({**plain, **change})


def test_a_feature_without_values_or_of_one_value_is_no_obstacle():
    frame = pd.DataFrame({"x": [np.nan] * 400, "y": [1.0] * 400, "z": np.arange(400.0)})
    spec = make_spec(features={"numeric": ["x", "y", "z"]}, contract={})
    assert build_reference(frame, spec).calibration.levels
