from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from tasks.core.evaluation.evidence import AnchorEvidence, Worth
from tasks.core.evaluation.guards.anchor import anchor_words, judge_anchor
from tasks.core.evaluation.guards.baselines import against_baseline
from tasks.core.evaluation.guards.calibration import calibration_of, expected_error, recalibration_slope
from tasks.core.evaluation.guards.value import judge_value, value_of
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec_gate import Gate, Value


def drawn(rows: int, sharpness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Chances whose logits are `sharpness` times the true ones, and what happened."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=rows)
    return expit(sharpness * true), (rng.random(rows) < expit(true)).astype(float)


def binary(chance: np.ndarray, happened: np.ndarray, names=("no", "yes")) -> Scored:
    y = np.where(happened == 1, names[1], names[0]).astype(object)
    prediction = np.where(chance > 0.5, names[1], names[0]).astype(object)
    return Scored(y, prediction, np.column_stack([1 - chance, chance]), names)


# Calibration.


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_the_slope_is_that_of_scikit_learns_logistic_regression(sharpness: float) -> None:
    chance, happened = drawn(3000, sharpness)
    weights = np.random.default_rng(1).uniform(0.2, 3, 3000)
    for each in (None, weights):
        theirs = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000)
        theirs.fit(logit(chance)[:, None], happened, sample_weight=each)
        assert recalibration_slope(chance, happened, each) == pytest.approx(theirs.coef_[0, 0], rel=1e-4)
    assert recalibration_slope(chance, happened) == pytest.approx(1 / sharpness, rel=0.15)


def test_a_slope_that_no_rows_can_give_is_unknown() -> None:
    half = np.full(50, 0.5)
    flip = np.tile([0.0, 1.0], 25)
    for chance, happened in (
        (half, flip),
        (flip, np.ones(50)),
        (flip, flip),
        (half[:1], flip[:1]),
        (half[:0], flip[:0]),
    ):
        assert np.isnan(recalibration_slope(chance, happened))


def test_the_error_worked_by_hand_over_equally_filled_bins() -> None:
    chance, happened = (
        np.array([0.1] * 10 + [0.9] * 30),
        np.array([1.0] * 2 + [0.0] * 8 + [1.0] * 24 + [0.0] * 6),
    )
    assert expected_error(chance, happened) == pytest.approx(0.25 * 0.1 + 0.75 * 0.1)
    weights = np.where(chance < 0.5, 3.0, 1.0)
    assert expected_error(chance, happened, weights) == pytest.approx(0.1)
    heavier = np.where(happened == 1, 2.0, 1.0)
    want = (12 * abs(1.2 / 12 - 4 / 12) + 54 * abs(0.9 - 48 / 54)) / 66
    assert expected_error(chance, happened, heavier) == pytest.approx(want)
    assert np.isnan(expected_error(chance[:0], happened[:0]))


def test_the_error_does_not_depend_on_the_order_of_rows() -> None:
    chance, happened = drawn(1000)
    chance = np.round(chance, 1)
    order = np.random.default_rng(3).permutation(1000)
    assert expected_error(chance, happened) == pytest.approx(expected_error(chance[order], happened[order]))


def test_an_overconfident_model_has_a_larger_error_and_a_flatter_slope() -> None:
    honest, loud = binary(*drawn(4000)), binary(*drawn(4000, 3.0))
    found = calibration_of(honest, loud)
    assert found.error < 0.03 < found.champion_error and found.champion_slope < 0.5
    assert found.slope == pytest.approx(1, abs=0.1)
    alone = calibration_of(honest, None)
    assert alone.error == found.error and np.isnan([alone.champion_error, alone.champion_slope]).all()


