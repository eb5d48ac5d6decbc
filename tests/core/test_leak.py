from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tasks.core.model.answers import answers_to
from tasks.core.model.fitting import fit_scratch
from tasks.core.model.guess import guessed, learn_guess, score_of
from tasks.core.model.leak import Alone, alone_in
from tasks.core.spec import ModelSpec
from tests.make import make_frame, make_spec

FEATURES = {"numeric": ["tenure", "spend", "refund"], "categorical": ["plan", "region"]}


def found_in(spec: ModelSpec, frame: pd.DataFrame) -> Alone | None:
    train, holdout = frame.iloc[:800], frame.iloc[800:].reset_index(drop=True)
    with threadpool_limits(1):
        model = fit_scratch(spec, train, dict(spec.estimator.params), weights=None)
        whole = answers_to(spec, model, holdout)
        baseline = score_of(spec, guessed(spec, learn_guess(spec, train, None), whole))
        return alone_in(spec, model, holdout, whole, baseline)


def spec_of(**over) -> ModelSpec:
    return make_spec(features=FEATURES, contract={}, estimator={"params": {"max_iter": 20}}, **over)


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "neg_log_loss"])
def test_a_feature_that_is_the_answer_in_another_form_is_named(metric: str) -> None:
    frame, rng = make_frame(1200), np.random.default_rng(1)
    frame["refund"] = frame["churned"] * 10 + rng.normal(size=1200)
    found = found_in(spec_of(metric=metric), frame)
    assert found is not None and found.feature == "refund" and found.share > 0.95
    assert "'refund'" in found.sentence()


def test_features_that_say_it_together_are_not_accused() -> None:
    frame = make_frame(1200).assign(refund=np.random.default_rng(2).normal(size=1200))
    assert found_in(spec_of(), frame) is None


def test_one_honest_feature_of_a_weak_model_is_not_accused() -> None:
    frame, rng = make_frame(1200), np.random.default_rng(3)
    frame["refund"] = frame["churned"] + rng.normal(scale=1.5, size=1200)
    frame[["tenure", "spend"]] = rng.normal(size=(1200, 2))
    assert found_in(spec_of(), frame) is None


def test_a_leak_of_a_regression_is_named_by_its_error() -> None:
    frame = make_frame(1200)
    frame["refund"] = frame["spend"] + frame["tenure"]
    frame["churned"] = frame["refund"] * 2
    spec = make_spec(
        features=FEATURES,
        contract={},
        task="regression",
        metric="neg_mean_absolute_error",
        estimator={"class": "sklearn.tree.DecisionTreeRegressor"},
    )
    found = found_in(spec, frame)
    assert found is not None and found.feature == "refund"


def test_a_model_of_one_feature_or_of_few_rows_has_none_to_name() -> None:
    frame = make_frame(1200)
    one = make_spec(features={"numeric": ["spend"]}, contract={})
    assert found_in(one, frame) is None
    assert found_in(spec_of(), make_frame(900).assign(refund=lambda rows: rows["churned"])) is None
