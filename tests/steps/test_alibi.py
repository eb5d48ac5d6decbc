"""What alibi-detect's detectors do by themselves, and what they do as we feed them."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.results import JOINT
from tasks.core.drift.verdict import judge
from tasks.core.errors import DriftError
from tasks.drifting import alibi
from tests.make import make_spec

ROWS = 3000
FEATURES = {"numeric": ["x", "flag"], "categorical": ["kind"]}


def spec_of(detector="alibi", **drift):
    return make_spec(features=FEATURES, contract={}, drift={"detector": detector, **drift})


def rows(count, seed, *, shift=0.0, share=0.3):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": rng.normal(shift, 1, count),
            "flag": (rng.random(count) < share).astype(int),
            "kind": rng.choice(list("abc"), count),
        }
    )


@pytest.fixture(scope="module")
def cd():
    """Return alibi-detect, whose import takes about ten seconds, once."""
    return alibi._detectors()


@pytest.fixture(scope="module")
def reference():
    return build_reference(rows(ROWS, 0), spec_of(), deep=False)


def found_in(reference, frame, detector="alibi", **more):
    profile = profile_frame(frame, reference)
    return alibi.feature_tests(spec_of(detector), reference, reference.profile, profile, **more)


def judged(reference, frame, detector="alibi"):
    profile, spec = profile_frame(frame, reference), spec_of(detector)
    tests = {name: test.outer() for name, test in found_in(reference, frame, detector).items()}
    return judge(reference, profile, spec, tests=tests, detector=detector)


def raw(detector, before, now):
    """Return what the detector says by itself: whether there is drift, and its p-value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = detector(np.asarray(before, float).reshape(-1, 1)).predict(
            np.asarray(now, float).reshape(-1, 1)
        )["data"]
    return data["is_drift"], float(data["p_val"][0])


def test_every_kind_of_feature_gets_its_test(cd, reference):
    now = rows(900, 1)
    assert {n: t.test for n, t in found_in(reference, now).items()} == {
        "x": "ks",
        "flag": "fisher",
        "kind": "chi_square",
    }
    assert found_in(reference, now, "alibi_cvm")["x"].test == "cvm"


def test_the_p_values_are_scipys(cd, reference):
    before, now = rows(ROWS, 0), rows(900, 1, shift=0.1, share=0.35)
    values = {"x": (before["x"].to_numpy(), now["x"].to_numpy())}
    found = {n: t.p_value for n, t in found_in(reference, now, values=values).items()}
    tables = {n: [side[n].value_counts().sort_index() for side in (before, now)] for n in ("flag", "kind")}
    assert found["x"] == pytest.approx(stats.ks_2samp(before["x"], now["x"], method="asymp").pvalue, rel=1e-5)
    assert found["flag"] == pytest.approx(stats.fisher_exact(tables["flag"]).pvalue, rel=1e-5)
    assert found["kind"] == pytest.approx(stats.chi2_contingency(tables["kind"]).pvalue, rel=1e-5)
    cvm = found_in(reference, now, "alibi_cvm", values=values)["x"].p_value
    assert cvm == pytest.approx(stats.cramervonmises_2samp(before["x"], now["x"]).pvalue, rel=1e-4)


@pytest.mark.parametrize("detector", ["alibi", "alibi_cvm"])
def test_one_nan_makes_them_silent_and_ours_not(cd, reference, detector):
    own = cd.CVMDrift if detector == "alibi_cvm" else cd.TabularDrift
    now = rows(500, 1, shift=3)
    now.loc[7, "x"] = np.nan
    said, p_value = raw(own, rows(ROWS, 0)["x"], now["x"])
    assert said == 0
    assert np.isnan(p_value)
    assert judged(reference, now, detector).drifted == ("x",)


def test_a_few_infinities_are_merely_large_to_them_and_invalid_to_us(cd, reference):
    now = rows(500, 1)
    now.loc[:24, "x"] = np.inf
    assert raw(cd.TabularDrift, rows(ROWS, 0)["x"], now["x"])[0] == 0
    verdict = judged(reference, now)
    assert verdict.drifted == ("x",)
    assert "invalid_share" in verdict.reason


