"""Estimators that teams use: nested ones, functions of their own module, classes with a single row."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tasks.core.errors import RegistryError, SpecError, TrainingError
from tasks.core.model.fitting import fit_scratch, left_out
from tasks.core.spec import parse_spec
from tasks.store.models import load_model, own_types, save_model
from tests.make import make_frame, make_spec, spec_block

LOGISTIC = {"class": "sklearn.linear_model.LogisticRegression", "params": {"C": 0.5}}
FOREST = {"class": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 3}}
BEST = {"class": "sklearn.feature_selection.SelectKBest", "params": {"k": 2}}
BY_INFORMATION = {"function": "sklearn.feature_selection.mutual_info_classif"}
BY_REGRESSION = {"function": "sklearn.feature_selection.f_regression"}
RIDGE = {"class": "sklearn.linear_model.Ridge"}
NESTED = {
    "voting": ("ensemble.VotingClassifier", {"voting": "soft", "estimators": {"a": LOGISTIC, "b": FOREST}}),
    "stacking": (
        "ensemble.StackingClassifier",
        {"estimators": [["a", LOGISTIC], ["b", FOREST]], "final_estimator": LOGISTIC},
    ),
    "calibrated": ("calibration.CalibratedClassifierCV", {"estimator": {"class": "sklearn.svm.LinearSVC"}}),
    "pipeline": ("pipeline.Pipeline", {"steps": {"best": BEST, "fit": LOGISTIC}}),
    "pipeline by a function": (
        "pipeline.Pipeline",
        {"steps": [["best", {**BEST, "params": {"k": 2, "score_func": BY_INFORMATION}}], ["fit", FOREST]]},
    ),
    "bagging": ("ensemble.BaggingClassifier", {"n_estimators": 2, "estimator": LOGISTIC}),
    "target": (
        "compose.TransformedTargetRegressor",
        {
            "regressor": RIDGE,
            "func": {"function": "numpy.log1p"},
            "inverse_func": {"function": "numpy.expm1"},
        },
    ),
    "regression pipeline": (
        "pipeline.Pipeline",
        {"steps": {"best": {**BEST, "params": {"k": 1, "score_func": BY_REGRESSION}}, "fit": RIDGE}},
    ),
}
REGRESSIONS = {"target", "regression pipeline"}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with threadpool_limits(limits=1):
        yield


def fitted(spec, frame: pd.DataFrame, **more):
    weights = more.get("weights")
    return fit_scratch(spec, frame, dict(spec.estimator.params), weights=weights)


@pytest.mark.parametrize("name", NESTED)
def test_a_nested_estimator_of_a_block_is_fitted_stored_and_answers_the_same(name: str, tmp_path) -> None:
    path, params = NESTED[name]
    more = {"task": "regression", "metric": "r2"} if name in REGRESSIONS else {}
    spec = make_spec(estimator={"class": f"sklearn.{path}", "params": params}, **more)
    frame = make_frame(300)
    model = fitted(spec, frame)
    save_model(model, tmp_path / "model.skops", also=own_types(spec))
    stored = load_model(tmp_path / "model.skops", also=own_types(spec))
    np.testing.assert_array_equal(stored.predict(frame), model.predict(frame))
    assert parse_spec(spec.model_dump(mode="json")) == spec


def test_the_seed_of_the_block_reaches_the_estimators_inside() -> None:
    spec = make_spec(
        estimator={
            "class": "sklearn.ensemble.VotingClassifier",
            "params": {"estimators": {"a": FOREST}},
            "seed": 7,
        }
    )
    assert fitted(spec, make_frame(100))[-1].estimators[0][1].random_state == 7


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("xgboost.XGBClassifier", {"n_estimators": 20}, "scikit-learn"),
        ("lightgbm.LGBMClassifier", {}, "scikit-learn"),
        ("catboost:CatBoostClassifier", {}, "scikit-learn"),
        (
            "sklearn.ensemble.StackingClassifier",
            {"estimators": {"a": {"class": "xgboost.XGBClassifier"}}},
            "scikit-learn",
        ),
        ("sklearn.calibration.CalibratedClassifierCV", {"estimator": {"class": "own.Model"}}, "own.Model"),
        ("sklearn.model_selection.GridSearchCV", {}, "estimator.search"),
        ("sklearn.compose.TransformedTargetRegressor", {"func": {"function": "os.system"}}, "os.system"),
    ],
)
def test_an_estimator_that_could_not_be_stored_is_refused_when_the_block_is_read(
    path: str, params: dict, words: str
) -> None:
    block = spec_block(estimator={"class": path, "params": params})
    with pytest.raises(SpecError, match="estimator") as caught:
        parse_spec(block)
    assert words in str(caught.value)


def with_class(frame: pd.DataFrame, rows: int, name: str = "maybe") -> pd.DataFrame:
    labels = np.where(frame["churned"] == 1, "yes", "no").astype(object)
    labels[5 : 5 + rows] = name
    return frame.assign(churned=labels)


@pytest.mark.parametrize(
    ("estimator", "rare"),
    [
        ({"params": {"max_iter": 3, "early_stopping": True}}, 1),
        (
            {
                "class": "sklearn.ensemble.GradientBoostingClassifier",
                "params": {"n_estimators": 3, "n_iter_no_change": 2},
            },
            1,
        ),
        (
            {
                "class": "sklearn.calibration.CalibratedClassifierCV",
                "params": {**NESTED["calibrated"][1], "cv": 3},
            },
            2,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_class_of_too_few_rows_is_left_out_and_said(estimator: dict, rare: int) -> None:
    spec, frame = make_spec(estimator=estimator, metric="accuracy"), with_class(make_frame(400), rare)
    model = fitted(spec, frame, weights=np.linspace(0.5, 1, 400))
    assert model.classes_.tolist() == ["no", "yes"]
    said = left_out(spec, frame, model)
    assert f"{rare} " in said and "'maybe'" in said


def test_early_stopping_is_set_aside_where_one_of_two_classes_has_a_single_row() -> None:
    spec = make_spec(estimator={"params": {"max_iter": 3, "early_stopping": True}})
    frame = make_frame(400).assign(churned=[1] + [0] * 399)
    model = fitted(spec, frame)
    assert model.classes_.tolist() == [0, 1]
    assert "early stopping" in left_out(spec, frame, model)


def test_nothing_is_left_out_of_what_the_estimator_takes() -> None:
    spec, frame = make_spec(estimator={"params": {"max_iter": 3}}), with_class(make_frame(400), 1)
    model = fitted(spec, frame)
    assert model.classes_.tolist() == ["maybe", "no", "yes"] and not left_out(spec, frame, model)


def test_another_complaint_of_the_estimator_is_passed_on() -> None:
    spec = make_spec(estimator={"class": "sklearn.linear_model.LogisticRegression", "params": {"C": -1.0}})
    with pytest.raises(TrainingError, match="LogisticRegression"):
        fitted(spec, with_class(make_frame(50), 1))


MODULE = """
import numpy as np
from functools import partial
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from json import dumps

