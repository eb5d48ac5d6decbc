from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest, mannwhitneyu
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from tasks.core.evaluation.intervals import auc_interval, realised_interval, share_interval
from tasks.core.evaluation.performance import judge, lower_limit
from tasks.core.evaluation.scoring import Scored
from tests.make import make_spec

NAN = math.nan


def spec(metric: str = "roc_auc", *, band: float = 0.02, confidence: float = 0.95, **over: object):
    return make_spec(
        metric=metric,
        performance={"band": band, "min_rows": 50, "confidence": confidence},
        **over,
    )


def regression_spec(metric: str = "neg_mean_absolute_error", band: float = 0.1):
    return spec(
        metric,
        band=band,
        task="regression",
        estimator={"class": "sklearn.ensemble.HistGradientBoostingRegressor"},
    )


def binary(rows: int, auc: float, seed: int, share: float = 0.3) -> tuple[np.ndarray, np.ndarray, list]:
    """Labels, predictions and scores of a model whose true AUC is `auc` (two normals apart)."""
    rng = np.random.default_rng(seed)
    y = (np.arange(rows) < round(share * rows)).astype(int)
    p = ndtr(rng.normal(size=rows) + y * math.sqrt(2) * ndtri(auc) - 1)
    return y, (p > 0.5).astype(int), np.column_stack([1 - p, p]).tolist()


def test_the_confidence_of_the_gate_moves_no_verdict_on_performance() -> None:
    y, said, scores = binary(400, 0.8, 3)
    plain, strict = (
        make_spec(metric="roc_auc", gate={"confidence": level}, performance={"min_rows": 50})
        for level in (0.8, 0.99)
    )
    verdicts = [judge(y, said, scores, (0, 1), each, 0.85) for each in (plain, strict)]
    assert verdicts[0] == verdicts[1] and verdicts[0].confidence == 0.95
    wide = make_spec(metric="roc_auc", performance={"confidence": 0.99})
    assert judge(y, said, scores, (0, 1), wide, 0.85).low < verdicts[0].low


# The intervals, against independent sources.


@pytest.mark.parametrize(
    ("hits", "rows"), [(0, 1), (1, 1), (0, 50), (50, 50), (8, 10), (3, 1000), (700, 1000)]
)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_share_interval_is_scipys_exact_one(hits: int, rows: int, confidence: float) -> None:
    found = share_interval(hits, rows, confidence)
    theirs = binomtest(hits, rows).proportion_ci(confidence, method="exact")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert found.value == hits / rows


def test_the_share_of_no_rows_is_not_known() -> None:
    assert not share_interval(0, 0, 0.95).is_known


def test_the_auc_is_the_mann_whitney_statistic_and_its_variance_that_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.integers(0, 12, 40) + 2.0, rng.integers(0, 12, 70).astype(float)
    found = auc_interval(good, bad, 0.95)
    assert found.value == pytest.approx(mannwhitneyu(good, bad).statistic / (40 * 70))
    pairs = (good[:, None] > bad[None, :]) + 0.5 * (good[:, None] == bad[None, :])
    error = math.sqrt(pairs.mean(axis=1).var(ddof=1) / 40 + pairs.mean(axis=0).var(ddof=1) / 70)
    logit = math.log(found.value / (1 - found.value))
    reach = 1.959964 * error / (found.value * (1 - found.value))
    by_hand = [1 / (1 + math.exp(-(logit + side * reach))) for side in (-1, 1)]
    assert [found.low, found.high] == pytest.approx(by_hand, abs=1e-6)


def test_a_perfect_order_of_few_rows_is_not_taken_for_certainty() -> None:
    found = auc_interval(np.arange(10.0, 20), np.arange(0.0, 10), 0.95)
    theirs = binomtest(10, 10).proportion_ci(0.95, method="exact")
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(theirs.low)


def test_constant_scores_are_worth_one_half_whatever_the_rows() -> None:
    found = auc_interval(np.ones(300), np.ones(300), 0.95)
    assert found.value == 0.5
    assert found.low < 0.5 < found.high


