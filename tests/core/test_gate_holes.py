"""Ways a challenger once came past the gate, or was kept from it, that the numbers did not justify."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from tasks.core.evaluation.bootstrap import percentile_interval
from tasks.core.evaluation.evidence import AnchorEvidence
from tasks.core.evaluation.guards.fairness import judge_fairness
from tasks.core.evaluation.paired.compare import compare
from tasks.core.evaluation.paired.result import concluded
from tasks.core.evaluation.scoring import Scored
from tasks.core.model.guess import guessed
from tasks.core.spec_gate import Anchor, Fairness, Gate
from tests.gates import judged, models
from tests.make import make_spec

FREE = Gate(rule="better", on_doubt="ask", max_disagreement=None, max_label_shift=None)
RMSE = "neg_root_mean_squared_error"


def few_count(rows: int, count: int) -> np.ndarray:
    """Weights of which only the first `count` are above zero."""
    return np.where(np.arange(rows) < count, 1.0, 0.0)


def right_where(y: np.ndarray, right: np.ndarray) -> Scored:
    return Scored(y, np.where(right, y, 1 - y), None, (0, 1))


# Weights: rows that count for nothing are no evidence.


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_a_few_rows_that_carry_all_the_weight_cannot_promote(metric: str) -> None:
    y, first = np.random.default_rng(0).integers(0, 2, 1000), np.arange(1000) < 5
    mine = right_where(y, first | (np.random.default_rng(1).random(1000) < 0.8))
    found = judged(mine, right_where(y, ~first), FREE, metric, weights=few_count(1000, 5))
    assert found.outcome == "refuse"
    assert "5 effective rows (of 1,000, by their weights), fewer than the 100" in found.reasons[0]


def test_weights_that_differ_a_little_leave_nearly_all_rows() -> None:
    weights = np.random.default_rng(0).uniform(0.5, 1.5, 2000)
    assert judged(*models(2000, 0.05), FREE, weights=weights).outcome == "promote"
    assert (
        judged(*models(2000, 0.05), Gate(min_rows=1900, anchor=Anchor(rows=0)), weights=weights).outcome
        == "refuse"
    )
    assert judged(*models(2000, 0.05), FREE, weights=np.full(2000, 0.1)).outcome == "promote"


def test_only_differing_rows_that_count_show_anything() -> None:
    y = np.tile([0, 1], 300)
    champion = right_where(y, np.arange(600) % 5 > 0)
    better = np.flatnonzero(champion.prediction != y)
    said = champion.prediction.copy()
    said[better] = y[better]
    mine, weights = replace(champion, prediction=said), np.ones(600)
    weights[better[3:]] = 0.0
    assert compare(mine, champion, "f1_macro", confidence=0.95).p_better > 0.99
    assert compare(mine, champion, "f1_macro", confidence=0.95, weights=weights).p_better <= 1 - 0.5**4
    weights[better[3:]] = 1e-9
    assert compare(mine, champion, "f1_macro", confidence=0.95, weights=weights).p_better < 0.95


def test_a_class_whose_rows_count_for_nothing_does_not_narrow_an_interval() -> None:
    y = np.repeat([0, 1], [300, 300])
    perfect, weights = Scored(y, y, None, (0, 1)), np.ones(600)
    weights[304:] = 0.0  # four rows of the positive class are left
    found = compare(perfect, perfect, "recall", confidence=0.95, weights=weights)
    assert found.mine.low == pytest.approx(0.025 ** (1 / 4))


def test_a_slice_and_a_group_are_as_large_as_their_weights_let_them_be() -> None:
    mine, theirs = models(2000, 0.05)
    group = np.where(np.arange(2000) < 1000, "a", "b").astype(object)
    weights = np.where((group == "a") | (np.arange(2000) < 1005), 1.0, 0.0)
    found = judged(mine, theirs, FREE, slices={"g": group}, weights=weights)
    assert [one.value for one in found.slices] == ["a"]
    gate = Gate(fairness=Fairness(columns=["g"]))
    (guard,) = judge_fairness(mine, None, {"g": group}, gate, weights=weights)
    assert guard.outcome == "undecided" and np.isnan(guard.value)


def test_an_anchor_of_a_few_rows_that_count_cannot_tell_and_says_so() -> None:
    trusted = AnchorEvidence(*models(1000, -0.08, seed=5), 4, weights=few_count(1000, 60))
    found = judged(*models(2000, 0.05), FREE, anchor=trusted)
    assert found.anchor.outcome == "undecided" and "too few rows that count" in found.reasons[-1]
    whole = replace(trusted, weights=np.ones(1000))
    assert judged(*models(2000, 0.05), FREE, anchor=whole).anchor.outcome == "worse"


def test_heavy_weights_promote_equal_challengers_no_oftener_than_the_confidence_allows() -> None:
    promoted = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        y, weights = rng.normal(size=400), rng.lognormal(0, 1, 400)
        mine, theirs = (Scored(y, y + rng.normal(size=400)) for _ in range(2))
        found = compare(mine, theirs, RMSE, confidence=0.95, seed=seed, weights=weights, resamples=400)
        promoted += found.p_better >= 0.95
    assert promoted / 400 <= 0.05 + 0.022  # two standard errors of so many


# Probabilities.


def loud(mine: Scored, value: float = 0.999) -> Scored:
    """Probabilities of `value` for both classes: of a log loss nothing is better."""
    return replace(mine, probabilities=np.full((len(mine.y_true), 2), value))


def sure(scored: Scored) -> Scored:
    return replace(scored, probabilities=np.where(scored.prediction[:, None] == np.array([0, 1]), 0.8, 0.2))


@pytest.mark.parametrize("who", ["challenger", "champion", "guess", "anchor's challenger", "anchor's keeper"])
def test_probabilities_that_do_not_sum_to_one_are_refused_whoever_gives_them(who: str) -> None:
    mine, theirs = (sure(one) for one in models(2000, 0.03))
    fine = judged(mine, theirs, FREE, "neg_log_loss")
    assert fine.outcome != "refuse"
    given = {"challenger": mine, "champion": theirs, "guess": theirs}
    if who in given:
        given[who] = loud(given[who])
        champion = None if who == "guess" else given["champion"]
        found = judged(given["challenger"], champion, FREE, "neg_log_loss", baseline=given["guess"])
        assert any(f"2,000 rows of the {who}'s probabilities do not sum to 1" in one for one in found.reasons)
    else:
        pair = (loud(mine), theirs) if "challenger" in who else (mine, loud(theirs))
        found = judged(mine, theirs, FREE, "neg_log_loss", anchor=AnchorEvidence(*pair, 4))
        assert any("the anchor: 2,000 rows" in one for one in found.reasons), found.reasons
    assert found.outcome == "refuse"


def test_one_row_that_does_not_sum_to_one_is_enough_and_rounding_is_not() -> None:
    mine, theirs = (sure(one) for one in models(2000, 0.03))
    chances = mine.probabilities.copy()
    chances[:, 0] += 5e-4
    assert judged(replace(mine, probabilities=chances), theirs, FREE, "neg_log_loss").outcome != "refuse"
    chances[17, 0] += 2e-3
    found = judged(replace(mine, probabilities=chances), theirs, FREE, "neg_log_loss")
    assert found.outcome == "refuse" and "1 rows of the challenger's probabilities" in found.reasons[0]


# Fairness: every pair of groups.


def groups_with(*parts: tuple[str, int, float, float]) -> tuple[Scored, Scored, np.ndarray]:
    """Groups of (name, positives, the challenger's true positive rate, the champion's)."""
    y, group, said = [], [], ([], [])
    for name, count, *rates in parts:
        y += [1] * count + [0] * count
        group += [name] * 2 * count
        for answers, rate in zip(said, rates, strict=True):
            answers.extend([int(place < round(rate * count)) for place in range(count)] + [0] * count)
    both = [Scored(np.array(y), np.array(one), None, (0, 1)) for one in said]
    return both[0], both[1], np.array(group, dtype=object)


def fairness_of(*parts: tuple[str, int, float, float]):
    mine, theirs, group = groups_with(*parts)
    (found,) = judge_fairness(mine, theirs, {"g": group}, Gate(min_rows=20), positive=1)
    return found


def test_a_tiny_noisy_group_does_not_hide_a_gap_that_is_shown() -> None:
    large = (("a", 2500, 0.90, 1.0), ("b", 2500, 0.75, 1.0))
    assert fairness_of(*large).outcome == "worse"
    found = fairness_of(*large, ("c", 10, 0.70, 1.0))
    assert found.outcome == "worse" and found.value == pytest.approx(0.15)
    assert "0.9 in a, 0.75 in b" in found.detail and "the champion's gap is 0" in found.detail


def test_a_pair_is_held_against_its_own_gap_in_the_champion() -> None:
    found = fairness_of(("a", 2500, 0.9, 0.9), ("b", 2500, 0.7, 0.9), ("c", 2500, 0.5, 0.5))
    assert found.outcome == "worse" and "0.9 in a, 0.7 in b" in found.detail, "a and c were that far apart"
    same = fairness_of(("a", 2500, 0.9, 0.9), ("b", 2500, 0.7, 0.7), ("c", 2500, 0.5, 0.5))
    assert same.outcome == "ok" and same.value == pytest.approx(0.4)


def test_a_wide_gap_that_no_pair_shows_is_undecided() -> None:
    found = fairness_of(("a", 2500, 0.9, 0.9), ("b", 2500, 0.9, 0.9), ("c", 10, 0.7, 0.9))
    assert found.outcome == "undecided" and found.value == pytest.approx(0.2)


# Margins of errors.


def numbers(scale: float, *spreads: float, rows: int = 2000, seed: int = 0) -> list[Scored]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=rows) * scale
    return [Scored(y, y + rng.normal(size=rows) * scale * spread) for spread in spreads]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_gate_says_the_same_of_errors_in_any_unit(scale: float) -> None:
    good, bad = numbers(scale, 0.5, 2.0)
    found = judged(good, bad, FREE, RMSE, anchor=AnchorEvidence(bad, good, 4))
    assert found.outcome == "ask" and found.anchor.outcome == "worse"
    assert found.anchor.tolerance == pytest.approx(-0.01 * found.anchor.keeper_score)
    assert "1% of its error" in found.reasons[1]


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_a_slice_that_is_served_worse_blocks_errors_of_any_unit(scale: float) -> None:
    (good, bad), (small_bad, small_good) = numbers(scale, 0.1, 2.0), numbers(scale, 1.0, 0.1, rows=400)
    mine, theirs = (
        Scored(*(np.concatenate([getattr(a, f), getattr(b, f)]) for f in ("y_true", "prediction")))
        for a, b in ((good, small_bad), (bad, small_good))
    )
    found = judged(mine, theirs, FREE, RMSE, slices={"g": np.repeat(["main", "small"], [2000, 400])})
    assert found.outcome == "keep" and "worse on g=small" in found.reasons[0]
    assert "more than 1% of the champion's error" in found.reasons[0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_gain_is_ruled_out_as_a_share_of_the_champions_error(scale: float) -> None:
    rng = np.random.default_rng(0)
    y, noise = rng.normal(size=(2, 4000)) * scale
    theirs = Scored(y, y + noise)
    mine = Scored(y, y + noise * (1 + rng.choice([-1e-3, 1e-3], 4000)))
    found = judged(mine, theirs, FREE, RMSE)
    assert found.outcome == "keep", found.reasons
    assert "(1% of the opponent's error) is ruled out" in found.reasons[0]
    wide = judged(mine, theirs, Gate(margin=0.0, max_disagreement=None), RMSE)
    assert wide.outcome in ("undecided", "promote", "keep") and "% of" not in wide.reasons[0]


@pytest.mark.parametrize("metric", ["r2", "d2_absolute_error_score"])
def test_scores_that_are_no_errors_keep_their_margin_as_it_is(metric: str) -> None:
    good, bad = numbers(1e-3, 0.5, 0.9)
    found = judged(good, bad, FREE, metric, anchor=AnchorEvidence(good, bad, 4))
    assert found.anchor.tolerance == 0.01


def test_log_loss_keeps_its_margin_as_it_is() -> None:
    mine, theirs = (sure(one) for one in models(2000, 0.03))
    trusted = AnchorEvidence(mine, theirs, 4)
    assert judged(mine, theirs, FREE, "neg_log_loss", anchor=trusted).anchor.tolerance == 0.01


# Metrics that resampling cannot judge.


def test_the_largest_error_never_promotes_and_names_another_metric() -> None:
    found = judged(*numbers(1.0, 0.1, 2.0), FREE, "neg_max_error")
    assert found.outcome == "refuse"
    assert "neg_max_error" in found.reasons[0] and RMSE in found.reasons[0]


def test_the_share_of_wins_is_as_careful_about_few_rows_as_the_interval() -> None:
    gains = np.random.default_rng(0).normal(1.7, 1, 4000)
    draws = np.column_stack([gains, np.zeros(4000)])
    few, many = (
        concluded((1.7, 0.0), draws, rows=rows, differing=rows, confidence=0.9) for rows in (8, 10**6)
    )
    assert many.p_better == pytest.approx((gains > 0).mean(), abs=1e-4) and few.p_better < many.p_better
    for rows in (8, 30, 300):
        one = concluded((1.7, 0.0), draws, rows=rows, differing=60, confidence=0.9)
        sure_of = percentile_interval(1.7, gains, 2 * one.p_better - 1, rows=rows)
        assert sure_of.low == pytest.approx(0, abs=0.02), "its one-sided interval starts at nothing"
    losing = concluded((-1.7, 0.0), -draws, rows=8, differing=8, confidence=0.9)
    assert losing.p_better == pytest.approx(1 - few.p_better, abs=1e-9) or few.p_better == 1 - 0.5**9


def test_a_handful_of_normal_rows_promotes_no_oftener_than_the_confidence_allows() -> None:
    won = 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=12)
        mine, theirs = (Scored(y, y + rng.normal(size=12)) for _ in range(2))
        won += compare(mine, theirs, "neg_mean_squared_error", confidence=0.95, seed=seed).p_better >= 0.95
    assert won / 600 <= stats.binom.ppf(0.99, 600, 0.06) / 600


@pytest.mark.parametrize("metric", ["positive_likelihood_ratio", "neg_negative_likelihood_ratio"])
@pytest.mark.parametrize("always", [0, 1])
def test_a_likelihood_ratio_is_compared_with_that_of_a_model_that_knows_nothing(
    metric: str, always: int
) -> None:
    y = np.tile([0, 1], 1000)
    mine = right_where(y, np.random.default_rng(0).random(2000) < 0.8)
    guess = Scored(y, np.full(2000, always), None, (0, 1))
    found = judged(mine, None, FREE, metric, baseline=guess)
    assert found.outcome == "promote" and abs(found.baseline_score) == 1
    assert judged(guess, mine, FREE, metric).outcome == "keep"


# The spec, and the guess.


def test_an_anchor_with_fewer_rows_than_a_comparison_needs_is_a_mistake_in_the_spec() -> None:
    for rows in (1, 99):
        with pytest.raises(ValidationError, match=r"anchor.rows .* 0 .* at least min_rows \(100\)"):
            Gate(anchor=Anchor(rows=rows))
    with pytest.raises(ValidationError, match="at least min_rows"):
        Gate(min_rows=4000, anchor=Anchor(rows=1000))
    assert Gate(min_rows=4000).anchor.rows == 0, "the default is no anchor"
    assert Gate(anchor=Anchor(rows=0), min_rows=4000).anchor.rows == 0
    assert Gate(anchor=Anchor(rows=100)).anchor.rows == 100


def test_a_guess_keeps_labels_that_are_longer_than_the_models_answers() -> None:
    y = np.array(["no"] * 60 + ["maybe so"] * 40, dtype=object)
    scored = Scored(y, np.array(["no"] * 100), np.full((100, 2), 0.5), ("maybe so", "no"))
    assert set(guessed(make_spec(), (("maybe so", 0.6), ("no", 0.4)), scored).prediction) == {"maybe so"}
    whole = Scored(np.array([0, 1]), np.array([0, 1]), None, (0, 1))
    assert guessed(make_spec(), ((0, 0.4), (1, 0.6)), whole).prediction.tolist() == [1, 1]