def ratio(x): return x / (1 + np.abs(x))
def power(x, by): return x ** by
N = ['tenure', 'spend']
def only(part, where=N): return ColumnTransformer([('n', part, where)])
def plain(): return only(FunctionTransformer(ratio))
def bound(): return only(FunctionTransformer(partial(power, by=2)))
def spline(): return only(SplineTransformer(n_knots=3))
numbers = make_column_selector(dtype_include=np.number)
def chosen(): return make_pipeline(only(StandardScaler(), numbers), SelectKBest(k=1))
information = partial(mutual_info_classif, random_state=0)
def informed(): return make_pipeline(only(StandardScaler()), SelectKBest(information, k=1))
def foreign(): return only(FunctionTransformer(dumps, validate=False))
"""


@pytest.fixture(scope="module")
def user_module(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "features_of_a_user.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield "features_of_a_user"
    sys.path.remove(str(folder))
    sys.modules.pop("features_of_a_user", None)


@pytest.mark.parametrize("function", ["plain", "bound", "spline", "chosen", "informed"])
def test_a_users_preprocessing_is_stored_with_the_functions_of_its_module(
    function: str, user_module: str, tmp_path: Path
) -> None:
    spec = make_spec(estimator={**LOGISTIC, "preprocess": f"{user_module}:{function}"})
    frame = make_frame(120)
    model = fitted(spec, frame)
    save_model(model, tmp_path / "model.skops", also=own_types(spec))
    stored = load_model(tmp_path / "model.skops", also=own_types(spec))
    np.testing.assert_array_equal(stored.predict_proba(frame), model.predict_proba(frame))


def test_functions_of_other_modules_stay_refused(user_module: str, tmp_path: Path) -> None:
    from importlib import import_module

    spec = make_spec(estimator={**LOGISTIC, "preprocess": f"{user_module}:plain"})
    frame = make_frame(60)
    model = fitted(spec, frame)
    save_model(model, tmp_path / "model.skops", also=own_types(spec))
    with pytest.raises(RegistryError, match="ratio"):  # nobody here vouches for it
        load_model(tmp_path / "model.skops")
    model[0].steps[1] = ("custom", import_module(user_module).foreign())
    with pytest.raises(RegistryError, match="dumps"):
        save_model(model, tmp_path / "other.skops", also=own_types(spec))
