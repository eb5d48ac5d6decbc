from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tasks.core.errors import SpecError, TrainingError
from tasks.core.evaluation.metrics import score
from tasks.core.model.columns import category_text
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import NATIVE_LEVELS, build_pipeline, predict
from tasks.core.spec import ModelSpec
from tests.make import make_frame, make_spec


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with threadpool_limits(limits=1):  # on a busy machine more threads wait for each other
        yield


CLASSIFIERS = {
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 20},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 10},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 10},
    "sklearn.linear_model.LogisticRegression": {},
    "sklearn.linear_model.SGDClassifier": {"loss": "log_loss"},
}
REGRESSORS = {
    "sklearn.ensemble.HistGradientBoostingRegressor": {"max_iter": 20},
    "sklearn.linear_model.Ridge": {},
    "sklearn.linear_model.SGDRegressor": {},
}
ALL = [
    *((path, params, "classification") for path, params in CLASSIFIERS.items()),
    *((path, params, "regression") for path, params in REGRESSORS.items()),
]


def spec_for(path: str, params: dict, task: str = "classification", **more) -> ModelSpec:
    metric = "roc_auc" if task == "classification" else "r2"
    return make_spec(task=task, metric=metric, estimator={"class": path, "params": params}, **more)


def data(rows: int = 400, seed: int = 0, task: str = "classification") -> pd.DataFrame:
    frame = make_frame(rows, seed=seed)
    if task == "regression":
        frame["churned"] = 0.2 * frame["spend"] + (frame["plan"] == "team") * 3.0
    return frame


def fitted(spec: ModelSpec, frame: pd.DataFrame):
    return build_pipeline(spec).fit(frame[spec.features.all], labels_of(frame, spec))


def said(model, frame: pd.DataFrame) -> np.ndarray:
    """What can be compared to the last bit: probabilities, or the predicted numbers."""
    found = predict(model, frame)
    return found.prediction if found.probabilities is None else found.probabilities


@pytest.mark.parametrize(("path", "params", "task"), ALL)
def test_a_pipeline_learns_what_was_planted(path: str, params: dict, task: str) -> None:
    spec = spec_for(path, params, task)
    train, test = data(1500, 0, task), data(1500, 1, task)
    found = predict(fitted(spec, train), test)
    value = score(labels_of(test, spec), found.prediction, found.probabilities, found.classes, spec.metric)
    assert value > (0.65 if task == "classification" else 0.8)


@pytest.mark.parametrize(("path", "params", "task"), ALL)
def test_missing_and_unseen_values_are_predicted_without_a_warning(
    path: str, params: dict, task: str
) -> None:
    spec = spec_for(path, params, task)
    train = data(task=task)
    train.loc[::7, "tenure"] = np.nan
    train.loc[::9, "plan"] = None
    odd = data(8, 3, task)
    odd.loc[0, "plan"] = "never seen"
    odd.loc[1, ["tenure", "spend"]] = np.nan
    odd.loc[2, ["plan", "region"]] = None
    odd["tenure"] = odd["tenure"].astype("Float64")
    odd.loc[3, "tenure"] = pd.NA
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = said(fitted(spec, train), odd)
    assert np.isfinite(found).all() and len(found) == 8


@pytest.mark.parametrize(("path", "params", "task"), ALL)
def test_an_all_null_column_and_a_constant_one_stay_and_do_no_harm(
    path: str, params: dict, task: str
) -> None:
    spec = spec_for(path, params, task)
    train = data(task=task)
    train["tenure"], train["region"], train["plan"] = np.nan, None, "basic"
    model = fitted(spec, train)
    assert np.isfinite(said(model, train)).all()
    assert "tenure" in list(model[:-1].get_feature_names_out())


@pytest.mark.parametrize(("path", "params", "task"), ALL)
def test_column_order_and_further_columns_make_no_difference(path: str, params: dict, task: str) -> None:
    spec = spec_for(path, params, task)
    frame = data(task=task)
    model = fitted(spec, frame)
    mixed = frame[["region", "churned", "spend", "event_id", "plan", "tenure"]].assign(noise=1.0)
    np.testing.assert_array_equal(said(model, mixed), said(model, frame[spec.features.all]))


@pytest.mark.parametrize(("path", "params", "task"), ALL)
def test_the_same_seed_gives_the_same_model(path: str, params: dict, task: str) -> None:
    spec, frame = spec_for(path, params, task), data(task=task)
    np.testing.assert_array_equal(said(fitted(spec, frame), frame), said(fitted(spec, frame), frame))


@pytest.mark.parametrize(("path", "params", "task"), ALL)
def test_one_row_gets_the_answer_it_gets_among_others(path: str, params: dict, task: str) -> None:
    spec, frame = spec_for(path, params, task), data(task=task)
    model = fitted(spec, frame)
    np.testing.assert_allclose(said(model, frame.iloc[[5]])[0], said(model, frame)[5], rtol=1e-12)


