from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import recall_score

from tasks.core.evaluation.guards.disagreement import judge_disagreement
from tasks.core.evaluation.guards.fairness import judge_fairness
from tasks.core.evaluation.guards.label_shift import judge_label_shift
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec_gate import Fairness, Gate


def said(prediction, truth=None) -> Scored:
    prediction = np.asarray(prediction)
    return Scored(prediction if truth is None else np.asarray(truth), prediction)


def fairness(measure: str = "true_positive_rate", **more) -> Gate:
    return Gate(fairness=Fairness(columns=["g"], measure=measure, **more))


# Disagreement.


def test_disagreement_is_the_share_of_rows_with_different_labels() -> None:
    found = judge_disagreement(said(["a", "b", "a", "c"]), said(["a", "b", "b", "b"]), 0.4)
    assert (found.name, found.outcome, found.value, found.limit) == ("disagreement", "worse", 0.5, 0.4)
    assert found.detail == "different labels on 50.0% of 4 rows, limit 40.0%"
    assert judge_disagreement(said(["a", "b"]), said(["b", "b"]), 0.5).outcome == "ok", "at the limit"


def test_labels_that_are_equal_numbers_of_another_type_do_not_disagree() -> None:
    assert judge_disagreement(said([0, 1, 1]), said([0.0, 1.0, 1.0]), 0.0).value == 0
    assert judge_disagreement(said(np.array(["0", "1"], dtype=object)), said([0, 1]), 0.5).value == 1


def test_no_limit_or_no_rows_is_no_guard() -> None:
    assert judge_disagreement(said([1]), said([0]), None) is None
    assert judge_disagreement(said([]), said([]), 0.5) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.randoms())
def test_disagreement_is_symmetric_and_blind_to_the_order_of_rows(pairs, random) -> None:
    one, other = zip(*pairs, strict=True)
    value = judge_disagreement(said(one), said(other), 0.5).value
    assert value == judge_disagreement(said(other), said(one), 0.5).value
    random.shuffle(pairs)
    one, other = zip(*pairs, strict=True)
    assert value == judge_disagreement(said(one), said(other), 0.5).value


# Label shift.


def test_the_shift_of_two_classes_is_that_of_their_shares_less_what_chance_gives() -> None:
    train, now = np.repeat(["n", "y"], [7000, 3000]), np.repeat(["n", "y"], [200, 800])
    found = judge_label_shift(train, now, 0.4, numbers=False)
    chance = np.sqrt(2 / np.pi * 0.45 * 0.55 * (1 / 10_000 + 1 / 1000))
    assert found.value == pytest.approx(0.5 - chance) and found.outcome == "worse"
    shares = judge_label_shift({"n": 7, "y": 3}, now, 0.5, numbers=False)
    assert shares.value == pytest.approx(0.5, abs=0.02) and shares.outcome == "ok"


def test_many_classes_on_few_rows_are_not_called_shifted_by_chance() -> None:
    rng = np.random.default_rng(0)
    found = [
        judge_label_shift(rng.integers(0, 40, 3000), rng.integers(0, 40, 100), 0.1, numbers=False).value
        for _ in range(50)
    ]
    assert np.mean(found) < 0.03 and max(found) < 0.1


def test_classes_that_only_one_side_knows_are_shifted_entirely() -> None:
    found = judge_label_shift(np.zeros(500, int), np.array(["0"] * 500, dtype=object), 0.3, numbers=False)
    assert found.outcome == "worse" and found.value == pytest.approx(1, abs=0.05)


def test_the_shift_of_numbers_is_their_kolmogorov_smirnov_distance_less_chance() -> None:
    rng = np.random.default_rng(1)
    train, now = rng.normal(size=4000), rng.normal(0.5, 1, 1000)
    found = judge_label_shift(train, now, 0.1, numbers=True)
    theirs = stats.ks_2samp(train, now).statistic - stats.kstwobign.mean() * np.sqrt(1 / 4000 + 1 / 1000)
    assert found.value == pytest.approx(theirs, abs=1e-5) and found.outcome == "worse"
    same = [judge_label_shift(train, rng.normal(size=100), 0.1, numbers=True).outcome for _ in range(50)]
    assert same.count("worse") <= 1


def test_numbers_of_which_only_shares_are_known_cannot_be_told() -> None:
    found = judge_label_shift({1.0: 0.5, 2.0: 0.5}, np.arange(100.0), 0.3, numbers=True)
    assert found.outcome == "undecided" and np.isnan(found.value)


def test_without_limit_labels_or_rows_there_is_no_label_guard() -> None:
    assert judge_label_shift(np.zeros(5), np.ones(5), None, numbers=False) is None
    assert judge_label_shift(None, np.ones(5), 0.3, numbers=False) is None
    assert judge_label_shift({}, np.ones(5), 0.3, numbers=False) is None
    assert judge_label_shift(np.zeros(5), np.ones(0), 0.3, numbers=False) is None


# Fairness.


