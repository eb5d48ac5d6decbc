from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names

from tasks.core.evaluation import metrics
from tasks.core.evaluation.metrics import (
    check_metric,
    greater_is_better,
    is_binary_only,
    needs_probabilities,
    score,
)
from tasks.core.evaluation.scoring import Scored, all_labels, encode, statistic

CLASSIFICATION = sorted(metrics._BY_TASK["classification"])
REGRESSION = sorted(metrics._BY_TASK["regression"])
MULTICLASS = [name for name in CLASSIFICATION if not is_binary_only(name)]


class Says(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose answers are given: lets scikit-learn's own scorers judge fixed numbers."""

    def __init__(self, prediction=None, probabilities=None, classes=None):
        self.prediction, self.probabilities, self.classes = prediction, probabilities, classes
        self.classes_ = None if classes is None else np.array(classes)

    def predict(self, _):
        return self.prediction

    def predict_proba(self, _):
        return self.probabilities


class SaysNumber(RegressorMixin, BaseEstimator):
    def __init__(self, prediction=None):
        self.prediction = prediction

    def predict(self, _):
        return self.prediction


def binary(rows: int = 400, seed: int = 0, classes: tuple = (0, 1)):
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 2, rows)
    chance = np.round(
        np.clip(0.5 + 0.25 * (code - 0.5) + 0.2 * rng.normal(size=rows), 0.01, 0.99), 2
    )  # has ties
    names = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
    return names[code], names[(chance > 0.5).astype(int)], np.column_stack([1 - chance, chance])


def multiclass(rows: int = 400, seed: int = 0, classes: tuple = ("a", "b", "c")):
    rng = np.random.default_rng(seed)
    code = rng.choice(len(classes), rows, p=[0.6, 0.3, 0.1])
    raw = rng.gamma(1.0, 1.0, (rows, len(classes))) + 1.0 * np.eye(len(classes))[code]
    raw = np.round(raw, 1) + 0.1
    chances = raw / raw.sum(axis=1, keepdims=True)
    names = np.array(classes, dtype=object)
    return names[code], names[chances.argmax(axis=1)], chances


def as_sklearn(metric: str, y, prediction, probabilities, classes) -> float:
    x = np.zeros((len(y), 1))
    return get_scorer(metric)(Says(prediction, probabilities, classes), x, y)


def test_every_scikit_learn_scorer_is_either_used_or_refused_with_a_reason() -> None:
    known = set(CLASSIFICATION) | set(REGRESSION) | metrics._CLUSTERING | metrics._MULTILABEL
    assert known == set(get_scorer_names())


@pytest.mark.parametrize("metric", [name for name in CLASSIFICATION if name != "top_k_accuracy"])
def test_binary_scores_equal_scikit_learns(metric: str) -> None:
    y, prediction, probabilities = binary()
    want = as_sklearn(metric, y, prediction, probabilities, (0, 1))
    assert score(y, prediction, probabilities, (0, 1), metric) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("metric", [name for name in MULTICLASS if name != "roc_auc"])
def test_multiclass_scores_with_string_labels_equal_scikit_learns(metric: str) -> None:
    y, prediction, probabilities = multiclass()
    want = as_sklearn(metric, y, prediction, probabilities, ("a", "b", "c"))
    assert score(y, prediction, probabilities, ("a", "b", "c"), metric) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("metric", REGRESSION)
