from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr
from sklearn.pipeline import Pipeline

from tasks import drift
from tasks.core.dataset import Dataset
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.verdict import judge
from tasks.core.errors import DriftError
from tasks.core.model.pipeline import build_pipeline
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.models import save_model
from tests.make import START, make_frame, make_spec

WINDOW = Window(START, START + timedelta(days=7))
check_drift, profile_reference = drift.check_drift.fn, drift.profile_reference.fn


@dataclass(frozen=True)
class Trained:
    model_path: str
    holdout_path: str


def dataset(frame: pd.DataFrame, path: Path) -> Dataset:
    frame.to_parquet(path, index=False)
    return Dataset(str(path), len(frame), "0" * 64, WINDOW)


@pytest.fixture(scope="module")
def model() -> Pipeline:
    frame = make_frame(1500, seed=1)
    spec = make_spec()
    return build_pipeline(spec).fit(frame[spec.features.all], frame["churned"])


@pytest.fixture
def trained(model: Pipeline, tmp_path: Path) -> Trained:
    save_model(model, tmp_path / "model.skops")
    dataset(make_frame(1200, seed=2), tmp_path / "holdout.parquet")
    return Trained(str(tmp_path / "model.skops"), str(tmp_path / "holdout.parquet"))


def test_a_window_like_the_holdout_is_ok_and_its_scores_are_judged(trained, tmp_path, settings):
    spec = make_spec()
    reference = profile_reference(spec, trained, settings=settings)
    assert Path(reference) == tmp_path / "reference.json"
    window = dataset(make_frame(800, seed=3), tmp_path / "window.parquet")
    verdict = check_drift(spec, window, reference, model_path=trained.model_path, settings=settings)
    assert (verdict.outcome, verdict.score_outcome, verdict.rows) == ("ok", "ok", 800)
    assert {f.feature for f in verdict.features} == {"tenure", "spend", "plan", "region", "__score__"}


def test_inputs_that_move_the_scores_are_reported_as_both(trained, tmp_path, settings):
    spec = make_spec()
    reference = profile_reference(spec, trained, settings=settings)
    frame = make_frame(800, seed=3).assign(tenure=lambda f: f["tenure"] * 0.2)
    window = dataset(frame, tmp_path / "window.parquet")
    verdict = check_drift(spec, window, reference, model_path=trained.model_path, settings=settings)
    assert (verdict.outcome, verdict.drifted, verdict.score_drifted) == ("drift", ("tenure",), True)


def test_batches_give_the_verdict_of_the_whole(trained, tmp_path, settings, monkeypatch):
    spec = make_spec()
    reference = profile_reference(spec, trained, settings=settings)
    window = dataset(make_frame(700, seed=4), tmp_path / "window.parquet")
    whole = check_drift(spec, window, reference, model_path=trained.model_path, settings=settings)
    monkeypatch.setattr(drift, "BATCH_ROWS", 256)
    assert check_drift(spec, window, reference, model_path=trained.model_path, settings=settings) == whole


def test_an_empty_window_and_one_row_are_undecided(trained, tmp_path, settings):
    spec = make_spec()
    reference = profile_reference(spec, trained, settings=settings)
    for rows in (0, 1):
        window = dataset(make_frame(5).iloc[:rows], tmp_path / f"{rows}.parquet")
        verdict = check_drift(spec, window, reference, model_path=trained.model_path, settings=settings)
        assert verdict.outcome == "undecided"
        assert verdict.reason.startswith(f"{rows} rows in the window; at least 50")


def test_a_renamed_column_drifts_and_leaves_the_scores_undecided(trained, tmp_path, settings):
    spec = make_spec()
    reference = profile_reference(spec, trained, settings=settings)
    window = dataset(make_frame(300).rename(columns={"plan": "tier"}), tmp_path / "window.parquet")
    verdict = check_drift(spec, window, reference, model_path=trained.model_path, settings=settings)
    assert (verdict.drifted, verdict.score_outcome) == (("plan",), "undecided")
    assert "absent from the window: plan" in verdict.reason