def uneven(rows: int = 1000, seed: int = 0) -> tuple[Scored, np.ndarray]:
    """Right on group a; blind to 30 % of the positives of group b; group c is too small."""
    rng = np.random.default_rng(seed)
    group = np.array(["a"] * rows + ["b"] * rows + ["c"] * 50, dtype=object)
    y = np.where(rng.random(len(group)) < 0.4, "yes", "no").astype(object)
    missed = (group == "b") & (y == "yes") & (rng.random(len(group)) < 0.3)
    prediction = np.where(missed | (group == "c"), "no", y).astype(object)
    return Scored(y, prediction, None, ("no", "yes")), group


def test_the_gap_is_between_the_groups_that_scikit_learn_puts_furthest_apart() -> None:
    scored, group = uneven()
    (found,) = judge_fairness(scored, None, {"g": group}, fairness())
    rates = [
        recall_score(scored.y_true[group == g], scored.prediction[group == g], pos_label="yes") for g in "ab"
    ]
    assert found.value == pytest.approx(rates[0] - rates[1]) and found.outcome == "worse"
    assert found.detail.startswith("g: true positive rate 1 in a, 0.7") and "c" not in found.detail.split()


@pytest.mark.parametrize(
    ("measure", "gap"), [("selection_rate", 0.09), ("false_positive_rate", 0.0), ("error", 0.12)]
)
def test_each_measure_looks_at_its_own_rows(measure: str, gap: float) -> None:
    scored, group = uneven()
    (found,) = judge_fairness(scored, None, {"g": group}, fairness(measure, max_gap=0.05))
    assert found.value == pytest.approx(gap, abs=0.045)
    assert found.outcome == ("ok" if gap == 0 else "worse")


def test_the_positive_class_of_the_spec_is_the_one_that_is_looked_at() -> None:
    scored, group = uneven()
    (found,) = judge_fairness(scored, None, {"g": group}, fairness(), positive="no")
    assert found.value == 0, "everyone who is a no is called one"


def test_a_gap_that_the_champion_has_too_is_no_doubt() -> None:
    scored, group = uneven()
    (same,) = judge_fairness(scored, scored, {"g": group}, fairness())
    assert same.outcome == "ok" and same.value > 0.1 and "the champion's gap is 0.28" in same.detail
    even = Scored(scored.y_true, scored.y_true, None, scored.classes)
    assert judge_fairness(scored, even, {"g": group}, fairness())[0].outcome == "worse"
    assert judge_fairness(even, scored, {"g": group}, fairness())[0].outcome == "ok"


def test_equal_groups_are_seldom_called_unequal_though_their_gaps_look_large() -> None:
    outcomes, gaps = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        group, y = np.repeat(np.arange(6), 120), rng.integers(0, 2, 720)
        scored = Scored(y, np.where(rng.random(720) < 0.2, 1 - y, y), None, (0, 1))
        (found,) = judge_fairness(scored, None, {"g": group}, fairness())
        outcomes.append(found.outcome)
        gaps.append(found.value)
    assert np.mean(np.array(gaps) > 0.1) > 0.5, "chance alone exceeds the limit"
    assert outcomes.count("worse") / 200 <= 0.05
    assert outcomes.count("undecided") > 80


def test_one_group_that_is_large_enough_cannot_be_compared() -> None:
    scored, group = uneven()
    (found,) = judge_fairness(scored, None, {"g": np.where(group == "c", "c", "a")}, fairness())
    assert found.outcome == "undecided" and np.isnan(found.value)


def test_several_classes_without_a_positive_one_compare_errors() -> None:
    y = np.tile([0, 1, 2], 400)
    group = np.repeat(["a", "b"], 600)
    scored = Scored(y, np.where((group == "b") & (y == 2), 0, y), None, (0, 1, 2))
    (found,) = judge_fairness(scored, None, {"g": group}, fairness())
    assert found.value == pytest.approx(1 / 3) and "error 0.3333 in b, 0 in a" in found.detail
    (named,) = judge_fairness(scored, None, {"g": group}, fairness(), positive=2)
    assert named.value == 1 and "true positive rate" in named.detail


def test_numbers_compare_mean_absolute_errors_as_a_share_of_the_largest() -> None:
    y, group = np.zeros(400), np.repeat(["a", "b"], 200)
    wobble = 0.1 * np.tile([-1, 1], 200)
    scored = Scored(y, np.where(group == "b", 4.0, 3.0) + wobble)
    (found,) = judge_fairness(scored, None, {"g": group}, fairness(max_gap=0.2), numbers=True)
    assert found.value == pytest.approx(0.25) and found.outcome == "worse"
    exact = Scored(y, y)
    assert judge_fairness(exact, None, {"g": group}, fairness(), numbers=True)[0].value == 0


def test_weights_move_a_groups_rate() -> None:
    y, group = np.ones(400, int), np.repeat(["a", "b"], 200)
    y[::7] = 0
    right = np.tile([True, False], 200)
    scored = Scored(y, np.where(right | (group == "a"), y, 1 - y), None, (0, 1))
    weights = np.where(right, 9.0, 1.0)
    plain = judge_fairness(scored, None, {"g": group}, fairness("error"))[0].value
    heavy = judge_fairness(scored, None, {"g": group}, fairness("error"), weights=weights)[0].value
    assert (plain, heavy) == (pytest.approx(0.5), pytest.approx(0.1))


def test_without_declared_groups_there_is_no_fairness_guard() -> None:
    assert judge_fairness(uneven()[0], None, {}, fairness()) == ()
