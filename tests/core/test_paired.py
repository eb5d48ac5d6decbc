"""Resampled comparisons held against scikit-learn, their definition and the plain bootstrap of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from bench.gate import labels_of, numbers_of
from tasks.core.evaluation import metrics
from tasks.core.evaluation.bootstrap import percentile_interval, resample
from tasks.core.evaluation.metrics import is_binary_only, score
from tasks.core.evaluation.paired.cells import of_counts, resampled_labels
from tasks.core.evaluation.paired.compare import Comparison, compare
from tasks.core.evaluation.paired.means import resampled_means
from tasks.core.evaluation.paired.result import needed_rows
from tasks.core.evaluation.paired.shares import compare_shares
from tasks.core.evaluation.scoring import Scored, all_labels, statistic

LABELS = sorted(metrics._BY_LABEL)
PROBABILITIES = sorted(metrics._BY_PROBABILITY)
NUMBERS = sorted(metrics._REGRESSION)
EVERY = [*LABELS, *PROBABILITIES, *NUMBERS]


def several_classes(rows: int, seed: int, names: tuple = ("basic", "pro", "team")) -> tuple[Scored, Scored]:
    rng, count = np.random.default_rng(seed), len(names)
    code, noise = rng.integers(0, count, rows), rng.normal(size=(rows, count))
    pair = []
    for strength in (1.4, 1.1):
        x = strength * np.eye(count)[code] + 0.8 * noise + 0.6 * rng.normal(size=(rows, count))
        chance = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        pair.append(Scored(np.array(names)[code], np.array(names)[chance.argmax(axis=1)], chance, names))
    return pair[0], pair[1]


def pair_for(metric: str, rows: int = 300, seed: int = 0) -> tuple[Scored, Scored]:
    if metric in NUMBERS:
        both = numbers_of(np.random.default_rng(seed), rows)
        # Above zero, so that deviances and logarithms are defined.
        pair = [Scored(np.exp(0.3 * one.y_true), np.exp(0.3 * one.prediction)) for one in both]
        return pair[0], pair[1]
    if metric == "top_k_accuracy" or metric.endswith(("_macro", "_ovo", "_ovo_weighted")):
        return several_classes(rows, seed)
    return labels_of(np.random.default_rng(seed), rows)


def told(one: Scored, metric: str) -> float:
    return score(one.y_true, one.prediction, one.probabilities, one.classes, metric)


def by_rows(mine: Scored, theirs: Scored, metric: str, *, seed: int = 1, resamples: int = 2000) -> np.ndarray:
    """The plain bootstrap of whole rows, which every quicker way must agree with."""
    labels = () if metric in NUMBERS else all_labels([mine, theirs])
    pair = [statistic(one, metric, labels=labels) for one in (mine, theirs)]
    return resample(pair, len(mine.y_true), seed=seed, resamples=resamples)


# Metrics of labels: counts of cells in place of rows.


@pytest.mark.parametrize("metric", LABELS)
def test_a_metric_of_counts_is_that_of_the_rows(metric: str) -> None:
    rng, count = np.random.default_rng(7), 2 if is_binary_only(metric) else 4
    truth, said = rng.integers(0, count, 60), rng.integers(0, count, 60)
    names = tuple(range(count))
    whole = statistic(Scored(truth, said, classes=names), metric)
    weights = rng.multinomial(25, np.full(60, 1 / 60), size=40).astype(float)
    weights[:5] *= said == 1  # a model that says one class only
    weights[5:8] *= truth == 0  # and rows of one class only
    weights = weights[weights.sum(axis=1) > 0]
    one_hot = [(codes[:, None] == np.arange(count)).astype(float) for codes in (truth, said)]
    found = of_counts(
        weights @ (one_hot[0] * one_hot[1]), weights @ one_hot[0], weights @ one_hot[1], metric, count - 1
    )
    np.testing.assert_allclose(found, [whole(line) for line in weights], atol=1e-12)


@pytest.mark.parametrize("rows", [40, 400])
@pytest.mark.parametrize(("metric", "classes"), [("f1", 2), ("f1_macro", 3), ("matthews_corrcoef", 9)])
def test_resampled_cells_have_the_law_of_resampled_rows(metric: str, classes: int, rows: int) -> None:
    mine, theirs = several_classes(rows, 2, tuple(range(classes)))  # 9 classes fill more than 100 cells
    labels = all_labels([mine, theirs])
    codes = [np.searchsorted(labels, values) for values in (mine.y_true, mine.prediction, theirs.prediction)]
    found = resampled_labels(
        codes[0],
        (codes[1], codes[2]),
        count=len(labels),
        metric=metric,
        positive=len(labels) - 1,
        seed=3,
        resamples=4000,
    )
    same_law(found, by_rows(mine, theirs, metric, resamples=4000))


def same_law(one: np.ndarray, other: np.ndarray) -> None:
    """Both columns and their difference agree in mean, spread and quantiles, as far as draws can tell."""
    pairs = zip([*one.T, one[:, 0] - one[:, 1]], [*other.T, other[:, 0] - other[:, 1]], strict=True)
    for mine, theirs in pairs:
        assert np.isfinite(mine).mean() == pytest.approx(np.isfinite(theirs).mean(), abs=0.02)
        a, b = mine[np.isfinite(mine)], theirs[np.isfinite(theirs)]
        assert a.mean() == pytest.approx(b.mean(), abs=0.1 * b.std())
        assert a.std() == pytest.approx(b.std(), rel=0.06)
        # Rounded, because equal values may differ in their last bit.
        assert stats.ks_2samp(a.round(12), b.round(12)).pvalue > 0.005


# Means.


@pytest.mark.parametrize("rows", [40, 12_000])
def test_resampled_means_have_the_law_of_rows_drawn_with_replacement(rows: int) -> None:
    rng = np.random.default_rng(4)
    # In an order, skewed, and dependent: what turning counts against unshuffled rows would get wrong.
    table = np.column_stack([np.sort(rng.exponential(size=rows)), np.arange(rows) / rows])
    found = resampled_means(table, seed=5, resamples=4000)
    same_law(found, np.array([table[rng.integers(0, rows, rows)].mean(axis=0) for _ in range(2000)]))
    expected = np.cov(table.T, ddof=0) / rows
    np.testing.assert_allclose(np.cov(found.T), expected, rtol=0.09)


def test_resamples_that_share_counts_are_as_good_as_independent() -> None:
    table = np.sort(np.random.default_rng(0).exponential(size=(12_000, 1)), axis=0)
    found = resampled_means(table, seed=1, resamples=4000)[:, 0]
    groups = found.reshape(400, 10)
    # The spread between groups of ten that share a draw is what ten independent draws give.
    assert groups.mean(axis=1).var() == pytest.approx(found.var() / 10, rel=0.2)


# Every metric, whichever way is taken.


@pytest.mark.parametrize("metric", EVERY)
def test_a_comparison_is_that_of_scikit_learns_scores_and_of_resampled_rows(metric: str) -> None:
    mine, theirs = pair_for(metric)
    found = compare(mine, theirs, metric, confidence=0.9, resamples=1000)
    assert (found.mine.value, found.theirs.value) == pytest.approx((told(mine, metric), told(theirs, metric)))
    assert found.difference.value == pytest.approx(told(mine, metric) - told(theirs, metric))
    draws = by_rows(mine, theirs, metric)
    plain = percentile_interval(found.difference.value, draws[:, 0] - draws[:, 1], 0.9)
    near = 0.12 * (plain.high - plain.low)
    assert (found.difference.low, found.difference.high) == pytest.approx((plain.low, plain.high), abs=near)
    assert found.p_better == pytest.approx((draws[:, 0] > draws[:, 1]).mean(), abs=0.06)
    assert (found.mcnemar is None) == (metric in NUMBERS)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "f1", "neg_log_loss", "r2", "average_precision"])
def test_swapped_models_reverse_the_comparison(metric: str) -> None:
    mine, theirs = pair_for(metric)
    one, other = (compare(*pair, metric, confidence=0.95) for pair in ((mine, theirs), (theirs, mine)))
    gap, back = one.difference, other.difference
    near = 0.1 * (gap.high - gap.low) if metric == "f1" else 1e-8  # counts of other cells come in other draws
    assert gap.value == pytest.approx(-back.value)
    assert (gap.low, gap.high) == pytest.approx((-back.high, -back.low), abs=near)
    assert one.p_better == pytest.approx(1 - other.p_better, abs=0.02 if metric == "f1" else 1e-8)
    assert gap.value > 0 and one.needed_rows is not None and other.needed_rows is None


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "roc_auc", "neg_log_loss"])
def test_labels_may_be_texts_and_models_may_know_other_classes(metric: str) -> None:
    mine, theirs = several_classes(300, 1)
    narrow = np.isin(theirs.prediction, ["basic", "pro"])
    said = np.where(narrow, theirs.prediction, "pro")
    lesser = Scored(theirs.y_true, said, theirs.probabilities[:, :2], ("basic", "pro"))
    found = compare(mine, lesser, metric, confidence=0.95)
    assert found.is_known and found.difference.low > 0
    # Only what they are called has changed, so the numbers have not.
    codes = [
        replace(
            one,
            y_true=np.searchsorted(("basic", "pro", "team"), one.y_true),
            prediction=np.searchsorted(("basic", "pro", "team"), one.prediction),
            classes=tuple(range(len(one.classes))),
        )
        for one in (mine, lesser)
    ]
    assert compare(*codes, metric, confidence=0.95) == found


def test_the_positive_class_is_the_one_that_is_named() -> None:
    mine, theirs = labels_of(np.random.default_rng(0), 400)
    for metric, theirs_ in (("f1", sk.f1_score), ("precision", sk.precision_score)):
        found = compare(mine, theirs, metric, confidence=0.95, positive=0)
        assert found.mine.value == pytest.approx(theirs_(mine.y_true, mine.prediction, pos_label=0))
        assert found.difference.low < found.difference.value < found.difference.high


def test_the_same_seed_gives_the_same_comparison_to_the_last_digit() -> None:
    for metric in ("f1", "neg_log_loss", "average_precision"):
        mine, theirs = pair_for(metric)
        one, again, other = (compare(mine, theirs, metric, confidence=0.95, seed=s) for s in (4, 4, 5))
        assert one == again != other


def test_few_differing_rows_cannot_show_a_better_model() -> None:
    mine, _ = labels_of(np.random.default_rng(0), 400)
    wrong = np.flatnonzero((mine.prediction == mine.y_true) & (mine.y_true == 1))

    def beside(changed: int) -> Comparison:
        said = mine.prediction.copy()
        said[wrong[:changed]] = 0
        return compare(mine, replace(mine, prediction=said), "f1", confidence=0.95)

    assert beside(0).p_better == 0.5 and beside(0).difference.low < 0 < beside(0).difference.high
    assert beside(3).p_better < 0.95  # 3 of 3 coins fall alike in an eighth of all cases
    assert beside(9).p_better > 0.99


# What it would take.


def test_as_many_rows_as_are_said_to_be_needed_show_the_difference_four_times_in_five() -> None:
    found = compare_shares(500, 60, 45, 700, 0.95)
    assert found.p_better < 0.95 and found.needed_rows > 700
    rng, rows = np.random.default_rng(0), found.needed_rows
    counts = rng.multinomial(rows, [500 / 700, 60 / 700, 45 / 700, 95 / 700], size=2000)
    shown = [compare_shares(int(a), int(b), int(c), rows, 0.95).p_better >= 0.95 for a, b, c, _ in counts]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss", "f1"])
def test_the_needed_rows_hardly_depend_on_how_many_there_were(metric: str) -> None:
    mine, theirs = pair_for(metric, 300)
    twice = [
        Scored(
            *(np.concatenate([part, part]) for part in (one.y_true, one.prediction, one.probabilities)),
            (0, 1),
        )
        for one in (mine, theirs)
    ]
    one, other = (compare(*pair, metric, confidence=0.95, resamples=4000) for pair in ((mine, theirs), twice))
    assert one.needed_rows == pytest.approx(other.needed_rows, rel=0.1)


def test_no_number_of_rows_shows_what_is_not_there() -> None:
    assert needed_rows(0.0, 1.0, 0.95) is None
    assert needed_rows(-0.1, 1.0, 0.95) is None
    assert needed_rows(float("nan"), 1.0, 0.95) is None
    assert needed_rows(0.1, float("inf"), 0.95) is None
    assert needed_rows(0.1, 0.3, 0.95) == int(np.ceil(((1.6448536 + 0.8416212) * 3) ** 2))