def test_one_row_of_a_class_gives_no_auc_interval() -> None:
    assert not auc_interval(np.array([1.0]), np.arange(50.0), 0.95).is_known


@pytest.mark.parametrize(("auc", "rows"), [(0.75, 60), (0.75, 600), (0.95, 120), (0.85, 2000)])
def test_the_auc_interval_covers_the_truth_as_often_as_it_says(auc: float, rows: int) -> None:
    rng = np.random.default_rng(2)
    runs, half, gap = 1500, rows // 3, math.sqrt(2) * ndtri(auc)
    low = high = 0
    for _ in range(runs):
        found = auc_interval(rng.normal(gap, 1, half), rng.normal(0, 1, rows - half), 0.95)
        low, high = low + (found.low > auc), high + (found.high < auc)
    # 1500 runs tell 2.5 % to within 0.8 points; small samples get another point and a half.
    assert 0.930 <= 1 - (low + high) / runs <= 0.975
    assert max(low, high) / runs <= 0.048


@pytest.mark.parametrize("metric", ["f1", "neg_log_loss", "average_precision", "balanced_accuracy"])
def test_the_bootstrap_covers_the_truth_nearly_as_often_as_it_says(metric: str) -> None:
    def rows(count: int, seed: int) -> Scored:
        rng = np.random.default_rng(seed)
        p = rng.beta(1.5, 3, count)
        y = (rng.random(count) < p).astype(int)
        return Scored(y, (p > 0.4).astype(int), np.column_stack([1 - p, p]), (0, 1))

    from tasks.core.evaluation.metrics import score

    big = rows(400_000, 99)
    truth = score(big.y_true, big.prediction, big.probabilities, big.classes, metric)
    runs = 150
    hits = 0
    for run in range(runs):
        from tasks.core.evaluation.bootstrap import score_interval

        found = score_interval(rows(300, run), metric, confidence=0.9, seed=run, resamples=200)
        hits += found.low <= truth <= found.high
    assert 0.82 <= hits / runs <= 0.97


def test_a_bootstrap_without_width_is_widened_to_what_few_rows_allow() -> None:
    y = np.array([1] * 6 + [0] * 94)
    missed = Scored(y, np.zeros(100, dtype=int), None, (0, 1))
    found = realised_interval(missed, "f1", confidence=0.95)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(binomtest(0, 6).proportion_ci(0.95, method="exact").high)
    sure = Scored(np.tile([0, 1], 5000), np.zeros(10_000, dtype=int), None, (0, 1))
    assert realised_interval(sure, "f1", confidence=0.95).high < 0.001


# The verdict.


def test_the_limit_lies_on_the_bad_side_of_the_promise_for_either_sign() -> None:
    assert lower_limit(0.8, 0.02) == pytest.approx(0.784)
    assert lower_limit(-2.0, 0.1) == pytest.approx(-2.2)


def test_accuracy_by_hand() -> None:
    y = [1] * 60 + [0] * 40
    said = [1] * 50 + [0] * 50  # 90 of 100 right; the exact interval is 0.8238 to 0.9510
    for promise, outcome in [(0.90, "ok"), (0.95, "warn"), (0.99, "drift")]:
        found = judge(y, said, None, (0, 1), spec("accuracy"), promise)
        assert (found.value, found.outcome) == (0.9, outcome)
        assert (found.low, found.high) == pytest.approx((0.8238, 0.9510), abs=1e-4)
        assert found.limit == pytest.approx(promise * 0.98)
        assert found.rows == 100


def test_values_equal_scikit_learns() -> None:
    y, said, scores = binary(500, 0.8, 3)
    p = np.array(scores)
    for metric, expected in [
        ("roc_auc", roc_auc_score(y, p[:, 1])),
        ("neg_log_loss", -log_loss(y, p)),
        ("f1", f1_score(y, said)),
        ("accuracy", (y == said).mean()),
    ]:
        found = judge(y, said, scores, (0, 1), spec(metric), expected)
        assert found.value == pytest.approx(expected)
        assert found.low < found.value < found.high
        assert found.outcome == "ok"