def test_regression_scores_equal_scikit_learns(metric: str) -> None:
    rng = np.random.default_rng(3)
    y = rng.gamma(2.0, 3.0, 300) + 0.1
    prediction = y * np.exp(0.3 * rng.normal(size=300))
    want = get_scorer(metric)(SaysNumber(prediction), np.zeros((300, 1)), y)
    assert score(y, prediction, None, None, metric) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("metric", [*CLASSIFICATION, *REGRESSION])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_whole_number_weights_are_the_same_as_repeated_rows(metric: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 4, 60)
    if metric in REGRESSION:
        y = rng.gamma(2.0, 2.0, 60) + 0.1
        scored = Scored(y, y + rng.uniform(0.1, 1, 60))
    elif is_binary_only(metric):
        scored = Scored(*binary(60, seed), (0, 1))
    else:
        scored = Scored(*multiclass(60, seed), ("a", "b", "c"))
    repeated = Scored(
        np.repeat(scored.y_true, times),
        np.repeat(scored.prediction, times),
        None if scored.probabilities is None else np.repeat(scored.probabilities, times, axis=0),
        scored.classes,
    )
    weighted = statistic(scored, metric)(times.astype(float))
    plain = statistic(repeated, metric, labels=scored.classes)(None)
    assert weighted == pytest.approx(plain, rel=1e-9, abs=1e-9, nan_ok=True)


def test_auc_of_a_hand_example_counts_ties_one_half() -> None:
    # positives 0.8, 0.5; negatives 0.5, 0.2: pairs 1 + 1 + 0.5 + 1 = 3.5 of 4
    chance = np.array([0.8, 0.5, 0.5, 0.2])
    y = np.array([1, 1, 0, 0])
    value = score(y, (chance > 0.5).astype(int), np.column_stack([1 - chance, chance]), (0, 1), "roc_auc")
    assert value == 3.5 / 4


@pytest.mark.parametrize("positive", ["no", "yes"])
def test_the_named_positive_class_is_the_one_measured(positive: str) -> None:
    y, prediction, probabilities = binary(classes=("no", "yes"))
    for metric, function in {
        "f1": sk.f1_score,
        "precision": sk.precision_score,
        "recall": sk.recall_score,
    }.items():
        want = function(y, prediction, pos_label=positive)
        assert score(y, prediction, probabilities, ("no", "yes"), metric, positive) == pytest.approx(want)
    column = ("no", "yes").index(positive)
    want = sk.average_precision_score(y, probabilities[:, column], pos_label=positive)
    assert score(y, prediction, probabilities, ("no", "yes"), "average_precision", positive) == pytest.approx(
        want
    )


def test_boolean_labels_equal_their_numbers_and_strings_do_not() -> None:
    y, prediction, probabilities = binary()
    as_bool = score(y.astype(bool), prediction.astype(bool), probabilities, (False, True), "f1")
    assert as_bool == score(y, prediction, probabilities, (0, 1), "f1")
    assert score(y.astype(float), prediction, probabilities, (0, 1), "roc_auc") == score(
        y, prediction, probabilities, (0, 1), "roc_auc"
    )
    assert encode(np.array([1.0, True, 0], dtype=object), (0, 1)).tolist() == [1, 1, 0]
    assert encode(np.array(["1", None, "0"], dtype=object), (0, 1)).tolist() == [-1, -1, -1]


def test_roc_auc_of_three_classes_is_the_one_against_rest_mean() -> None:
    y, prediction, probabilities = multiclass()
    want = sk.roc_auc_score(y, probabilities, multi_class="ovr")
    assert score(y, prediction, probabilities, ("a", "b", "c"), "roc_auc") == pytest.approx(want)


def test_a_class_the_model_never_saw_counts_as_probability_zero() -> None:
    y = np.array(["a", "b", "c"], dtype=object)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    value = score(y, np.array(["a", "b", "a"], dtype=object), probabilities, ("a", "b"), "neg_log_loss")
    eps = np.finfo(float).eps
    assert value == pytest.approx((np.log(0.9) + np.log(0.8) + np.log(eps)) / 3)


@pytest.mark.parametrize(
    "metric", ["roc_auc", "roc_auc_ovr", "roc_auc_ovo", "average_precision", "recall", "matthews_corrcoef"]
)
def test_one_class_is_undefined_and_warns_of_nothing(metric: str) -> None:
    y, prediction, probabilities = binary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(score(np.zeros(len(y), int), prediction, probabilities, (0, 1), metric))


@pytest.mark.parametrize("metric", [*CLASSIFICATION, *REGRESSION])
def test_no_rows_cannot_be_scored(metric: str) -> None:
    assert np.isnan(score(np.array([]), np.array([]), np.empty((0, 2)), (0, 1), metric))