def test_the_positive_class_of_the_spec_is_judged_and_gives_the_same_error() -> None:
    chance, happened = drawn(2000, 2.0)
    one, other = binary(chance, happened), binary(chance, happened, ("b", "a"))
    by_name = calibration_of(other, None, positive="a")
    assert by_name.slope == pytest.approx(calibration_of(one, None, positive="yes").slope)
    assert calibration_of(one, None, positive="no").slope == pytest.approx(by_name.slope, rel=0.02)


def test_of_several_classes_the_most_likely_ones_probability_is_judged() -> None:
    rng = np.random.default_rng(0)
    code = rng.integers(0, 3, 3000)
    right = rng.random(3000) < 0.6
    said = np.where(right, code, (code + 1) % 3)
    chance = np.full((3000, 3), 0.1)
    chance[np.arange(3000), said] = 0.8
    names = np.array(["x", "y", "z"], dtype=object)
    found = calibration_of(Scored(names[code], names[said], chance, tuple(names)), None)
    assert found.error == pytest.approx(0.8 - right.mean()) and np.isnan(found.slope)


def test_without_probabilities_or_rows_there_is_no_calibration() -> None:
    assert calibration_of(Scored(np.array([1]), np.array([1]), None, (0, 1)), None) is None
    assert calibration_of(Scored(np.array([]), np.array([]), np.empty((0, 2)), (0, 1)), None) is None
    known = binary(*drawn(200))
    found = calibration_of(known, Scored(known.y_true, known.prediction, None, known.classes))
    assert np.isnan(found.champion_error)


# Value.


def test_the_difference_in_worth_has_the_paired_t_interval() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(5, 2, 300), rng.normal(4, 2, 300)
    found = value_of(Worth(mine, theirs), Gate(confidence=0.9, value=Value(currency="EUR")))
    low, high = stats.ttest_rel(mine, theirs).confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.per_row, found.champion_per_row) == (
        pytest.approx(mine.mean()),
        pytest.approx(theirs.mean()),
    )
    assert found.currency == "EUR" and found.difference == pytest.approx((mine - theirs).mean())


def test_equal_weights_change_nothing_and_unequal_ones_the_mean() -> None:
    rng = np.random.default_rng(1)
    worth = Worth(rng.normal(size=200), rng.normal(size=200))
    plain, sevens = value_of(worth, Gate()), value_of(worth, Gate(), weights=np.full(200, 7.0))
    assert (
        sevens == pytest.approx(plain) if isinstance(plain, float) else sevens.low == pytest.approx(plain.low)
    )
    weights = rng.uniform(0, 4, 200)
    assert value_of(worth, Gate(), weights=weights).per_row == pytest.approx(
        np.average(worth.challenger, weights=weights)
    )


def test_the_interval_of_a_weighted_worth_covers_the_truth() -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(800):
        weights = rng.uniform(0.1, 3, 200)
        gain = rng.exponential(size=200) - 0.7
        found = value_of(Worth(gain, np.zeros(200)), Gate(), weights=weights)
        covered += found.low <= 0.3 <= found.high
    assert covered / 800 == pytest.approx(0.95, abs=0.025)


def test_only_a_shown_loss_speaks_and_only_where_value_decides() -> None:
    deciding, telling = Gate(value=Value(function="a.b:c", decides=True)), Gate(value=Value(function="a.b:c"))
    rng = np.random.default_rng(3)
    theirs = rng.normal(1, 1, 200)
    loss, noise = value_of(Worth(theirs - 0.5 + rng.normal(0, 0.1, 200), theirs), deciding), None
    noise = value_of(Worth(theirs + rng.normal(0, 1, 200), theirs), deciding)
    assert judge_value(loss, deciding).outcome == "worse" and judge_value(noise, deciding).outcome == "ok"
    assert judge_value(loss, telling) is None and judge_value(None, deciding) is None
    assert judge_value(value_of(Worth(theirs), deciding), deciding) is None, "no champion"
    assert judge_value(value_of(Worth(theirs[:1], theirs[:1]), deciding), deciding).outcome == "undecided"


