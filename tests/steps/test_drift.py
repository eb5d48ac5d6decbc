from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tasks.drifting.profile
from tasks import drift, reference
from tasks.core.dataset import Dataset
from tasks.core.drift.chance.calibration import Calibration
from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.results import JOINT
from tasks.core.drift.verdict import judge
from tasks.core.errors import DriftError
from tasks.core.model.pipeline import build_pipeline
from tasks.core.window import Window
from tasks.drifting import alibi
from tasks.settings import Settings
from tasks.store.models import save_model
from tests.make import START, make_frame, make_spec

WINDOW = Window(START, START + timedelta(days=7))
check_drift = drift.check_drift.fn


@dataclass(frozen=True)
class Trained:
    model_path: str
    holdout_path: str


def dataset(frame: pd.DataFrame, path: Path) -> Dataset:
    frame.to_parquet(path, index=False)
    return Dataset(str(path), len(frame), "0" * 64, WINDOW)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder, spec, frame = tmp_path_factory.mktemp("trained"), make_spec(), make_frame(1500, seed=1)
    model = build_pipeline(spec).fit(frame[spec.features.all], frame["churned"])
    save_model(model, folder / "model.skops")
    dataset(make_frame(6000, seed=2), folder / "holdout.parquet")
    return Trained(str(folder / "model.skops"), str(folder / "holdout.parquet"))


@pytest.fixture(scope="module")
def known(trained) -> str:
    """Return the reference of 6,000 rows: four weeks, no alarm without drift, scores known."""
    return reference.profile_reference.fn(make_spec(), trained)


@pytest.fixture
def check(known, trained, tmp_path, settings):
    """Return a check of a frame by a spec with these drift settings."""

    def run(frame: pd.DataFrame, *, scored: bool = False, over: str = known, **more):
        names = ("earlier", "reference_rows_path", "keep", "version")
        passed = {name: more.pop(name) for name in names if name in more}
        return check_drift(
            make_spec(drift=more),
            dataset(frame, tmp_path / "window.parquet"),
            over,
            model_path=trained.model_path if scored else None,
            settings=settings,
            **passed,
        )

    return run


def told(verdict, feature=JOINT, measure="domain_auc"):
    return next(
        m for f in verdict.features for m in f.measures if (f.feature, m.measure) == (feature, measure)
    )


def test_a_window_like_the_holdout_is_ok_and_its_scores_are_judged(check):
    verdict = check(make_frame(3000, seed=3), scored=True)
    assert (verdict.outcome, verdict.score_outcome, verdict.rows) == ("ok", "ok", 3000)
    assert {f.feature for f in verdict.features} == {"tenure", "spend", "plan", "region", "__score__", JOINT}
    assert told(verdict).value == pytest.approx(0.5, abs=0.03)
    assert (verdict.detector, verdict.against_kind, verdict.compared) == ("tabular", "champion", ())


def test_inputs_that_move_the_scores_are_reported_as_both(check):
    verdict = check(make_frame(800, seed=3).assign(tenure=lambda f: f["tenure"] * 0.2), scored=True)
    assert (verdict.outcome, verdict.drifted, verdict.score_drifted) == ("drift", ("tenure",), True)
    assert "by tenure" in told(verdict).reason
    assert [shape.feature for shape in verdict.shapes][:1] == ["tenure"]


def test_a_change_of_how_columns_go_together_is_told_though_no_column_drifted(check):
    frame = make_frame(3000, seed=5)
    frame["spend"] = np.sort(frame["spend"])[frame["tenure"].rank().astype(int) - 1]
    verdict = check(frame)
    assert verdict.drifted == ()
    assert verdict.outcome == "drift"
    assert "whole rows drifted" in verdict.reason
    assert "spend" in told(verdict).reason
    assert verdict.shapes == ()
    assert check(frame, multivariate=False).outcome == "ok"


def test_batches_give_the_verdict_of_the_whole(check, monkeypatch):
    frame = make_frame(700, seed=4)
    whole = check(frame, scored=True)
    monkeypatch.setattr(tasks.drifting.profile, "_SCORED_ROWS", 256)
    assert check(frame, scored=True) == whole


def test_a_check_twice_is_the_same(check):
    frame = make_frame(6000, seed=6)
    assert check(frame) == check(frame)