def test_a_missing_file_a_wrong_file_and_a_damaged_reference_are_named(trained, tmp_path, settings):
    spec = make_spec()
    reference = profile_reference(spec, trained, settings=settings)
    window = dataset(make_frame(100), tmp_path / "window.parquet")
    with pytest.raises(DriftError, match=r"no readable gone\.json"):
        check_drift(spec, window, str(tmp_path / "gone.json"), settings=settings)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DriftError, match="cannot be read"):
        check_drift(spec, window, str(tmp_path / "bad.json"), settings=settings)
    (tmp_path / "bad.parquet").write_text("no parquet")
    for name in ("bad.parquet", "gone.parquet"):
        with pytest.raises(DriftError, match="no readable Parquet") as error:
            check_drift(spec, Dataset(str(tmp_path / name), 1, "", WINDOW), reference, settings=settings)
        assert str(tmp_path) not in str(error.value)


def test_rows_that_the_champion_cannot_score_are_an_error_and_not_silence(trained, tmp_path, settings):
    spec = make_spec()
    reference = profile_reference(spec, trained, settings=settings)
    frame = make_frame(100).assign(tenure="long")
    with pytest.raises(DriftError, match="cannot score"):
        check_drift(
            spec,
            dataset(frame, tmp_path / "window.parquet"),
            reference,
            model_path=trained.model_path,
            settings=settings,
        )


def test_the_made_mask_key_stays_one_and_is_private(tmp_path, settings):
    spec = make_spec(
        features={
            "numeric": ["tenure", "spend"],
            "categorical": ["plan", "region"],
            "sensitive": ["region"],
        }
    )
    key = drift._mask_key(spec, settings)
    assert key == drift._mask_key(spec, settings)
    path = settings.root / "mask.key"
    assert path.stat().st_mode & 0o077 == 0
    assert [p.name for p in settings.root.iterdir()] == ["mask.key"]
    set_here = Settings(state_dir=tmp_path / "other", mask_key=SecretStr("mine"))
    assert drift._mask_key(spec, set_here) == b"mine"
    assert drift._mask_key(make_spec(), Settings(state_dir=tmp_path / "third")) is None


def test_importing_the_rules_loads_neither_prefect_nor_mlflow_nor_alibi():
    heavy = "{'prefect', 'mlflow', 'alibi_detect'}"
    code = f"import sys, tasks.core.drift.verdict; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_a_missing_alibi_detect_is_said_plainly(monkeypatch):
    monkeypatch.setitem(sys.modules, "alibi_detect.cd", None)
    with pytest.raises(DriftError, match="install it"):
        drift._tabular_drift()


# Importing alibi-detect takes about ten seconds, once for all tests below (see the fixture).


@pytest.fixture(scope="session")
def tabular_drift():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from alibi_detect.cd import TabularDrift
    return TabularDrift


def alibi_spec(**over):
    return make_spec(drift={"detector": "alibi"}, **over)


@pytest.fixture
def alibi(tabular_drift, tmp_path):
    """Return a check of a frame by the alibi detector against 2,000 rows, from raw rows or from counts."""
    spec = alibi_spec()
    rows = make_frame(2000, seed=2)
    reference = build_reference(rows, spec)
    (tmp_path / "reference.json").write_text(reference.to_json())
    rows.to_parquet(tmp_path / "rows.parquet")

    def check(frame: pd.DataFrame, *, raw: bool = True):
        return check_drift(
            spec,
            dataset(frame, tmp_path / "window.parquet"),
            str(tmp_path / "reference.json"),
            reference_rows_path=str(tmp_path / "rows.parquet") if raw else None,
        )

    return check


def p_of(verdict, feature: str, measure: str) -> float:
    found = next(f for f in verdict.features if f.feature == feature)
    return next(m.p_value for m in found.measures if m.measure == measure)


