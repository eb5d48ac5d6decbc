"""The short way to an answer: the pipeline's own bits, or the pipeline itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from serving import scoring
from serving.bound import Bound, bind
from serving.scoring import NoAnswer, Scorer, frame_of, made_up, rows_of, scorer_for
from tasks.core.model.pipeline import Predictions, build_pipeline, predict
from tasks.core.spec import ModelSpec
from tests.make import make_frame, make_spec

BOOSTED: dict[str, Any] = {
    "class": "sklearn.ensemble.HistGradientBoostingClassifier",
    "params": {"max_iter": 12, "max_leaf_nodes": 8},
}
FOREST = "sklearn.ensemble.RandomForestClassifier"
LOGISTIC = "sklearn.linear_model.LogisticRegression"
WHO = [  # class, parameters, whether a row's bits do not depend on its company
    ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 12}, True),
    ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 9, "loss": "poisson"}, True),
    (FOREST, {"n_estimators": 7}, True),
    ("sklearn.ensemble.ExtraTreesRegressor", {"n_estimators": 5}, True),
    ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 5}, True),
    ("sklearn.tree.DecisionTreeClassifier", {"max_depth": 4}, True),
    (LOGISTIC, {}, False),
    ("sklearn.linear_model.Ridge", {}, False),
    ("sklearn.naive_bayes.GaussianNB", {}, False),
    ("sklearn.svm.LinearSVC", {}, False),
]


def fitted(
    frame: pd.DataFrame, y: Any = None, **over: Any
) -> tuple[Pipeline, ModelSpec, list[dict[str, Any]]]:
    """Return a model fitted on the frame, its spec, and the last rows as requests give them."""
    spec = make_spec(**{"estimator": BOOSTED, "contract": {}, **over})
    with threadpool_limits(1):
        model = build_pipeline(spec).fit(frame, frame["churned"] if y is None else y)
    return model, spec, rows_of(frame.tail(40), spec)


def spoiled(rows: int = 400) -> pd.DataFrame:
    frame = make_frame(rows)
    frame.loc[::9, "tenure"] = np.nan
    frame.loc[::7, "region"] = None
    return frame


def same(one: Predictions, other: Predictions) -> None:
    assert one.classes == other.classes
    assert one.prediction.dtype == other.prediction.dtype
    assert np.array_equal(one.prediction, other.prediction)
    if one.probabilities is None or other.probabilities is None:
        assert one.probabilities is other.probabilities is None
    else:
        assert np.array_equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize(("kind", "params", "is_rowwise"), WHO)
def test_the_bound_way_gives_the_pipelines_bits(kind: str, params: dict[str, Any], is_rowwise: bool) -> None:
    is_regression = kind.endswith(("Regressor", "Ridge"))
    over = {"task": "regression", "metric": "r2"} if is_regression else {}
    model, spec, rows = fitted(spoiled(), estimator={"class": kind, "params": params}, **over)
    scorer = scorer_for(model, spec, spoiled().tail(40))
    assert scorer.is_bound
    assert scorer.is_rowwise is is_rowwise
    for given in [rows, rows[:1], *made_up(model, spec, rows, seed=99, rows=200)]:
        same(scorer.said(given), predict(model, frame_of(given, spec)))


def test_three_classes_of_text_and_no_categories_are_bound_too() -> None:
    frame = make_frame(300)
    y = np.array(["low", "mid", "high"])[np.arange(300) % 3]
    model, spec, rows = fitted(frame, y, features={"numeric": ["tenure", "spend"]})
    scorer = scorer_for(model, spec, frame.tail(30))
    assert scorer.is_bound and scorer.is_rowwise
    same(scorer.said(rows), predict(model, frame.tail(40)))
    answer = scorer.answers(rows[:1])[0]
    assert list(answer["probabilities"]) == ["high", "low", "mid"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", [BOOSTED["class"], FOREST, LOGISTIC])
def test_truth_values_whole_numbers_rare_levels_and_empty_columns_are_bound(kind: str) -> None:
    rng = np.random.default_rng(1)
    frame = make_frame(600)
    frame["plan"] = rng.random(600) < 0.4
    frame["region"] = np.minimum(rng.geometric(0.02, 600), 400)  # more levels than are told apart
    frame["spend"] = np.nan
    model, spec, rows = fitted(frame, estimator={"class": kind, "params": {}} if kind != FOREST else
                               {"class": kind, "params": {"n_estimators": 5}})  # fmt: skip
    scorer = scorer_for(model, spec, frame.tail(40))
    assert scorer.is_bound
    same(scorer.said(rows), predict(model, frame.tail(40)))
    one = {"tenure": 3.0, "spend": 4.0}
    for plan, like in ((True, "true"), (True, 1), (False, 0), (False, "False")):
        said = [scorer.answers([{**one, "plan": value, "region": 2}]) for value in (plan, like)]
        assert said[0] == said[1]
    assert scorer.answers([{**one, "plan": 1, "region": 2.0}]) == scorer.answers(
        [{**one, "plan": 1, "region": "2"}]
    )


def test_a_row_has_the_same_bits_alone_and_in_any_company() -> None:
    model, spec, rows = fitted(spoiled())
    scorer = scorer_for(model, spec, None)
    alone = [scorer.answers([row])[0] for row in rows]
    assert scorer.answers(rows) == alone
    assert scorer.answers(rows[::-1]) == alone[::-1]


def test_where_two_classes_are_equally_likely_the_models_own_choice_counts() -> None:
    frame = make_frame(200)
    frame["tenure"], frame["spend"] = 1.0, 1.0  # nothing to learn: both classes at one half, at every row
    y = np.array([0, 1] * 100)
    for kind in (BOOSTED["class"], FOREST, LOGISTIC):
        model, spec, rows = fitted(
            frame, y, estimator={"class": kind}, features={"numeric": ["tenure", "spend"]}
        )
        scorer = scorer_for(model, spec, frame.tail(9))
        same(scorer.said(rows), predict(model, frame.tail(40)))


def test_the_model_runs_once_for_an_answer_but_for_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    model, spec, rows = fitted(spoiled(), estimator={"class": LOGISTIC})
    scorer = scorer_for(model, spec, None)
    calls: list[Any] = []
    estimator = model.named_steps["estimator"]
    monkeypatch.setattr(estimator, "predict", calls.append)
    scorer.answers(rows)
    assert calls == []


@pytest.mark.parametrize("spoil", ["matrix", "said", "raises"])
def test_a_bound_way_that_differs_anywhere_is_not_taken(monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    model, spec, rows = fitted(spoiled())

    def wrong(model: Any) -> Bound | None:
        right = bind(model)
        assert right is not None

        def matrix(rows: Any) -> Any:
            if spoil == "raises":
                raise KeyError("no such attribute in this release")
            found = right.matrix(rows)
            return np.nan_to_num(found, nan=0.0) if spoil == "matrix" else found

        def said(matrix: Any) -> Predictions:
            given = right.said(matrix)
            assert given.probabilities is not None
            last = np.nextafter(given.probabilities, 0) if spoil == "said" else given.probabilities
            return Predictions(given.prediction, last, given.classes)

        return Bound(matrix, said, True)

    monkeypatch.setattr(scoring, "bind", wrong)
    scorer = scorer_for(model, spec, spoiled().tail(40))
    assert not scorer.is_bound and not scorer.is_rowwise
    same(scorer.said(rows), predict(model, frame_of(rows, spec)))


def test_an_own_preprocessing_and_a_changed_pipeline_go_the_general_way() -> None:
    own = {**BOOSTED, "preprocess": "sklearn.impute.SimpleImputer"}
    frame = spoiled()
    model, spec, rows = fitted(frame, estimator=own, features={"numeric": ["tenure", "spend"]})
    assert bind(model) is None
    scorer = scorer_for(model, spec, frame.tail(20))
    assert not scorer.is_bound and not scorer.is_rowwise
    same(scorer.said(rows), predict(model, frame.tail(40)))
    assert bind(object()) is None


def test_a_forest_fitted_with_many_threads_answers_with_one() -> None:
    model, spec, rows = fitted(
        spoiled(), estimator={"class": FOREST, "params": {"n_estimators": 3, "n_jobs": 2}}
    )
    scorer = scorer_for(model, spec, None)
    assert model.named_steps["estimator"].n_jobs == 1
    assert len(scorer.answers(rows)) == 40


def test_an_answer_that_is_no_finite_number_is_none() -> None:
    model, spec, _ = fitted(
        spoiled(), task="regression", metric="r2", estimator={"class": "sklearn.linear_model.Ridge"}
    )
    scorer = scorer_for(model, spec, None)
    row = {"tenure": 1e305, "spend": 1.0, "plan": "basic", "region": "north"}
    assert np.isfinite(scorer.answers([row])[0]["prediction"])
    model.named_steps["estimator"].coef_[:] = 1e9
    with pytest.raises(NoAnswer, match="no finite number"):
        scorer.answers([row])


def test_no_rows_have_no_answers() -> None:
    model, spec, _ = fitted(spoiled())
    assert Scorer(model, spec, None).answers([]) == []
    assert scorer_for(model, spec, None).answers([]) == []