def test_without_a_champion_the_record_still_says_what_the_answers_are_worth() -> None:
    found = value_of(Worth(np.array([1.0, 3.0])), Gate())
    assert found.per_row == 2 and np.isnan([found.champion_per_row, found.difference, found.low]).all()
    assert value_of(None, Gate()) is None


# Baselines and the anchor.


def base(challenger: Scored, other: Scored | None, metric: str = "accuracy"):
    return against_baseline(
        "linear",
        challenger,
        other,
        metric,
        confidence=0.95,
        seed=0,
        positive=None,
        resamples=200,
        weights=None,
    )


def labels(rows: int, right: float, seed: int) -> Scored:
    y = np.tile([0, 1], rows // 2)
    return Scored(y, np.where(np.random.default_rng(seed).random(rows) < right, y, 1 - y), None, (0, 1))


def test_a_baseline_is_beaten_equalled_or_undecided() -> None:
    strong, weak = labels(1000, 0.9, 0), labels(1000, 0.6, 1)
    assert base(strong, weak).outcome == "ok" and base(weak, strong).outcome == "worse"
    assert base(strong, strong).outcome == "worse", "no better"
    y, place = strong.y_true, np.arange(1000)
    slightly, other = (Scored(y, np.where(place % 10 < k, 1 - y, y), None, (0, 1)) for k in (1, 2))
    ahead = Scored(y, np.where(place < 2, y, other.prediction), None, (0, 1))
    assert base(slightly, other).outcome == "ok" and base(ahead, other).outcome == "undecided"
    assert base(strong, None) is None


def test_a_baseline_that_the_metric_cannot_judge_is_undecided() -> None:
    found = base(
        binary(*drawn(400)), Scored(*[binary(*drawn(400)).y_true] * 2, None, ("no", "yes")), "roc_auc"
    )
    assert found.outcome == "undecided" and np.isnan([found.score, found.difference, found.low]).all()


def anchored(mine: Scored, keeper: Scored | None, gate: Gate = Gate(), metric: str = "accuracy", **more):  # noqa: B008
    return judge_anchor(
        AnchorEvidence(mine, keeper, 7, **more), gate, metric, positive=None, seed=0, resamples=200
    )


def test_the_anchor_says_which_version_was_better_by_how_much_and_what_to_do() -> None:
    found = anchored(labels(1000, 0.7, 0), labels(1000, 0.9, 1), sha256="ab", rows_shared=0)
    words = anchor_words(found)
    assert found.outcome == "worse" and found.sha256 == "ab"
    assert words.startswith("worse than version 7 on the 1,000 trusted rows of the anchor: -0.")
    assert "tolerance 0.01" in words and "look for wrong or planted labels" in words
    assert anchor_words(anchored(labels(1000, 0.9, 0), labels(1000, 0.9, 1))) == ""


def test_a_loss_beyond_the_tolerance_that_few_rows_cannot_show_is_not_held_against_it() -> None:
    few = Gate(min_rows=50)
    assert anchored(labels(60, 0.85, 3), labels(60, 0.9, 4), few).outcome == "ok"
    assert anchored(labels(60, 0.85, 3), labels(60, 0.9, 4)).outcome == "undecided", "fewer than min_rows"


def test_an_error_metric_is_judged_in_its_own_direction_on_the_anchor() -> None:
    y = np.random.default_rng(0).normal(size=500)
    near, far = Scored(y, y + 0.1 * np.tile([-1, 1], 250)), Scored(y, y + np.tile([-1.0, 1.1], 250))
    assert anchored(far, near, metric="neg_mean_absolute_error").outcome == "worse"
    found = anchored(near, far, metric="neg_mean_absolute_error")
    assert found.outcome == "ok" and found.difference == pytest.approx(0.95)


def test_there_is_no_verdict_of_an_anchor_that_is_not_there() -> None:
    assert judge_anchor(None, Gate(), "accuracy", positive=None, seed=0, resamples=200) is None
