"""Comparisons that cannot be told, and those in which rows count for more or less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from bench.gate import labels_of, numbers_of
from tasks.core.evaluation.paired.compare import Comparison, compare
from tasks.core.evaluation.scoring import Scored

ONE_OF_EACH_KIND = (
    *("accuracy", "f1", "matthews_corrcoef", "roc_auc", "average_precision", "neg_log_loss"),
    *("neg_root_mean_squared_error", "r2", "neg_median_absolute_error"),
)


def pair(metric: str, rows: int = 200, seed: int = 0) -> tuple[Scored, Scored]:
    numbers = metric.startswith(("neg_root", "neg_median", "neg_mean", "neg_max", "r2", "d2_abs"))
    return (numbers_of if numbers else labels_of)(np.random.default_rng(seed), rows)


def some(scored: Scored, rows: np.ndarray) -> Scored:
    chance = None if scored.probabilities is None else scored.probabilities[rows]
    return replace(
        scored, y_true=scored.y_true[rows], prediction=scored.prediction[rows], probabilities=chance
    )


def cannot_be_told(found: Comparison) -> bool:
    gap = found.difference
    return not found.is_known and bool(np.isnan([gap.value, gap.low, gap.high, found.p_better]).all())


@pytest.mark.parametrize("metric", ONE_OF_EACH_KIND)
def test_no_rows_cannot_tell(metric: str) -> None:
    mine, theirs = (some(one, np.arange(0)) for one in pair(metric))
    assert cannot_be_told(compare(mine, theirs, metric, confidence=0.95))


@pytest.mark.parametrize("metric", ONE_OF_EACH_KIND)
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_a_handful_of_rows_is_no_error(metric: str, rows: int) -> None:
    for seed in range(5):
        mine, theirs = pair(metric, rows, seed)
        found = compare(mine, theirs, metric, confidence=0.95)
        assert found.is_known or np.isnan(found.p_better)
        assert not found.is_known or found.difference.low <= found.difference.value <= found.difference.high


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "matthews_corrcoef", "f1"])
def test_rows_of_one_class_cannot_tell(metric: str) -> None:
    mine, theirs = pair(metric)
    rows = np.flatnonzero(mine.y_true == 0)
    found = compare(some(mine, rows), some(theirs, rows), metric, confidence=0.95)
    if metric == "f1":  # it has a value there: nothing is of the class, and something was said to be
        assert found.mine.value == 0 and found.difference.low < 0 < found.difference.high
    else:
        assert cannot_be_told(found)


def test_one_row_of_a_class_has_a_score_and_no_interval() -> None:
    mine, theirs = pair("roc_auc")
    rows = np.r_[np.flatnonzero(mine.y_true == 1)[:1], np.flatnonzero(mine.y_true == 0)]
    found = compare(some(mine, rows), some(theirs, rows), "roc_auc", confidence=0.95)
    assert 0 <= found.mine.value <= 1 and cannot_be_told(found)


@pytest.mark.parametrize("metric", ["neg_log_loss", "roc_auc", "average_precision"])
def test_a_probability_that_is_no_number_cannot_be_compared(metric: str) -> None:
    mine, theirs = pair(metric)
    chance = theirs.probabilities.copy()
    chance[7] = np.nan
    assert cannot_be_told(compare(mine, replace(theirs, probabilities=chance), metric, confidence=0.95))


@pytest.mark.parametrize("metric", ["neg_root_mean_squared_error", "r2", "neg_median_absolute_error"])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_prediction_that_is_no_number_cannot_be_compared(metric: str, broken: float) -> None:
    mine, theirs = pair(metric)
    said = mine.prediction.copy()
    said[3] = broken
    for one in (replace(mine, prediction=said), replace(mine, y_true=said)):
        assert cannot_be_told(compare(one, theirs, metric, confidence=0.95))
        assert cannot_be_told(compare(one, theirs, metric, confidence=0.95, weights=np.ones(200)))


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_a_label_that_is_missing_cannot_be_compared(metric: str) -> None:
    mine, theirs = pair(metric)
    said = mine.prediction.astype(object)
    said[3] = None
    for weights in (None, np.ones(200)):
        found = compare(replace(mine, prediction=said), theirs, metric, confidence=0.95, weights=weights)
        assert cannot_be_told(found)


def test_a_truth_that_never_varies_has_no_explained_variance() -> None:
    mine, theirs = pair("r2")
    still = [replace(one, y_true=np.full(200, 3.0)) for one in (mine, theirs)]
    assert cannot_be_told(compare(*still, "r2", confidence=0.95))
    assert compare(*still, "neg_root_mean_squared_error", confidence=0.95).is_known


def test_what_the_caller_got_wrong_is_an_error() -> None:
    mine, theirs = pair("f1")
    with pytest.raises(ValueError, match="differ in number"):
        compare(mine, some(theirs, np.arange(100)), "f1", confidence=0.95)
    with pytest.raises(ValueError, match="differ in number"):
        compare(mine, theirs, "f1", confidence=0.95, weights=np.ones(3))
    for metric in ("roc_auc", "neg_log_loss"):
        with pytest.raises(ValueError, match="probabilities"):
            compare(mine, replace(theirs, probabilities=None), metric, confidence=0.95)
    with pytest.raises(ValueError, match="not a scikit-learn scorer"):
        compare(mine, theirs, "auc", confidence=0.95)


# Weights.


@pytest.mark.parametrize("metric", [*ONE_OF_EACH_KIND, "neg_max_error", "d2_absolute_error_score"])
def test_a_row_that_weighs_twice_counts_as_two_and_one_of_no_weight_as_none(metric: str) -> None:
    mine, theirs = pair(metric)
    weights = np.random.default_rng(1).integers(0, 3, 200).astype(float)
    repeated = np.repeat(np.arange(200), weights.astype(int))
    plain = compare(some(mine, repeated), some(theirs, repeated), metric, confidence=0.95)
    for scale in (1.0, 0.37):  # only their proportions matter
        found = compare(mine, theirs, metric, confidence=0.95, weights=scale * weights)
        assert (found.mine.value, found.theirs.value) == pytest.approx((plain.mine.value, plain.theirs.value))
        assert found.difference.low <= found.difference.value <= found.difference.high


def test_weighted_scores_are_scikit_learns() -> None:
    weights = np.random.default_rng(2).exponential(size=300)
    mine, theirs = labels_of(np.random.default_rng(0), 300)
    known = {
        "accuracy": lambda one: sk.accuracy_score(one.y_true, one.prediction, sample_weight=weights),
        "f1": lambda one: sk.f1_score(one.y_true, one.prediction, sample_weight=weights),
        "roc_auc": lambda one: sk.roc_auc_score(one.y_true, one.probabilities[:, 1], sample_weight=weights),
        "neg_log_loss": lambda one: -sk.log_loss(one.y_true, one.probabilities, sample_weight=weights),
    }
    for metric, score in known.items():
        found = compare(mine, theirs, metric, confidence=0.95, weights=weights)
        assert (found.mine.value, found.theirs.value) == pytest.approx((score(mine), score(theirs)))
    mine, theirs = numbers_of(np.random.default_rng(0), 300)
    found = compare(mine, theirs, "neg_median_absolute_error", confidence=0.95, weights=weights)
    expected = [
        -sk.median_absolute_error(one.y_true, one.prediction, sample_weight=weights) for one in (mine, theirs)
    ]
    assert (found.mine.value, found.theirs.value) == pytest.approx(tuple(expected))


def test_a_weighted_interval_agrees_with_scipys_bootstrap_of_weighted_rows() -> None:
    weights = np.random.default_rng(2).exponential(size=400)
    mine, theirs = numbers_of(np.random.default_rng(0), 400)

    def gap(y, one, other, given, axis=-1):
        errors = [((said - y) ** 2 * given).sum(axis=axis) / given.sum(axis=axis) for said in (one, other)]
        return np.sqrt(errors[1]) - np.sqrt(errors[0])

    data = (mine.y_true, mine.prediction, theirs.prediction, weights)
    expected = stats.bootstrap(
        data, gap, paired=True, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    found = compare(
        mine, theirs, "neg_root_mean_squared_error", confidence=0.95, resamples=4000, weights=weights
    )
    near = 0.06 * (expected.high - expected.low)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(expected), abs=near)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "roc_auc", "neg_log_loss"])
def test_equal_weights_change_nothing_but_the_way(metric: str) -> None:
    mine, theirs = pair(metric, 400)
    one, other = (
        compare(mine, theirs, metric, confidence=0.95, weights=w) for w in (None, np.full(400, 2.5))
    )
    assert other.method.startswith("bootstrap")
    near = 0.12 * (one.difference.high - one.difference.low)
    assert (one.difference.low, one.difference.high) == pytest.approx(
        (other.difference.low, other.difference.high), abs=near
    )
    assert one.needed_rows == pytest.approx(other.needed_rows, rel=0.15)


@pytest.mark.parametrize("broken", [-1.0, np.nan, np.inf])
def test_weights_that_are_none_cannot_tell(broken: float) -> None:
    mine, theirs = pair("f1")
    weights = np.ones(200)
    weights[4] = broken
    assert cannot_be_told(compare(mine, theirs, "f1", confidence=0.95, weights=weights))
    assert cannot_be_told(compare(mine, theirs, "f1", confidence=0.95, weights=np.zeros(200)))