def test_equal_constants_drift_to_cvm_and_have_no_test_here(cd):
    same = np.full(500, 7.0)
    assert raw(cd.CVMDrift, same, same[:100])[0] == 1
    spec = make_spec(features={"numeric": ["x"]}, contract={}, drift={"detector": "alibi_cvm"})
    frame = pd.DataFrame({"x": same})
    reference = build_reference(frame, spec, deep=False)
    profile = profile_frame(frame, reference)
    assert alibi.feature_tests(spec, reference, reference.profile, profile) == {}
    assert judge(reference, profile, spec, tests={}).outcome in {"ok", "undecided"}


def test_ties_do_not_make_cvm_alarm(cd):
    draws = [np.random.default_rng(seed).integers(0, 3, 2000).astype(float) for seed in (1, 2)]
    before, now = draws[0], draws[1][:400]
    assert raw(cd.CVMDrift, before, now)[0] == 1
    spec = make_spec(features={"numeric": ["x"]}, contract={}, drift={"detector": "alibi_cvm"})
    reference = build_reference(pd.DataFrame({"x": before}), spec, deep=False)
    profile = profile_frame(pd.DataFrame({"x": now}), reference)
    found = alibi.feature_tests(spec, reference, reference.profile, profile)
    assert found["x"].p_value > 0.01


def test_an_empty_window_and_one_row_have_no_test(cd, reference):
    with pytest.raises(ValueError, match="reshape"):
        raw(cd.TabularDrift, rows(ROWS, 0)["x"], [])
    assert raw(cd.TabularDrift, rows(ROWS, 0)["x"], [9.0]) == (1, 0.0)  # one odd row is "drift"
    assert np.isnan(raw(cd.CVMDrift, rows(ROWS, 0)["x"], [9.0])[1])  # and "no drift"
    for count in (0, 1, 19):
        frame = rows(50, 1).iloc[:count]
        assert found_in(reference, frame) == {}
        assert judged(reference, frame).outcome == "undecided"


def test_a_third_value_stops_fisher_and_not_us(cd, reference):
    with pytest.raises(ValueError, match="must consist of only"):
        raw(cd.FETDrift, rows(ROWS, 0)["flag"], np.full(200, 2))
    assert "flag" in judged(reference, rows(500, 1).assign(flag=2)).drifted


def test_by_default_fisher_sees_increases_only_and_here_both(cd, reference):
    now = rows(500, 1, share=0.0)
    assert raw(cd.FETDrift, rows(ROWS, 0)["flag"], now["flag"])[0] == 0
    assert found_in(reference, now)["flag"].p_value < 1e-20
    assert judged(reference, now).drifted == ("flag",)


def test_nulls_and_unseen_categories_stop_or_mislead_them_and_not_us(cd, reference):
    codes = rows(ROWS, 0)["kind"].map({"a": 0, "b": 1, "c": 2})
    with pytest.raises(ValueError, match="zero element"):
        raw(
            lambda before: cd.TabularDrift(before, categories_per_feature={0: None}),
            codes,
            np.where(np.arange(200) < 50, np.nan, 1),
        )
    unseen = rows(500, 1)
    unseen.loc[::5, "kind"] = "z"
    assert judged(reference, unseen).drifted == ("kind",)
    null = rows(500, 1)
    null.loc[::5, "kind"] = None
    verdict = judged(reference, null)
    assert verdict.drifted == ("kind",)
    assert "missing_share" in verdict.reason


def test_identifiers_beyond_two_to_the_53_are_equal_to_them_as_float32_and_apart_here(cd):
    before, now = (np.arange(count) * 4096 + 2**60 for count in (1000, 300))
    as_they_advise = [side.astype(np.float32) for side in (before, now)]
    assert len(np.unique(as_they_advise[0])) < 10
    spec = make_spec(features={"numeric": ["x"]}, contract={}, drift={"detector": "alibi"})
    reference = build_reference(pd.DataFrame({"x": before}), spec, deep=False)
    profile = profile_frame(pd.DataFrame({"x": now}), reference)
    found = alibi.feature_tests(spec, reference, reference.profile, profile)
    assert found["x"].statistic == pytest.approx(0.7, abs=0.02)