def test_alibi_gives_the_p_values_it_gives_when_used_by_hand(alibi, tabular_drift):
    rows, window = make_frame(2000, seed=2), make_frame(900, seed=3)
    codes = {"plan": ["basic", "pro", "team"], "region": ["north", "south", "east", "west"]}

    def matrix(frame):
        coded = {name: pd.Categorical(frame[name], values).codes for name, values in codes.items()}
        return frame.assign(**coded)[["tenure", "spend", "plan", "region"]].to_numpy(dtype=float)

    by_hand = tabular_drift(matrix(rows), categories_per_feature={2: None, 3: None}).predict(matrix(window))
    verdict = alibi(window)
    assert verdict.detector == "alibi"
    found = [
        p_of(verdict, *at)
        for at in [("tenure", "ks"), ("spend", "ks"), ("plan", "chi_square"), ("region", "chi_square")]
    ]
    assert found == pytest.approx(by_hand["data"]["p_val"], rel=1e-5)


def test_our_detector_gives_the_p_values_of_alibi_without_any_rows(alibi):
    window = make_frame(900, seed=3)
    theirs, spec = alibi(window, raw=False), make_spec()
    reference = build_reference(make_frame(2000, seed=2), spec)
    ours = judge(reference, profile_frame(window, reference), spec)
    for feature, measure in [
        ("tenure", "ks"),
        ("spend", "ks"),
        ("plan", "chi_square"),
        ("region", "chi_square"),
    ]:
        assert p_of(ours, feature, measure) == pytest.approx(p_of(theirs, feature, measure), rel=1e-4)


@pytest.mark.parametrize("raw", [True, False], ids=["rows", "counts"])
def test_alibi_does_not_fall_silent(alibi, raw):
    calm = make_frame(500, seed=3)
    assert alibi(calm, raw=raw).outcome == "ok"
    shifted = calm.assign(tenure=calm["tenure"] * 3)
    assert alibi(shifted, raw=raw).drifted == ("tenure",)
    one_null = shifted.assign(
        tenure=lambda f: f["tenure"].where(f.index != 7)
    )  # by itself: p = nan, no drift
    assert alibi(one_null, raw=raw).drifted == ("tenure",)
    all_null = calm.assign(spend=np.nan)
    assert alibi(all_null, raw=raw).drifted == ("spend",)
    infinite = calm.assign(spend=calm["spend"].where(calm.index % 5 > 0, np.inf))
    assert alibi(infinite, raw=raw).drifted == ("spend",)
    unseen = calm.assign(plan=calm["plan"].where(calm.index % 5 > 0, "enterprise"))
    assert alibi(unseen, raw=raw).drifted == ("plan",)
    shuffled = calm[["region", "plan", "spend", "tenure"]].assign(extra=1)
    assert alibi(shuffled, raw=raw).outcome == "ok"
    assert alibi(calm.drop(columns="region"), raw=raw).drifted == ("region",)
    constant = calm.assign(plan="basic", tenure=10.0)
    assert alibi(constant, raw=raw).drifted == ("tenure", "plan")
    mixed = calm.assign(region=[True, None, 1, "north"] * 125)
    assert "region" in alibi(mixed.astype({"region": "string"}), raw=raw).drifted
    for rows in (0, 1):  # by itself: ValueError, and "no drift"
        assert alibi(calm.iloc[:rows], raw=raw).outcome == "undecided"


def test_alibi_tells_identifiers_beyond_two_to_the_53_apart_as_far_as_floats_do(tabular_drift):
    spec = make_spec(features={"numeric": ["id"]}, contract={}, drift={"detector": "alibi"})
    before, now = (pd.DataFrame({"id": np.arange(n) * 4096 + 2**60}) for n in (1000, 300))
    reference = build_reference(before, spec)
    profile = profile_frame(now, reference)
    tests = drift.alibi_tests(spec, reference, profile)
    assert tests["id"].statistic == pytest.approx(0.7, abs=0.02)
    assert judge(reference, profile, spec, tests=tests, detector="alibi").drifted == ("id",)


def test_a_null_p_value_by_itself_is_what_alibi_gives(tabular_drift):
    # the trap that the adapter is there for; when this fails, alibi-detect has changed
    rng = np.random.default_rng(0)
    window = rng.normal(5, 1, (100, 1))
    window[3] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = tabular_drift(rng.normal(size=(500, 1))).predict(window)["data"]
    assert np.isnan(found["p_val"][0])
    assert found["is_drift"] == 0