@pytest.mark.parametrize("metric", ["r2", "explained_variance", "d2_absolute_error_score"])
def test_a_truth_that_never_varies_has_no_explained_share(metric: str) -> None:
    assert np.isnan(score(np.full(20, 0.1), np.linspace(0, 1, 20), None, None, metric))


@pytest.mark.parametrize("metric", REGRESSION)
def test_a_nan_prediction_makes_the_score_nan(metric: str) -> None:
    prediction = np.ones(10)
    prediction[3] = np.nan
    assert np.isnan(score(np.arange(1.0, 11.0), prediction, None, None, metric))


@pytest.mark.parametrize("metric", ["neg_log_loss", "roc_auc", "neg_brier_score", "average_precision"])
def test_a_nan_probability_makes_the_score_nan(metric: str) -> None:
    y, prediction, probabilities = binary()
    probabilities[5] = np.nan
    assert np.isnan(score(y, prediction, probabilities, (0, 1), metric))


def test_a_missing_label_makes_the_score_nan_instead_of_a_class() -> None:
    y, prediction, probabilities = binary()
    y = y.astype(object)
    y[0] = None
    assert np.isnan(score(y, prediction, probabilities, (0, 1), "accuracy"))
    assert np.isnan(score(y, prediction, probabilities, (0, 1), "roc_auc"))


@pytest.mark.parametrize(
    "metric", ["neg_mean_poisson_deviance", "neg_mean_gamma_deviance", "neg_mean_squared_log_error"]
)
def test_predictions_outside_a_metrics_domain_are_nan(metric: str) -> None:
    assert np.isnan(score(np.array([1.0, 2.0]), np.array([-3.0, 1.0]), None, None, metric))


def test_a_binary_metric_of_three_classes_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"3 classes.*_macro"):
        score(*multiclass(), ("a", "b", "c"), "f1")


def test_metrics_that_need_probabilities_say_so_when_there_are_none() -> None:
    y, prediction, _ = binary()
    with pytest.raises(ValueError, match="needs class probabilities"):
        score(y, prediction, None, None, "roc_auc")


def test_top_k_of_two_classes_is_refused_because_it_is_always_one() -> None:
    with pytest.raises(ValueError, match="always 1"):
        score(*binary(), (0, 1), "top_k_accuracy")


def test_a_positive_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="positive class"):
        score(*binary(classes=("no", "yes")), ("no", "yes"), "f1", "maybe")


@pytest.mark.parametrize(
    ("metric", "task", "hint"),
    [
        ("rmse", "regression", "neg_root_mean_squared_error"),
        ("roc_au", "classification", "roc_auc"),
        ("auc", "classification", "roc_auc"),
        ("roc_auc", "regression", "does not fit task regression"),
        ("r2", "classification", "does not fit task classification"),
        ("rand_score", "classification", "clusterings"),
        ("f1_samples", "classification", "f1_weighted"),
        ("zzzz", "regression", "r2"),
    ],
)
def test_a_wrong_metric_is_refused_with_a_hint(metric: str, task: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        check_metric(metric, task)


@pytest.mark.parametrize("metric", [*CLASSIFICATION, *REGRESSION])
def test_direction_and_kind_agree_with_scikit_learns_scorers(metric: str) -> None:
    scorer = get_scorer(metric)
    assert greater_is_better(metric) == (scorer._sign == 1)
    wants = "predict_proba" in str(scorer._response_method) or "decision_function" in str(
        scorer._response_method
    )
    assert needs_probabilities(metric) == wants


def test_labels_of_two_models_are_joined_in_one_order() -> None:
    one = Scored(np.array(["b"], object), np.array(["a"], object), None, ("a", "b"))
    other = Scored(np.array(["d"], object), np.array(["c"], object), None, ("b", "c"))
    assert all_labels([one, other]) == ("a", "b", "c", "d")


def test_reading_a_spec_does_not_import_scikit_learn() -> None:
    code = (
        "import sys, tasks.core.spec; print([m for m in ('sklearn', 'scipy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