def test_a_p_value_too_small_for_float32_is_zero_and_still_drift(cd, reference):
    now = rows(2000, 1, shift=3)
    assert raw(cd.TabularDrift, rows(ROWS, 0)["x"], now["x"]) == (1, 0.0)
    assert found_in(reference, now)["x"].p_value == 0.0
    assert judged(reference, now).drifted == ("x",)


def test_columns_in_another_order_are_taken_by_name(cd, reference):
    now = rows(600, 1)
    mixed = now[["kind", "flag", "x"]].assign(extra=1)
    assert found_in(reference, mixed) == found_in(reference, now)


def test_a_large_window_is_drawn_from_by_the_seed(cd, reference):
    spec = spec_of(sample=200)
    profile = profile_frame(rows(2500, 1), reference)
    found = [
        alibi.feature_tests(spec, reference, reference.profile, profile, seed=seed)["x"] for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]
    counts = profile.features["x"]
    drawn = alibi._draw(counts, 200, np.random.default_rng(0))
    assert drawn.values == 200
    assert all(some <= every for some, every in zip(drawn.cells, counts.cells, strict=True))
    huge = replace(counts, cells=tuple(cell * 10**7 for cell in counts.cells))
    assert alibi._draw(huge, 200, np.random.default_rng(0)).values == 200


def test_rows_that_depend_on_each_other_count_for_fewer(cd, reference):
    now = rows(900, 1, shift=0.3)
    plain = found_in(reference, now)["x"].p_value
    dependent = {"x": {"distribution": Dispersion(9.0, 40.0, 30, rows=900.0, top=9.0)}}
    assert found_in(reference, now, dispersions=dependent)["x"].p_value > plain * 1e3
    hopeless = {"x": {"distribution": Dispersion(90.0, 40.0, 30, rows=900.0, top=90.0)}}
    assert "x" not in found_in(reference, now, dispersions=hopeless)


def test_whole_rows_are_told_apart_by_the_seed_alone(cd):
    rng = np.random.default_rng(0)
    before, now = (rng.integers(0, 60, (600, 4)).astype(np.int16) for _ in range(2))
    trees = HistGradientBoostingClassifier(max_iter=10)
    by_itself = [
        cd.ClassifierDrift(before.astype(float), trees, backend="sklearn", train_size=0.5, seed=7).predict(
            now.astype(float)
        )["data"]["p_val"]
        for _ in range(2)
    ]
    assert by_itself[0] != by_itself[1]  # the seed does not reach the halves
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()
    first = alibi.row_test(before, now, seed=7)
    assert np.random.get_state()[1].tolist() == state
    assert first == alibi.row_test(before, now, seed=7)
    assert first.p_value > 0.01
    now[:, 2] = 59 - now[:, 2] // 2
    assert alibi.row_test(before, now).p_value < 1e-6
    assert alibi.row_test(before, now[:150]).value is None


def test_ours_and_theirs_agree_when_both_or_neither_reject(cd, reference):
    now = rows(900, 1, shift=1)
    verdict = judge(reference, profile_frame(now, reference), spec_of())
    theirs = found_in(reference, now)
    compared = {c.feature: c for c in alibi.compare(verdict, theirs)}
    assert set(compared) == {"x", "flag", "kind"}
    assert all(c.agree for c in compared.values())
    assert compared["x"].ours == pytest.approx(compared["x"].theirs, abs=1e-9)
    silent = replace(theirs["x"], p_value=float("nan"))
    joint = alibi.Reading(0.5, 0.4)
    odd = {c.feature: c for c in alibi.compare(verdict, {"x": silent}, joint)}
    assert not odd["x"].agree
    assert (odd[JOINT].ours, odd[JOINT].theirs, odd[JOINT].agree) == (None, 0.4, False)


def test_a_missing_alibi_detect_is_said_plainly(monkeypatch):
    monkeypatch.setitem(sys.modules, "alibi_detect", None)
    assert not alibi.installed()
    with pytest.raises(DriftError, match="install it"):
        alibi._detectors()