def test_regression_decays_when_errors_grow_and_only_then() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(100, 20, 800)
    for noise, outcome in [(5.0, "ok"), (7.0, "drift"), (3.0, "ok")]:
        said = y + rng.normal(0, noise, 800)
        found = judge(y, said, None, None, regression_spec(), -5.0 * math.sqrt(2 / math.pi))
        assert found.outcome == outcome, found
        assert found.value < 0


def test_a_kept_promise_alarms_no_more_often_than_the_confidence_allows() -> None:
    wanted, runs = spec(band=0.0, confidence=0.9), 600
    alarms = sum(
        judge(*binary(300, 0.8, seed), (0, 1), wanted, 0.8).outcome == "drift" for seed in range(runs)
    )
    assert alarms / runs <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / runs)


def test_a_promise_kept_within_its_band_hardly_ever_alarms_and_a_broken_one_does() -> None:
    wanted = spec(band=0.02)
    kept = [judge(*binary(2000, 0.80, seed), (0, 1), wanted, 0.80).outcome for seed in range(100)]
    broken = [judge(*binary(2000, 0.72, seed), (0, 1), wanted, 0.80).outcome for seed in range(100)]
    assert kept.count("drift") <= 1
    assert broken.count("drift") >= 97


UNDECIDED = [
    ("no predictions", [], [], [], "no predictions"),
    ("no labels yet", [None] * 60, [0] * 60, [[0.5, 0.5]] * 60, "no labels yet"),
    ("one class", [0] * 60, [0] * 60, [[0.5, 0.5]] * 60, "one class"),
    ("a class of four rows", [1] * 4 + [0] * 60, [0] * 64, [[0.5, 0.5]] * 64, "5 are needed"),
    ("too few rows", [0, 1] * 24, [0, 1] * 24, [[0.6, 0.4], [0.4, 0.6]] * 24, "50 are needed"),
    ("one row", [1], [1], [[0.1, 0.9]], "one class"),
    (
        "a missing prediction",
        [0, 1] * 40,
        [None, *[0, 1] * 39, 1],
        [[0.6, 0.4]] * 80,
        "1 of 80 predictions are missing",
    ),
    ("a missing score", [0, 1] * 40, [0, 1] * 40, [None, *[[0.6, 0.4]] * 79], "1 of 80 predictions lack"),
    ("a NaN score", [0, 1] * 40, [0, 1] * 40, [[NAN, 0.4], *[[0.6, 0.4]] * 79], "1 of 80 predictions lack"),
    ("a short score", [0, 1] * 40, [0, 1] * 40, [[0.6], *[[0.6, 0.4]] * 79], "1 of 80 predictions lack"),
    ("no scores at all", [0, 1] * 40, [0, 1] * 40, None, "none were kept"),
    ("unknown classes", [0, 1, 2, 2] * 20, [0, 1] * 40, [[0.6, 0.4]] * 80, "40 of 80 labels"),
]


@pytest.mark.parametrize(
    ("y", "said", "scores", "reason"), [line[1:] for line in UNDECIDED], ids=[line[0] for line in UNDECIDED]
)
def test_what_cannot_be_told_is_undecided_and_says_why(y, said, scores, reason) -> None:
    found = judge(y, said, scores, (0, 1), spec(), 0.99)
    assert found.outcome == "undecided"
    assert reason in found.reason


@pytest.mark.parametrize("strange", [NAN, math.inf, None, "twelve"])
def test_a_regression_prediction_that_is_no_finite_number_is_undecided(strange: object) -> None:
    found = judge([1.0] * 60, [strange, *[1.0] * 59], None, None, regression_spec(), -1.0)
    assert found.outcome == "undecided"
    assert "1 of 60" in found.reason


@pytest.mark.parametrize("promise", [NAN, math.inf])
def test_a_promise_that_is_no_number_is_undecided(promise: float) -> None:
    found = judge(*binary(200, 0.8, 0), (0, 1), spec(), promise)
    assert found.outcome == "undecided"
    assert "promise" in found.reason
    json.dumps(found.summary(), allow_nan=False)


def test_a_metric_without_meaning_for_these_classes_is_undecided() -> None:
    y = list("abc") * 40
    found = judge(y, y, None, ("a", "b", "c"), spec("f1"), 0.9)
    assert found.outcome == "undecided"
    assert "positive class" in found.reason


