"""Accuracies and areas under the ROC curve: closed forms beside published examples and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.gate import labels_of
from tasks.core.evaluation.paired.compare import compare
from tasks.core.evaluation.paired.delong import compare_areas
from tasks.core.evaluation.paired.shares import compare_shares, mcnemar, tango_interval, wilson_interval

# Accuracy: the discordant rows.


@pytest.mark.parametrize(
    ("only_mine", "only_theirs", "rows", "confidence", "low", "high"),
    [
        (0, 1, 44, 0.90, -0.096, 0.037),  # Tango (1998), lens disinfectants; as ratesci's tests have it
        (9, 3, 32, 0.95, -0.027, 0.390),  # Tango (1998), second example; as ratesci's tests have it
        (1, 7, 21, 0.95, -0.517, -0.026),  # Fagerland, Lydersen and Laake (2014), airways of children
        (28, 25, 618, 0.90, -0.0148, 0.0247),  # R's PropCIs::scoreci.mp(25, 28, 618)
    ],
)
def test_the_interval_of_two_accuracies_is_the_published_one(
    only_mine, only_theirs, rows, confidence, low, high
) -> None:
    found = tango_interval(only_mine, only_theirs, rows, confidence)
    digits = 4 if rows == 618 else 3
    assert (round(found.low, digits), round(found.high, digits)) == (low, high)
    turned = tango_interval(only_theirs, only_mine, rows, confidence)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-8)


def test_the_published_airways_example_has_its_published_p_values() -> None:
    # Fagerland, Lydersen and Laake (2013), table 2: exact conditional 0.070, mid-p 0.039.
    assert mcnemar(1, 7).p_value == pytest.approx(0.0703, abs=5e-5)
    assert 2 * compare_shares(1, 1, 7, 21, 0.95).p_better == pytest.approx(0.0391, abs=5e-5)


@pytest.mark.parametrize(("mine", "theirs"), [(0, 0), (5, 5), (3, 12), (0, 9), (130, 90)])
def test_mcnemars_p_value_is_that_of_a_binomial_test(mine: int, theirs: int) -> None:
    expected = stats.binomtest(mine, mine + theirs).pvalue if mine + theirs else 1.0
    assert mcnemar(mine, theirs).p_value == pytest.approx(expected)


def test_two_models_that_agree_on_every_row_are_not_known_to_be_equal() -> None:
    found = compare_shares(180, 0, 0, 200, 0.95)
    z2 = stats.norm.ppf(0.975) ** 2
    assert found.difference.high == pytest.approx(z2 / (200 + z2))
    assert found.difference.low == pytest.approx(-found.difference.high)
    assert (found.p_better, found.needed_rows) == (0.5, None)


def test_the_interval_stays_within_its_range() -> None:
    assert tango_interval(10, 0, 10, 0.95).high == 1.0
    assert tango_interval(0, 10, 10, 0.95).low == -1.0
    assert 0 < tango_interval(10, 0, 10, 0.95).low < 1
    assert np.isfinite([tango_interval(1, 0, 1, 0.95).low, tango_interval(300_000, 0, 10**6, 0.99).low]).all()


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (8, 10), (10, 10), (850, 1000)])
def test_the_interval_of_one_accuracy_is_wilsons(hits: int, rows: int) -> None:
    theirs = stats.binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    found = wilson_interval(hits, rows, 0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


# AUC.


def test_delongs_variance_is_that_of_its_definition_over_all_pairs() -> None:
    mine, theirs = labels_of(np.random.default_rng(3), 300)
    good = mine.y_true == 1
    wins = []
    for chance in (
        np.round(mine.probabilities[:, 1], 1),
        np.round(theirs.probabilities[:, 1], 1),
    ):  # with ties
        above = chance[good][:, None] - chance[~good][None, :]
        wins.append((above > 0) + 0.5 * (above == 0))
    by_good, by_bad = ((wins[0] - wins[1]).mean(axis=axis) for axis in (1, 0))
    error = np.sqrt(by_good.var(ddof=1) / good.sum() + by_bad.var(ddof=1) / (~good).sum())
    found = compare_areas(*(np.round(one.probabilities[:, 1], 1) for one in (mine, theirs)), good, 0.95)
    assert found.difference.value == pytest.approx(wins[0].mean() - wins[1].mean())
    # Student's distribution is a little wider than the normal one.
    assert found.difference.high - found.difference.value == pytest.approx(1.96 * error, rel=0.02)
    assert found.p_better == pytest.approx(stats.norm.cdf(found.difference.value / error), abs=0.002)


@pytest.mark.parametrize(("many", "few"), [(4, 9), (30, 12), (200, 100)])
def test_beside_a_guess_delong_is_the_test_of_brunner_and_munzel(many: int, few: int) -> None:
    rng = np.random.default_rng(many)
    scores = np.concatenate([rng.normal(0.6, 1, many), rng.normal(0, 2, few)])
    positive = np.arange(many + few) < many
    theirs = stats.brunnermunzel(scores[~positive], scores[positive], alternative="less")
    found = compare_areas(scores, np.zeros(many + few), positive, 0.95)
    assert found.theirs.value == 0.5
    assert 1 - found.p_better == pytest.approx(theirs.pvalue)


def test_delong_agrees_with_scipys_paired_bootstrap() -> None:
    mine, theirs = labels_of(np.random.default_rng(5), 500)

    def area(y, scores):
        good = y.sum(axis=-1)
        ranks = (stats.rankdata(scores, axis=-1) * y).sum(axis=-1)
        return (ranks - good * (good + 1) / 2) / (good * (y.shape[-1] - good))

    def gap(y, one, other, axis=-1):
        return area(y, one) - area(y, other)

    data = (mine.y_true, mine.probabilities[:, 1], theirs.probabilities[:, 1])
    theirs_ = stats.bootstrap(data, gap, paired=True, n_resamples=1000, method="percentile", rng=1)
    found = compare(mine, theirs, "roc_auc", confidence=0.95)
    width = found.difference.high - found.difference.low
    assert width / (2 * stats.norm.ppf(0.975)) == pytest.approx(theirs_.standard_error, rel=0.08)
    assert found.method == "DeLong" and found.mcnemar is not None


def test_two_perfect_rankings_of_few_rows_are_not_known_to_be_equal() -> None:
    scores, positive = np.arange(40.0), np.arange(40) >= 34
    found = compare_areas(scores, scores**2, positive, 0.95)
    assert found.mine.value == found.theirs.value == 1.0
    assert found.difference.low == pytest.approx(-(1 - 0.025 ** (1 / 6)))
    assert found.p_better == 0.5
    opposite = compare_areas(scores, -scores, positive, 0.95)
    assert opposite.difference.value == 1.0 and opposite.p_better > 0.98
