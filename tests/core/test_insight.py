from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.inspection import permutation_importance
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import mean_absolute_error, roc_auc_score

from tasks.core.drift.counting.bins import category_bins, numeric_bins
from tasks.core.drift.counting.sample import sample_codes
from tasks.core.drift.matters import importance
from tasks.core.drift.matters.importance import importances
from tasks.core.drift.matters.insight import Insight, build_insight, from_plain
from tasks.core.drift.matters.label_mix import LabelMix, label_mix
from tasks.core.drift.matters.score_maps import KNOTS, fit_maps
from tasks.core.model.pipeline import build_pipeline, predict
from tests.make import make_frame, make_spec

SPEC = make_spec()
REGRESSION = make_spec(
    task="regression",
    metric="neg_mean_absolute_error",
    features={"numeric": ["tenure", "spend"], "categorical": ["plan"]},
    estimator={"class": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 20}},
)


@pytest.fixture(scope="module")
def champion():
    frame = make_frame(3000)
    return build_pipeline(SPEC).fit(frame, frame["churned"]), make_frame(1500, seed=1)


@pytest.fixture(scope="module")
def insight(champion) -> Insight:
    model, holdout = champion
    return build_insight(model, holdout, SPEC, seed=0, trained_on=make_frame(3000)["churned"])


def numbers(rows: int, seed: int) -> pd.DataFrame:
    frame = make_frame(rows, seed=seed)
    noise = np.random.default_rng(seed).normal(size=rows)
    return frame.assign(churned=frame["spend"] + 0.1 * frame["spend"] * noise)


@pytest.fixture(scope="module")
def regressor() -> tuple[Insight, pd.DataFrame, object]:
    frame, holdout = numbers(3000, 0), numbers(1500, 1)
    model = build_pipeline(REGRESSION).fit(frame, frame["churned"])
    bins = [
        *(numeric_bins(n, holdout[n]) for n in ("tenure", "spend")),
        category_bins("plan", holdout["plan"]),
    ]
    sample = sample_codes(holdout, bins)
    return build_insight(model, holdout, REGRESSION, seed=0, sample=sample), holdout, model


def plain(insight: Insight) -> dict:
    return json.loads(json.dumps(insight.to_plain(), allow_nan=False))


def test_the_promise_is_the_metric_on_the_holdout(champion, insight, regressor) -> None:
    model, holdout = champion
    assert insight.promised == pytest.approx(
        roc_auc_score(holdout["churned"], predict(model, holdout).probabilities[:, 1])
    )
    assert (insight.rows, insight.problem) == (1500, "")
    found, rows, other = regressor
    assert found.promised == pytest.approx(-mean_absolute_error(rows["churned"], other.predict(rows)))


def test_importance_is_scikit_learns_within_the_noise_of_shuffling(champion, insight) -> None:
    model, holdout = champion
    names = SPEC.features.all
    theirs = permutation_importance(
        model, holdout[names], holdout["churned"], scoring="roc_auc", n_repeats=5, random_state=0
    )
    for name, mean, spread in zip(names, theirs.importances_mean, theirs.importances_std, strict=True):
        assert insight.importance[name] == pytest.approx(max(mean, 0), abs=4 * spread + 0.004), name
    assert min(insight.importance.values()) >= 0


def test_an_insight_is_the_same_after_json_and_for_the_same_seed(champion, insight, regressor) -> None:
    model, holdout = champion
    again = build_insight(model, holdout, SPEC, seed=0, trained_on=make_frame(3000)["churned"])
    assert plain(again) == plain(insight) == plain(from_plain(plain(insight)))
    assert plain(from_plain(plain(regressor[0]))) == plain(regressor[0])


def test_an_insight_is_small_and_holds_no_row(insight, regressor) -> None:
    assert len(json.dumps(insight.to_plain())) < 150_000
    assert len(json.dumps(regressor[0].to_plain())) < 60_000
    assert max(len(knots) for knots in insight.estimator.knots) <= KNOTS


def test_the_maps_are_scikit_learns_isotonic_regression(champion) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(150)
    truth = (rng.random(150) < scores**2).astype(int)
    maps = fit_maps(np.column_stack([1 - scores, scores]), truth, lambda table, times: 0.0, seed=0, maps=2)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, truth)
    assert maps.values[0][0] == pytest.approx(theirs.predict(maps.knots[0]), abs=1e-7)
    asked = np.array([[0.3, 0.7], [1.0, 0.0]])
    assert maps.table(asked, 0)[:, 1] == pytest.approx(theirs.predict(asked[:, 1]), abs=1e-7)


def test_maps_of_three_classes_give_probabilities_that_sum_to_one() -> None:
    rng = np.random.default_rng(1)
    table = rng.dirichlet([1, 1, 1], 500)
    truth = np.array([rng.choice(3, p=row) for row in table])
    maps = fit_maps(table, truth, lambda table, times: 0.0, seed=0, maps=2)
    found = maps.table(table, 1)
    assert found.sum(axis=1) == pytest.approx(np.ones(500))
    assert np.abs(maps.table(table, 0).mean(axis=0) - np.bincount(truth) / 500).max() < 0.01


