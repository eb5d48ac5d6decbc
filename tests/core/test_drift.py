from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks.core.drift.measures.base import Reading
from tasks.core.drift.past.calendar import Against
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.verdict import JOINT, DriftVerdict, OuterTest, judge
from tasks.core.errors import DriftError
from tests.drifting import (
    CATEGORICAL,
    check,
    counted,
    mixed_frame,
    mixed_reference,
    mixed_spec,
    one_feature,
    outcome_of,
)
from tests.make import make_spec


@pytest.mark.parametrize(("rows", "repeats"), [(50, 30), (400, 20), (10_000, 4)])
def test_thirty_undrifted_features_alarm_within_the_budget(rows, repeats):
    rng = np.random.default_rng(rows)
    spec, reference = mixed_spec(), mixed_reference()
    alarms = rejections = 0
    for _ in range(repeats):
        verdict = judge(reference, profile_frame(mixed_frame(rows, rng), reference), spec)
        alarms += verdict.outcome == "drift"
        tests = [m for f in verdict.features for m in f.measures if m.p_value is not None]
        assert len(tests) > 60
        rejections += any(test.p_value <= test.alpha for test in tests)
    # uncorrected, thirty features alarm in most checks; so many at 1 % less than once in 10,000
    most = stats.binom.ppf(0.9999, repeats, spec.drift.false_alarms)
    assert alarms <= rejections <= most


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (100, {"mean": 1.0, "spread": 3.0}),
        (500, {"mean": 0.6, "spread": 2.0}),
        (5000, {"mean": 0.5, "spread": 1.6}),
    ],
)
def test_one_shifted_feature_among_thirty_is_found(rows, found):
    rng = np.random.default_rng(1)
    spec, reference = mixed_spec(), mixed_reference()
    for name, change in [
        ("n0", lambda x: x + found["mean"]),
        ("n7", lambda x: x * found["spread"]),
    ]:
        frame = mixed_frame(rows, rng)
        frame[name] = change(frame[name])
        verdict = judge(reference, profile_frame(frame, reference), spec)
        assert verdict.outcome == "drift"
        assert verdict.drifted == (name,)
        assert name in verdict.reason


@pytest.mark.parametrize("rows", [200, 2000])
def test_a_moved_category_a_new_one_and_lost_values_are_found(rows):
    rng = np.random.default_rng(2)
    spec, reference = mixed_spec(), mixed_reference()
    frame = mixed_frame(rows, rng)
    frame["c0"] = rng.choice(["a", "b", "c"], rows, p=[0.2, 0.5, 0.3])
    frame["c5"] = np.where(rng.random(rows) < 0.2, "new", frame["c5"])
    frame["n0"] = np.where(rng.random(rows) < 0.3, np.nan, frame["n0"])
    frame["n1"] = np.where(rng.random(rows) < 0.15, np.inf, frame["n1"])
    frame["c8"] = rng.random(rows) < 0.5
    verdict = judge(reference, profile_frame(frame, reference), spec)
    assert verdict.drifted == ("n0", "n1", "c0", "c5", "c8")
    loud = {f.feature: {m.measure for m in f.measures if m.outcome == "drift"} for f in verdict.features}
    assert "missing_share" in loud["n0"]
    assert "invalid_share" in loud["n1"]
    assert {"psi", "chi_square"} <= loud["c0"]
    assert "unseen_share" in loud["c5"]


def test_a_hairs_breadth_at_a_million_rows_is_significant_and_still_no_drift():
    rng = np.random.default_rng(3)
    verdict = check(rng.normal(size=300_000), rng.normal(0.03, 1, 1_000_000))
    ks = next(m for m in verdict.features[0].measures if m.measure == "ks")
    assert ks.p_value < 1e-9 < ks.alpha
    assert verdict.outcome == "ok"


def test_a_difference_between_the_limits_is_a_warning():
    rng = np.random.default_rng(3)
    verdict = check(rng.normal(size=50_000), rng.normal(0.38, 1, 50_000))
    assert verdict.outcome == "warn"
    assert not verdict.drifted


def test_a_large_difference_that_chance_explains_is_no_drift():
    rng = np.random.default_rng(12)
    verdict = check(rng.normal(size=300), rng.normal(0.47, 1, 50))
    found = next(m for m in verdict.features[0].measures if m.measure == "wasserstein")
    assert found.value > found.threshold
    assert (found.outcome, verdict.outcome) == ("ok", "undecided")
    assert "may be chance" in found.reason