def test_labels_that_are_not_known_yet_are_left_out_not_counted_as_wrong() -> None:
    y, said, scores = binary(400, 0.8, 5)
    late = [None if row % 4 == 0 else int(value) for row, value in enumerate(y)]
    found = judge(late, said, scores, (0, 1), spec(), 0.8)
    known = [row % 4 != 0 for row in range(400)]
    assert found.rows == 300
    assert found.value == pytest.approx(roc_auc_score(y[known], np.array(scores)[known, 1]))


def test_labels_that_a_store_wrote_as_text_or_float_are_the_same_labels() -> None:
    y, said, scores = binary(400, 0.8, 6)
    plain = judge(y, said, scores, (0, 1), spec(), 0.8)
    for written in (y.astype(str), y.astype(float), y.astype(bool), pd.Series(y, index=range(7, 407))):
        assert judge(written, said.astype(str), scores, (0, 1), spec(), 0.8) == plain
    assert judge(y, said, np.array(scores), (0, 1), spec(), 0.8) == plain


def test_one_percent_of_unknown_labels_does_not_silence_the_check() -> None:
    y, said, scores = binary(400, 0.8, 7)
    strange = [*y[:-4].tolist(), *["new"] * 4]
    found = judge(strange, said, scores, (0, 1), spec(), 0.8)
    assert (found.outcome, found.rows) == ("ok", 396)


def test_multiclass_text_labels_are_judged() -> None:
    rng = np.random.default_rng(8)
    y = rng.choice(["a", "b", "c"], 600)
    good = np.array([[0.8 if name == label else 0.1 for name in "abc"] for label in y])
    bad = rng.dirichlet([1, 1, 1], 600)
    for metric, promise in [("neg_log_loss", -0.25), ("roc_auc_ovr", 0.99)]:
        said = np.array(list("abc"))[good.argmax(axis=1)]
        assert judge(y, said, good.tolist(), ("a", "b", "c"), spec(metric), promise).outcome == "ok"
        assert judge(y, said, bad.tolist(), ("a", "b", "c"), spec(metric), promise).outcome == "drift"


def test_columns_of_different_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="one entry per row"):
        judge([0, 1], [0], None, (0, 1), spec("accuracy"), 0.9)


def test_a_hundred_thousand_rows_take_a_moment() -> None:
    y, said, scores = binary(100_000, 0.8, 9)
    found = judge(y, said, scores, (0, 1), spec(), 0.8)
    assert found.high - found.low < 0.01
    assert found.outcome == "ok"


# Properties.


@settings(max_examples=20, deadline=None)
@given(st.integers(60, 200), st.floats(0.55, 0.95), st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_run_do_not_change_the_verdict(rows, auc, seed, random) -> None:
    y, said, scores = binary(rows, auc, seed)
    order = list(range(rows))
    random.shuffle(order)
    one = judge(y, said, scores, (0, 1), spec(), 0.8)
    two = judge(y[order], said[order], [scores[i] for i in order], (0, 1), spec(), 0.8)
    assert two.outcome == one.outcome
    assert [two.value, two.low, two.high] == pytest.approx([one.value, one.low, one.high])
    f1 = [judge(y, said, scores, (0, 1), spec("f1"), 0.8) for _ in range(2)]
    assert f1[0] == f1[1]


@settings(deadline=None)
@given(st.integers(0, 200), st.floats(0.05, 1.0), st.floats(0.0, 0.9))
def test_a_lower_promise_never_looks_worse(wrong: int, promise: float, less: float) -> None:
    rank = {"ok": 0, "warn": 1, "drift": 2}
    y = np.array([0, 1] * 100)
    said = np.where(np.arange(200) < wrong, 1 - y, y)
    strict = judge(y, said, None, (0, 1), spec("accuracy"), promise)
    lenient = judge(y, said, None, (0, 1), spec("accuracy"), promise * less)
    assert rank[lenient.outcome] <= rank[strict.outcome]
    assert strict.low <= strict.value <= strict.high
