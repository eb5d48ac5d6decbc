"""Losses of champions and the choice of a partner, against sums by hand, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import sem
from sklearn.metrics import brier_score_loss, mean_absolute_error, mean_squared_error

from tasks.core.evaluation.champions import choose_partner, clustered_error, money_loss, row_losses
from tasks.core.evaluation.scoring import Scored


def answers(truth: np.ndarray, chance: np.ndarray) -> Scored:
    """Binary answers with this probability of 1."""
    return Scored(truth, (chance > 0.5).astype(int), np.column_stack([1 - chance, chance]), (0, 1))


def test_losses_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, chance = rng.integers(0, 2, 500), rng.random(500)
    assert row_losses(answers(truth, chance), "roc_auc").mean() == pytest.approx(
        brier_score_loss(truth, chance)
    )
    numbers, guesses = rng.normal(size=300), rng.normal(size=300)
    scored = Scored(numbers, guesses)
    assert row_losses(scored, "neg_mean_absolute_error").mean() == pytest.approx(
        mean_absolute_error(numbers, guesses)
    )
    assert row_losses(scored, "r2").mean() == pytest.approx(mean_squared_error(numbers, guesses))
    labels = Scored(np.array(["a", "b", "c"]), np.array(["a", "b", "b"]))
    assert row_losses(labels, "accuracy").tolist() == [0.0, 0.0, 1.0]


def test_a_class_that_the_model_never_saw_is_wrong_whatever_it_answers() -> None:
    scored = Scored(np.array(["new"]), np.array(["a"]), np.array([[0.5, 0.5]]), ("a", "b"))
    assert row_losses(scored, "accuracy").tolist() == [0.25]


def test_the_error_of_independent_rows_is_scipys_and_clusters_widen_it_as_they_should() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=400)
    assert clustered_error(values, np.arange(400)) == pytest.approx(float(sem(values)))
    # Each value stands ten times: the truth is that of the 400.
    repeated = np.repeat(values, 10)
    assert clustered_error(repeated, np.repeat(np.arange(400), 10)) == pytest.approx(float(sem(values)))
    assert np.isnan(clustered_error(values, np.zeros(400, dtype=int)))


def test_the_partner_is_the_best_earlier_one_beyond_one_standard_error_and_nobody_else() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 1000)
    good, fair, poor = (answers(truth, np.where(truth == 1, p, 1 - p)) for p in (0.8, 0.7, 0.6))
    codes = np.arange(1000)
    found = choose_partner({1: good, 2: fair, 3: poor}, 3, "accuracy", codes)
    assert (found.partner, found.decided) == (1, True)
    assert found.losses == pytest.approx({1: 0.04, 2: 0.09, 3: 0.16})
    assert found.gap == pytest.approx(0.12)
    assert choose_partner({1: good, 2: fair, 3: poor}, 3, "accuracy", codes, excluded={1}).partner == 2
    assert choose_partner({1: good, 2: fair, 3: poor}, 3, "accuracy", codes, combinable={2, 3}).partner == 2
    assert choose_partner({1: good, 2: fair, 3: poor}, 1, "accuracy", codes).partner is None
    alone = choose_partner({3: poor}, 3, "accuracy", codes)
    assert (alone.partner, alone.decided) == (None, True)
    few = choose_partner({1: good, 3: poor}, 3, "accuracy", codes, min_rows=1001)
    assert (few.partner, few.decided) == (None, False)
    missing = choose_partner({1: good}, 3, "accuracy", codes)
    assert (missing.partner, missing.decided) == (None, False)


def test_chance_alone_names_a_partner_in_about_a_sixth_of_windows() -> None:
    # Two models equally good on independent rows: P(Z > 1) = .159.
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2000):
        truth = rng.integers(0, 2, 200)
        pair = {version: answers(truth, np.clip(rng.normal(0.5, 0.2, 200), 0, 1)) for version in (1, 2)}
        hits += choose_partner(pair, 2, "accuracy", np.arange(200)).partner is not None
    assert hits / 2000 == pytest.approx(0.159, abs=0.025)


def test_money_is_what_the_answers_cost_beside_perfect_ones() -> None:
    values = {"1>1": 10.0, "1>0": -30.0, "0>1": -2.0}
    scored = Scored(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]))
    assert money_loss(scored, values) == (10 - -30) + (0 - -2)
    assert money_loss(Scored(np.array([1, 0]), np.array([1, 0])), values) == 0.0