def test_a_window_too_small_to_show_a_change_is_undecided_and_says_how_many_rows_it_takes():
    rng = np.random.default_rng(12)
    reference = rng.normal(size=5000)
    small = check(reference, rng.normal(size=60))
    needed = small.features[0].needed
    assert (small.outcome, small.needed) == ("undecided", needed)
    assert f"60 values; {needed} are needed to see a PSI of 0.2" in small.reason
    assert 80 < needed < 200
    assert check(reference, rng.normal(size=needed)).outcome == "ok"
    assert check(reference, rng.normal(1.5, 1, 60)).outcome == "drift"  # an alarm needs no such number
    assert small.features[0].detectable > 0.2


def test_the_rows_said_to_be_needed_do_find_the_change_in_eight_of_ten_windows():
    rng = np.random.default_rng(7)
    spec = one_feature("categorical")
    even = np.full(10, 0.1)
    moved = even * np.where(np.arange(10) < 5, 1 + 0.2179, 1 - 0.2179)  # a PSI of 0.0965: each way .0483
    psi = float(np.sum((moved - even) * np.log(moved / even)))
    reference = build_reference(pd.DataFrame({"x": rng.integers(0, 10, 100_000)}), spec)
    calm = judge(reference, counted(reference, rng.multinomial(150, even)), spec)
    rows = round(calm.features[0].needed * 0.2 / psi)
    found = 0
    for _ in range(200):
        verdict = judge(reference, counted(reference, rng.multinomial(rows, moved)), spec)
        chi = next(m for m in verdict.features[0].measures if m.measure == "chi_square")
        found += chi.p_value <= calm.level / 3  # its share among the feature's tests
    assert 0.7 < found / 200 < 0.9


@pytest.mark.parametrize("rows", [0, 1, 49])
def test_too_few_rows_are_undecided_and_say_how_many_are_needed(rows):
    verdict = check(np.arange(1000.0), np.arange(float(rows)))
    assert (verdict.outcome, verdict.drifted, verdict.rows) == ("undecided", (), rows)
    assert verdict.reason == f"{rows} rows in the window; at least 50 are needed for a verdict"
    assert verdict.score_outcome == "undecided"


def test_a_reference_of_too_few_rows_is_undecided():
    assert "reference" in check(np.arange(10.0), np.arange(1000.0)).reason


def score_case(shift: float, *, scored: bool = True) -> DriftVerdict:
    rng = np.random.default_rng(4)
    spec = one_feature()
    reference = build_reference(pd.DataFrame({"x": rng.normal(size=2000)}), spec, scores=rng.beta(2, 5, 700))
    window = pd.DataFrame({"x": rng.normal(size=600)})
    scores = np.clip(rng.beta(2, 5, 600) + shift, 0, 1) if scored else None
    return judge(reference, profile_frame(window, reference, scores=scores), spec)


def test_drift_of_the_scores_is_told_apart_from_the_features():
    verdict = score_case(0.3)
    assert (verdict.outcome, verdict.score_drifted, verdict.score_outcome) == ("drift", True, "drift")
    assert verdict.drifted == ()
    assert "the model's score drifted" in verdict.reason


def test_scores_that_stay_are_ok_and_scores_not_given_are_undecided():
    assert (score_case(0).score_drifted, score_case(0).score_outcome) == (False, "ok")
    missing = score_case(0, scored=False)
    assert (missing.outcome, missing.score_drifted, missing.score_outcome) == ("ok", False, "undecided")


def test_a_profile_of_another_reference_is_refused():
    spec = one_feature()
    one, other = (build_reference(pd.DataFrame({"x": np.arange(100.0) * k}), spec) for k in (1, 2))
    with pytest.raises(DriftError, match="another reference"):
        judge(one, profile_frame(pd.DataFrame({"x": np.arange(100.0)}), other), spec)


def test_a_test_made_elsewhere_takes_the_place_of_ours():
    rng = np.random.default_rng(0)
    spec = one_feature()
    reference = build_reference(pd.DataFrame({"x": rng.normal(size=2000)}), spec)
    profile = profile_frame(pd.DataFrame({"x": rng.normal(1, 1, 500)}), reference)

    def outer(p_value):
        return judge(reference, profile, spec, tests={"x": OuterTest("ks", 0.4, p_value)}, detector="other")

    assert (outer(1e-9).outcome, outer(1e-9).detector) == ("drift", "other")
    assert outcome_of(outer(0.9), "ks") == "ok"  # its word counts, not ours
    assert outer(0.9).drifted == ()
    silent = outer(float("nan"))
    assert outcome_of(silent, "ks") == outcome_of(silent, "psi") == "undecided"
    assert {m.reason for m in silent.features[0].measures if m.measure == "ks"} == {
        "the detector gave p = nan"
    }
    assert judge(reference, profile, spec, tests={}).outcome == "drift"  # no test of it: ours stands


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.6, 3))
def test_a_smaller_budget_never_finds_more(seed, shift):
    rng = np.random.default_rng(seed)
    reference, current = rng.normal(size=800), rng.normal(shift, 1, 60)
    strict = check(reference, current, false_alarms=0.0001).outcome == "drift"
    loose = check(reference, current, false_alarms=0.1).outcome == "drift"
    assert loose or not strict