def test_no_rows_give_empty_answers_with_the_classes() -> None:
    spec, frame = make_spec(), data()
    found = predict(fitted(spec, frame), frame.iloc[:0])
    assert found.prediction.shape == (0,) and found.probabilities.shape == (0, 2) and found.classes == (0, 1)


@pytest.mark.parametrize(
    ("fit_as", "ask_as"),
    [
        ([True, False], ["True", "False"]),
        ([True, False], [1, 0]),
        ([1, 0], [True, False]),
        ([1, 0], ["1", "0"]),
        ([1, 0], [1.0, 0.0]),
        (["true", "false"], [True, False]),
        (["7", "8"], [7, 8]),
    ],
)
@pytest.mark.parametrize(
    "path", ["sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"]
)
def test_a_category_means_the_same_in_whatever_type_it_arrives(path: str, fit_as: list, ask_as: list) -> None:
    spec = make_spec(
        features={"numeric": [], "categorical": ["flag"]}, contract={}, estimator={"class": path}
    )
    rng = np.random.default_rng(0)
    picks = rng.integers(0, 2, 400)
    frame = pd.DataFrame(
        {"flag": pd.Series([fit_as[i] for i in picks]), "churned": (picks + (rng.random(400) < 0.1)) % 2}
    )
    model = fitted(spec, frame)
    same = said(model, pd.DataFrame({"flag": pd.Series(fit_as)}))
    np.testing.assert_array_equal(said(model, pd.DataFrame({"flag": pd.Series(ask_as)})), same)
    np.testing.assert_array_equal(said(model, pd.DataFrame({"flag": pd.Series(ask_as, dtype=object)})), same)
    assert abs(same[0, 1] - same[1, 1]) > 0.5


def test_categories_of_the_pandas_types_are_those_of_plain_text() -> None:
    spec, frame = make_spec(), data()
    model = fitted(spec, frame)
    for kind in ("category", "string", "string[pyarrow]"):
        np.testing.assert_array_equal(said(model, frame.astype({"plan": kind})), said(model, frame))
    whole = frame.assign(tenure=frame["tenure"].round())
    typed = whole.astype({"tenure": "Int64"})
    np.testing.assert_array_equal(said(model, typed), said(model, whole))


@pytest.mark.parametrize("value", [None, np.nan, pd.NA])
def test_every_way_of_missing_is_one_category(value) -> None:
    spec, frame = make_spec(), data()
    frame.loc[::5, "plan"] = None
    model = fitted(spec, frame)
    asked = frame.iloc[[0]].assign(plan=pd.Series([value], dtype=object, index=[0]))
    np.testing.assert_array_equal(said(model, asked), said(model, frame.iloc[[0]]))


def many_levels(levels: int = 400, rows: int = 8000) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    level = (
        np.minimum(rng.geometric(0.02, rows) - 1, levels - 1)
        if levels > 255
        else rng.integers(0, levels, rows)
    )
    effect = rng.normal(size=levels) * 2
    y = (rng.random(rows) < 1 / (1 + np.exp(-effect[level]))).astype(int)
    return pd.DataFrame({"shop": [f"s{i}" for i in level], "churned": y}), effect[level]


@pytest.mark.parametrize(
    "path", ["sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"]
)
def test_more_levels_than_the_estimator_can_tell_apart_are_pooled_not_refused(path: str) -> None:
    frame, _ = many_levels()
    assert frame["shop"].nunique() > NATIVE_LEVELS
    spec = make_spec(
        features={"numeric": [], "categorical": ["shop"]}, contract={}, estimator={"class": path}
    )
    model = fitted(spec, frame)
    found = predict(model, frame)
    assert (
        score(frame["churned"].to_numpy(), found.prediction, found.probabilities, found.classes, "roc_auc")
        > 0.75
    )


def test_histogram_boosting_splits_categories_natively() -> None:
    spec, frame = make_spec(), data()
    estimator = fitted(spec, frame)[-1]
    assert estimator.is_categorical_.tolist() == [False, False, True, True]
    plain = spec_for("sklearn.linear_model.LogisticRegression", {})
    assert len(fitted(plain, frame)[:-1].get_feature_names_out()) == 2 + 3 + 4