CHANGES = [
    ("no metric", lambda raw: raw.pop("metric")),
    ("importance of infinity", lambda raw: raw["importance"].update(spend=float("inf"))),
    ("another kind", lambda raw: raw["estimator"].update(kind="pickle")),
    ("no lines", lambda raw: raw["estimator"].update(expected=[])),
    ("a promise withdrawn", lambda raw: raw.update(promised=None)),
    ("falling knots", lambda raw: raw["estimator"]["knots"][0].reverse()),
    ("too many knots", lambda raw: raw["estimator"].update(knots=[list(range(KNOTS + 1))])),
    ("no probability", lambda raw: raw["estimator"]["values"][0][0].__setitem__(0, 1.5)),
    ("labels that are a list", lambda raw: raw.update(labels=[])),
    ("negative counts", lambda raw: raw["labels"].update(counts={"0": -1})),
]


@pytest.mark.parametrize("change", [line[1] for line in CHANGES], ids=[line[0] for line in CHANGES])
def test_a_changed_insight_is_refused(insight, change) -> None:
    raw = copy.deepcopy(plain(insight))
    change(raw)
    with pytest.raises(ValueError, match=r"\w"):
        from_plain(raw)


TREES = [
    ("a way that never ends", lambda raw: raw["children"].__setitem__(0, [0, 0])),
    ("a leaf that is not there", lambda raw: raw["children"].__setitem__(-1, [99, 99])),
    ("a feature that is not there", lambda raw: raw["feature"].__setitem__(0, 9)),
    ("means of another size", lambda raw: raw["means"].pop()),
    ("a threshold that is no number", lambda raw: raw["threshold"].__setitem__(0, float("nan"))),
]


@pytest.mark.parametrize("change", [line[1] for line in TREES], ids=[line[0] for line in TREES])
def test_a_changed_tree_is_refused(regressor, change) -> None:
    raw = plain(regressor[0])
    change(raw["estimator"])
    with pytest.raises(ValueError, match=r"\w"):
        from_plain(raw)


def test_a_holdout_that_says_too_little_gives_no_estimator_and_says_why(champion) -> None:
    model, holdout = champion
    small = build_insight(model, holdout[:150], SPEC, seed=0)
    assert (small.estimator, small.problem[:20]) == (None, "150 rows in the hold")
    one = build_insight(model, holdout[holdout["churned"] == 0], SPEC, seed=0)
    assert (one.promised, one.importance, one.estimator) == (None, {}, None)
    assert "no value on the holdout" in one.problem
    largest = make_spec(
        task="regression", metric="neg_max_error", estimator=REGRESSION.estimator.model_dump()
    )
    frame = numbers(600, 2)
    fitted = build_pipeline(REGRESSION).fit(frame, frame["churned"])
    assert "not a mean over rows" in build_insight(fitted, numbers(600, 3), largest, seed=0).problem


def test_a_classifier_without_probabilities_has_importance_and_no_estimator() -> None:
    spec = make_spec(metric="accuracy", estimator={"class": "sklearn.svm.LinearSVC"})
    frame, holdout = make_frame(800), make_frame(800, seed=1)
    found = build_insight(build_pipeline(spec).fit(frame, frame["churned"]), holdout, spec, seed=0)
    assert found.problem == "the model gives no probabilities"
    assert set(found.importance) == set(spec.features.all)
    assert from_plain(plain(found)).estimator is None


def test_with_very_many_features_those_the_answers_follow_are_tried(champion, monkeypatch) -> None:
    model, holdout = champion
    bins = [numeric_bins(n, holdout[n]) for n in SPEC.features.numeric]
    bins += [category_bins(n, holdout[n]) for n in SPEC.features.categorical]
    sample = sample_codes(holdout, bins)
    monkeypatch.setattr(importance, "WORK", 2 * 4 * 3300)  # two questions about four features of 300 rows
    few = importances(model, holdout, holdout["churned"].to_numpy(), SPEC, seed=0, sample=sample)
    assert len(few) == 2
    whole = importances(model, holdout, holdout["churned"].to_numpy(), SPEC, seed=0)
    assert len(whole) == 2
    monkeypatch.undo()
    assert importance._plan(25) == (2000, 3, 25)
    assert importance._plan(10_000) == (300, 1, 3)


def test_labels_are_counted_by_text_and_numbers_by_tenths() -> None:
    mix = label_mix([1, 0, 0, None], numbers=False)
    assert mix.counts == {"0": 2, "1": 1}
    assert mix.of(["1", 1.0, True, 0, float("nan")]) == {"1": 3, "0": 1}
    tenths = label_mix(np.arange(1000.0), numbers=True)
    assert list(tenths.counts.values()) == [100] * 10
    assert tenths.of([-5.0, 5000.0, 450.0]) == {"cell 0": 1, "cell 4": 1, "cell 9": 1}
    assert LabelMix.from_plain(json.loads(json.dumps(tenths.to_plain()))) == tenths
    assert label_mix([], numbers=True).rows == 0