def test_the_reason_is_short_and_holds_no_value_of_a_row():
    rng = np.random.default_rng(0)
    spec, reference = mixed_spec(), mixed_reference()
    frame = mixed_frame(500, rng).assign(**{f"c{i}": "alice@example.org" for i in range(CATEGORICAL)})
    verdict = judge(reference, profile_frame(frame, reference), spec)
    assert len(verdict.drifted) == CATEGORICAL
    assert "alice" not in json.dumps(verdict.to_dict())
    assert "and 7 more" in verdict.reason
    assert len(verdict.reason) < 500


def joint_case(p_value, auc=0.8):
    rng = np.random.default_rng(0)
    spec = one_feature()
    reference = build_reference(pd.DataFrame({"x": rng.normal(size=2000)}), spec)
    profile = profile_frame(pd.DataFrame({"x": rng.normal(size=600)}), reference)
    return judge(reference, profile, spec, joint=Reading(auc, p_value, auc, note="x leans most"))


def test_what_a_classifier_of_whole_rows_read_joins_the_tests_under_a_name_of_its_own():
    loud = joint_case(1e-9)
    assert (loud.outcome, loud.drifted) == ("drift", ())
    rows = next(f for f in loud.features if f.feature == JOINT)
    assert [m.measure for m in rows.measures] == ["domain_auc"]
    assert (rows.measures[0].n_reference, rows.measures[0].n_current) == (2000, 600)
    assert "whole rows drifted (domain_auc 0.8 (x leans most) is at least 0.625)" in loud.reason
    tests = [m for f in loud.features for m in f.measures if m.p_value is not None]
    assert {round(m.alpha * len(tests) / loud.level, 9) for m in tests} == {1.0}  # one of them rejects


@pytest.mark.parametrize(("p_value", "auc"), [(0.4, 0.8), (1e-9, 0.52), (None, None)])
def test_a_classifier_that_may_be_lucky_or_tells_little_apart_alarms_nobody(p_value, auc):
    assert joint_case(p_value, auc).outcome == "ok"


def test_a_window_is_judged_against_the_rows_it_is_to_be_compared_with():
    rng = np.random.default_rng(2)
    spec = one_feature()
    reference = build_reference(pd.DataFrame({"x": rng.normal(size=2000)}), spec)
    earlier, now = (profile_frame(pd.DataFrame({"x": rng.normal(2, 1, 800)}), reference) for _ in range(2))
    assert judge(reference, now, spec).outcome == "drift"
    verdict = judge(reference, now, spec, against=Against(earlier, "rolling", "the 14 windows before"))
    assert (verdict.outcome, verdict.reference_rows) == ("ok", 800)
    assert (verdict.against, verdict.against_kind) == ("the 14 windows before", "rolling")
    # what is out of the reference's range is so in the earlier windows too
    assert outcome_of(verdict, "unseen_share") == "ok"


def test_a_verdict_says_at_which_level_it_was_made_and_how_that_came_about():
    rng = np.random.default_rng(3)
    verdict = check(rng.normal(size=2000), rng.normal(size=500))
    assert 0 < verdict.level <= verdict.false_alarms
    assert "learnt from 300 checks without drift resampled from the reference." in verdict.calibration
    spec = one_feature()
    shallow = build_reference(pd.DataFrame({"x": rng.normal(size=2000)}), spec, deep=False)
    profile = profile_frame(pd.DataFrame({"x": rng.normal(size=500)}), shallow)
    assert judge(shallow, profile, spec).level == 0.01
    assert "nothing was learnt" in judge(shallow, profile, spec).calibration


def test_windows_that_differ_anyway_are_judged_by_what_they_normally_differ_by():
    rng = np.random.default_rng(4)
    spec = make_spec(features={"numeric": ["x"]}, contract={}, window={"training": "90d", "check": "1d"})

    def days(count, shift=0.0):
        return pd.DataFrame(
            {"x": np.repeat(rng.normal(shift, 0.5, count), 300) + rng.normal(size=300 * count)}
        )

    times = pd.Series(pd.date_range("2026-01-05", periods=60, freq="1D", tz="UTC").repeat(300))
    reference = build_reference(days(60), spec, times=times)
    calm = [judge(reference, profile_frame(days(1), reference), spec) for _ in range(20)]
    assert {v.outcome for v in calm} <= {"ok", "undecided"}
    result = next(m for m in calm[0].features[0].measures if m.measure == "psi")
    assert result.dispersion > 5
    assert "windows of the reference differ by PSI" in calm[0].features[0].reason
    broken = judge(reference, profile_frame(days(1, 1000.0), reference), spec)
    assert broken.drifted == ("x",)  # out of reach of any day before