def test_an_empty_window_and_one_row_are_undecided(check):
    for rows in (0, 1):
        verdict = check(make_frame(5).iloc[:rows])
        assert verdict.outcome == "undecided"
        assert verdict.reason.startswith(f"{rows} rows in the window; at least 50")


def test_too_few_rows_for_whole_rows_are_said(check):
    assert told(check(make_frame(120, seed=3))).outcome == "undecided"
    assert "120 of the window; 200 of each" in told(check(make_frame(120, seed=3))).reason


def test_a_renamed_column_drifts_and_leaves_the_scores_undecided(check):
    verdict = check(make_frame(300).rename(columns={"plan": "tier"}), scored=True)
    assert (verdict.drifted, verdict.score_outcome) == (("plan",), "undecided")
    assert "absent from the window: plan" in verdict.reason


def test_a_missing_file_a_wrong_file_and_a_damaged_reference_are_named(check, known, tmp_path, settings):
    with pytest.raises(DriftError, match=r"no readable gone\.json"):
        check(make_frame(100), over=str(tmp_path / "gone.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DriftError, match="cannot be read"):
        check(make_frame(100), over=str(tmp_path / "bad.json"))
    (tmp_path / "bad.parquet").write_text("no parquet")
    for name in ("bad.parquet", "gone.parquet"):
        window = Dataset(str(tmp_path / name), 1, "", WINDOW)
        with pytest.raises(DriftError, match="no readable Parquet") as error:
            check_drift(make_spec(), window, known, settings=settings)
        assert str(tmp_path) not in str(error.value)


def test_rows_that_the_champion_cannot_score_are_an_error_and_not_silence(check):
    with pytest.raises(DriftError, match="cannot score"):
        check(make_frame(100).assign(tenure="long"), scored=True)


def test_sensitive_categories_are_hashed_under_the_key_of_the_place(trained, tmp_path, settings):
    features = {"numeric": ["tenure"], "categorical": ["region"], "sensitive": ["region"]}
    spec = make_spec(features=features, contract={})
    fitted = build_pipeline(spec).fit(make_frame(300)[["tenure", "region"]], make_frame(300)["churned"])
    save_model(fitted, tmp_path / "model.skops")
    mine = replace(trained, model_path=str(tmp_path / "model.skops"))
    path = reference.profile_reference.fn(spec, mine, settings=settings)
    assert "north" not in Path(path).read_text()
    window = dataset(make_frame(1500, seed=3), tmp_path / "window.parquet")
    assert check_drift(spec, window, path, settings=settings).outcome in {"ok", "undecided"}
    with pytest.raises(DriftError, match="another key"):
        check_drift(spec, window, path, settings=Settings(state_dir=tmp_path / "other"))


def test_earlier_windows_are_the_reference_when_asked_for(check, known):
    cells = drift.load_reference(known)
    frames = [make_frame(900, seed=seed).assign(tenure=lambda f: f["tenure"] * 3) for seed in (5, 6, 7, 8)]
    earlier = [profile_frame(frame, cells) for frame in frames[:3]]
    assert check(frames[3]).drifted == ("tenure",)
    verdict = check(frames[3], reference="rolling", earlier=earlier)
    assert (verdict.drifted, verdict.against_kind, verdict.reference_rows) == ((), "rolling", 2700)
    assert "no rows are kept" in told(verdict).reason


def test_kept_windows_are_the_rolling_reference_of_later_ones(known, trained, tmp_path, settings):
    spec = make_spec(drift={"reference": "rolling"})
    kinds, rows = [], []
    for place in range(5):
        frame = make_frame(900, seed=5 + place).assign(tenure=lambda f: f["tenure"] * 3)
        day = Window(START + timedelta(days=place), START + timedelta(days=place + 1))
        window = replace(dataset(frame, tmp_path / "window.parquet"), window=day)
        for _ in range(2):  # a check repeated compares with the same windows
            verdict = check_drift(spec, window, known, version=1, keep=place != 4, settings=settings)
        kinds.append(verdict.against_kind)
        rows.append(verdict.reference_rows)
    assert kinds == ["champion"] * 3 + ["rolling"] * 2
    assert rows[3:] == [2700, 3600]


def test_a_window_of_one_part_is_left_to_the_check_and_counts_given_are_taken(known, tmp_path, settings):
    spec, window = make_spec(), dataset(make_frame(900, seed=3), tmp_path / "window.parquet")
    assert drift.count_window(spec, window, known, settings=settings) is None
    counted = profile_frame(make_frame(900, seed=3), drift.load_reference(known))
    given = check_drift(spec, window, known, profile=counted, settings=settings)
    assert given == check_drift(spec, window, known, settings=settings)


def test_the_scorer_travels_and_leaves_rows_it_cannot_score(trained):
    scorer = pickle.loads(pickle.dumps(drift.Scorer(make_spec(), trained.model_path)))  # noqa: S301
    assert scorer(make_frame(10)).shape == (10, 2)
    assert scorer(make_frame(10).drop(columns="plan")) is None


@pytest.mark.parametrize("detector", ["alibi", "alibi_cvm", "alibi_classifier"])
def test_each_detector_of_alibi_finds_a_shift_and_is_set_beside_ours(check, trained, detector):
    shifted = make_frame(800, seed=3).assign(tenure=lambda f: f["tenure"] * 3)
    for more in ({}, {"reference_rows_path": trained.holdout_path}):
        verdict = check(shifted, detector=detector, **more)
        assert verdict.detector == detector
        assert verdict.outcome == "drift"
        assert all(c.agree for c in verdict.compared)
    if detector == "alibi_classifier":
        assert [c.feature for c in verdict.compared] == [JOINT]
        assert "ClassifierDrift" in told(verdict).reason
    else:
        assert verdict.drifted == ("tenure",)
        assert {c.feature for c in verdict.compared} == {"tenure", "spend", "plan", "region"}
    assert check(make_frame(3000, seed=3), detector=detector).outcome == "ok"


def test_a_comparison_is_made_on_request_where_alibi_detect_is_installed(check, monkeypatch, caplog):
    frame = make_frame(900, seed=3)
    with_it = check(frame, compare=True)
    assert {c.feature for c in with_it.compared} == {"tenure", "spend", "plan", "region"}
    assert replace(with_it, compared=()) == check(frame)
    monkeypatch.setattr(alibi, "installed", lambda: False)
    with caplog.at_level("INFO", logger="tasks.drifting.examine"):
        assert check(frame, compare=True) == check(frame)
    assert [r.message for r in caplog.records if "nothing to compare" in r.message] != []


def test_their_classifier_gives_way_where_rows_depend_on_each_other(check, known, tmp_path, caplog):
    found = {"tenure": {"distribution": Dispersion(6.0, 30.0, 40)}}
    learnt = Calibration(0.01, (50,), (0.01,), found, blockwise=True)
    dependent = replace(drift.load_reference(known), calibration=learnt)
    (tmp_path / "dependent.json").write_text(dependent.to_json())
    frame = make_frame(900, seed=3).assign(tenure=lambda f: f["tenure"] * 1.5)
    with caplog.at_level("INFO", logger="tasks.drifting.examine"):
        verdict = check(frame, over=str(tmp_path / "dependent.json"), detector="alibi_classifier")
    assert verdict.compared == ()
    assert "our own classifier stands" in caplog.text
    assert "depend on each other" in told(verdict).reason


def test_a_detector_that_is_not_installed_is_an_error(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "alibi_detect", None)
    with pytest.raises(DriftError, match="install it"):
        check(make_frame(300), detector="alibi")


def test_importing_the_rules_loads_neither_prefect_nor_mlflow_nor_alibi():
    heavy = "{'prefect', 'mlflow', 'alibi_detect'}"
    code = f"import sys, tasks.core.drift.verdict; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_our_p_values_are_those_of_alibi_from_counts_alone():
    spec, rows, now = make_spec(), make_frame(2000, seed=2), make_frame(900, seed=3)
    cells = build_reference(rows, spec, deep=False)
    profile = profile_frame(now, cells)
    found = alibi.feature_tests(spec, cells, cells.profile, profile)
    compared = alibi.compare(judge(cells, profile, spec), found)
    assert len(compared) == 4
    for one in compared:
        assert one.ours == pytest.approx(one.theirs, rel=1e-4), one