def test_linear_models_are_scaled_and_trees_are_not() -> None:
    frame = data()
    linear = fitted(spec_for("sklearn.linear_model.LogisticRegression", {}), frame)[:-1].transform(frame)
    trees = fitted(spec_for("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 2}), frame)[
        :-1
    ].transform(frame)
    np.testing.assert_allclose(linear[:, :2].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(trees[:, :2], frame[["tenure", "spend"]].to_numpy())


def test_a_value_absent_at_prediction_only_is_imputed_by_the_training_median() -> None:
    spec, frame = spec_for("sklearn.linear_model.LogisticRegression", {}), data()
    model = fitted(spec, frame)
    asked, median = (
        frame.iloc[[0]].assign(tenure=np.nan),
        frame.iloc[[0]].assign(tenure=frame["tenure"].median()),
    )
    np.testing.assert_array_equal(said(model, asked), said(model, median))


def test_nothing_about_later_rows_enters_the_preprocessing() -> None:
    spec, frame = spec_for("sklearn.linear_model.LogisticRegression", {}), data()
    model = fitted(spec, frame)
    before = said(model, frame.iloc[:10])
    said(model, frame.assign(tenure=1e9, plan="other"))
    np.testing.assert_array_equal(said(model, frame.iloc[:10]), before)


def scaler_only():
    return StandardScaler()


def not_a_transformer():
    return 3


def test_a_users_transformer_stands_in_place_of_ours_and_sees_features_only() -> None:
    estimator = {"class": "sklearn.linear_model.LogisticRegression", "preprocess": f"{__name__}:scaler_only"}
    spec = make_spec(features={"numeric": ["tenure", "spend"]}, contract={}, estimator=estimator)
    frame = data()
    model = fitted(spec, frame)
    assert model[0][-1].feature_names_in_.tolist() == ["tenure", "spend"]
    np.testing.assert_array_equal(said(model, frame), said(model, frame[["spend", "tenure"]]))


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        ({"class": "sklearn.nowhere.Thing"}, "no module 'sklearn.nowhere'"),
        ({"class": "sklearn.linear_model.Logisticregression"}, "did you mean LogisticRegression"),
        ({"class": "sklearn.linear_model.Ridge"}, "task classification with Ridge"),
        ({"class": "sklearn.metrics.roc_auc_score"}, "a scikit-learn estimator class"),
        ({"params": {"max_itr": 3}}, "max_itr"),
        ({"search": {"depth": [1]}}, "depth"),
        ({"preprocess": f"{__name__}:not_a_transformer"}, "gave a int"),
        ({"preprocess": "tests.make:nothing_here"}, "has no 'nothing_here'"),
    ],
)
def test_a_wrong_estimator_is_refused_by_name(estimator: dict, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build_pipeline(make_spec(estimator=estimator))


def test_times_among_numbers_are_refused_because_their_number_depends_on_a_unit() -> None:
    spec = make_spec(features={"numeric": ["since"]}, contract={})
    with pytest.raises(TypeError, match="holds times"):
        fitted(spec, data().assign(since=data()["event_time"]))


def test_a_missing_column_is_an_error_and_not_a_guess() -> None:
    spec, frame = make_spec(), data()
    with pytest.raises(ValueError, match="spend"):
        predict(fitted(spec, frame), frame.drop(columns="spend"))


def test_a_fitted_pipeline_survives_a_process_hop() -> None:
    spec, frame = make_spec(), data()
    model = fitted(spec, frame)
    np.testing.assert_array_equal(said(pickle.loads(pickle.dumps(model)), frame), said(model, frame))  # noqa: S301


def test_categories_know_one_text_for_each_value() -> None:
    assert [category_text(v) for v in (3, 3.0, np.float32(3), "3", "3.0")] == ["3", "3", "3", "3", "3.0"]
    assert [category_text(v) for v in (True, np.bool_(True), "TRUE", "false")] == [
        "True",
        "True",
        "True",
        "False",
    ]


@pytest.mark.parametrize(
    ("values", "want", "kind"),
    [
        ([0, 1, 1], [0, 1, 1], "i"),
        (pd.array([0, 1, 1], dtype="Int64"), [0, 1, 1], "i"),
        ([0.0, 1.0, 1.0], [0, 1, 1], "i"),
        ([True, False, True], [True, False, True], "b"),
        (pd.array([True, False, True], dtype="boolean"), [True, False, True], "b"),
        (["no", "yes", "no"], ["no", "yes", "no"], "O"),
        (pd.Categorical(["no", "yes", "no"]), ["no", "yes", "no"], "O"),
        (pd.array(["no", "yes", "no"], dtype="string"), ["no", "yes", "no"], "O"),
    ],
)
def test_labels_come_in_one_type_from_whatever_type(values, want: list, kind: str) -> None:
    found = labels_of(pd.DataFrame({"churned": values}), make_spec())
    assert found.tolist() == want and found.dtype.kind == kind


def test_labels_that_are_missing_infinite_or_no_numbers_are_refused() -> None:
    regression = make_spec(task="regression", metric="r2", estimator={"class": "sklearn.linear_model.Ridge"})
    with pytest.raises(TrainingError, match="1 rows without a label"):
        labels_of(pd.DataFrame({"churned": [1.0, None]}), make_spec())
    with pytest.raises(TrainingError, match="1 infinite labels"):
        labels_of(pd.DataFrame({"churned": [1.0, np.inf]}), regression)
    with pytest.raises(TrainingError, match="numbers for a regression"):
        labels_of(pd.DataFrame({"churned": ["a", "b"]}), regression)
