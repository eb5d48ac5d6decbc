"""Predictions that move, groups that fall behind and probabilities that mislead, on rows of known truth."""

from __future__ import annotations

from functools import cache
from itertools import count

import numpy as np
import pandas as pd
import pytest

from tasks.core.drift.profile import Reference, build_reference
from tasks.core.health.chances import served_chances
from tasks.core.health.shift import judge_shift, scores_of_training, scores_of_windows
from tasks.core.health.slices import judge_slices, past_of
from tests.make import make_frame, make_spec

SPEC = make_spec()


def answers(p: np.ndarray) -> pd.DataFrame:
    """Return what a classifier with these chances of class 1 would have logged."""
    return pd.DataFrame(
        {
            "prediction": pd.Series((p > 0.5).astype(int).tolist(), dtype=object),
            "score": np.column_stack([1 - p, p]).tolist(),
        }
    )


def chances(rows: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).beta(2 + shift, 5, rows)


@cache
def reference(deep: bool = False) -> Reference:
    frame, p = make_frame(3000, seed=1), chances(3000, 0)
    scores = np.column_stack([1 - p, p])
    return build_reference(frame, SPEC, scores=scores, times=frame["event_time"], deep=deep)


# Predictions.


def test_predictions_as_in_training_are_fine_and_others_are_not() -> None:
    trained = scores_of_training(reference())
    same = judge_shift(SPEC, answers(chances(1000, 7)), trained, trained={"0": 700, "1": 300})
    assert (same.outcome, same.moved, same.rows, same.reference_rows) == ("ok", False, 1000, 3000)
    moved = judge_shift(SPEC, answers(chances(1000, 7, shift=1.5)), trained)
    assert (moved.outcome, moved.moved) == ("drift", True)
    assert moved.value is not None
    assert moved.value >= (moved.threshold or 0)
    assert "against the scores of rows it was not fitted on" in moved.reason


def test_the_class_balance_is_shown_beside_that_of_training() -> None:
    p = np.repeat([0.2, 0.9], [600, 400])
    found = judge_shift(SPEC, answers(p), scores_of_training(reference()), trained={"0": 700, "1": 300})
    assert found.classes == {"0": 0.6, "1": 0.4}
    assert found.reference_classes == {"0": 0.7, "1": 0.3}
    assert found.mean == pytest.approx(0.48)
    assert found.summary()["classes"] == {"0": 0.6, "1": 0.4}


@pytest.mark.parametrize("rows", [200, 1500])
def test_predictions_that_did_not_move_alarm_within_the_budget(rows: int) -> None:
    p = chances(20_000, 100)
    trained = scores_of_windows(SPEC, answers(p))
    alarms = [
        judge_shift(SPEC, answers(chances(rows, seed)), trained).outcome in {"drift", "warn"}
        for seed in range(1000, 1150)
    ]
    # One in a hundred is budgeted; 150 windows then hold at most 5 with a chance of 99 %.
    assert sum(alarms) <= 5


def test_the_budget_is_the_scores_own_where_a_calibration_shares_it_with_the_inputs() -> None:
    whole = reference(deep=True)
    alone = scores_of_training(whole)
    assert alone is not None
    assert whole.calibration is not None
    assert alone.calibration is not None
    assert set(alone.calibration.levels) == {SPEC.drift.false_alarms}
    assert alone.calibration.dispersions == whole.calibration.dispersions
    assert judge_shift(SPEC, answers(chances(1000, 7)), alone).outcome == "ok"


def test_a_reference_without_scores_gives_way_to_the_first_windows() -> None:
    bare = build_reference(make_frame(500), SPEC, deep=False)
    assert scores_of_training(bare) is None
    first = scores_of_windows(SPEC, answers(chances(900, 1)))
    assert judge_shift(SPEC, answers(chances(900, 2)), first, against="its first 3 windows").outcome == "ok"
    found = judge_shift(SPEC, answers(chances(900, 2, shift=2)), first, against="its first 3 windows")
    assert (found.outcome, found.against) == ("drift", "its first 3 windows")


def test_text_classes_without_probabilities_are_compared_by_their_shares() -> None:
    rng = np.random.default_rng(3)

    def said(*shares: float) -> pd.DataFrame:
        drawn = rng.choice(["low", "mid", "high"], 1200, p=shares)
        return pd.DataFrame({"prediction": pd.Series(drawn.tolist(), dtype=object), "score": [None] * 1200})

    first = scores_of_windows(SPEC, said(0.5, 0.3, 0.2))
    assert judge_shift(SPEC, said(0.5, 0.3, 0.2), first).outcome == "ok"
    assert judge_shift(SPEC, said(0.1, 0.3, 0.6), first).outcome == "drift"


def test_numbers_of_a_regression_and_several_classes_are_compared_too() -> None:
    rng = np.random.default_rng(4)
    spec = make_spec(task="regression", metric="neg_mean_absolute_error",
                     estimator={"class": "sklearn.linear_model.Ridge"})  # fmt: skip
    numbers = [
        pd.DataFrame({"prediction": rng.normal(mean, 1, 800), "score": [None] * 800}) for mean in (0, 0, 1)
    ]
    first = scores_of_windows(spec, numbers[0])
    assert [judge_shift(spec, one, first).outcome for one in numbers[1:]] == ["ok", "drift"]
    assert judge_shift(spec, numbers[1], first).classes == {}
    many = [pd.DataFrame({"prediction": ["a"] * 800, "score": rng.dirichlet(weights, 800).tolist()})
            for weights in ((2, 2, 2), (2, 2, 2), (2, 2, 8))]  # fmt: skip
    three = scores_of_windows(SPEC, many[0])
    assert [judge_shift(SPEC, one, three).outcome for one in many[1:]] == ["ok", "drift"]
    wrong = judge_shift(SPEC, many[1], scores_of_training(reference()))
    assert (wrong.outcome, wrong.reason) == ("undecided", "3 scores per row, 1 in the reference")


def test_no_rows_few_rows_and_no_reference_are_undecided() -> None:
    trained = scores_of_training(reference())
    empty = pd.DataFrame({"prediction": pd.Series([], dtype=object), "score": pd.Series([], dtype=object)})
    assert judge_shift(SPEC, empty, trained).reason == "no predictions in this window"
    assert judge_shift(SPEC, answers(chances(20, 1)), trained).outcome == "undecided"
    assert judge_shift(SPEC, answers(chances(500, 1)), None).reason == "nothing to compare with"
    assert scores_of_windows(SPEC, empty) is None


# Probabilities.


def truth(p: np.ndarray, seed: int) -> list[int]:
    return (np.random.default_rng(seed).random(len(p)) < p).astype(int).tolist()


def test_right_probabilities_are_called_off_as_rarely_as_their_p_value_says() -> None:
    found = [
        served_chances(truth(p, seed), answers(p)["score"].tolist(), (0, 1), SPEC)
        for seed in range(80)
        for p in [chances(300, seed + 500)]
    ]
    values = np.array([one.p_value for one in found if one is not None])
    assert len(values) == 80
    assert (values <= 0.1).sum() <= 17  # 99.9 % of a binomial of 80 at 0.1
    assert values.mean() == pytest.approx(0.5, abs=0.1)


def test_probabilities_that_mislead_are_found_out() -> None:
    p = chances(2000, 1)
    sharper = 1 / (1 + (1 / p - 1) ** 2.5)  # overconfident: logits times 2.5
    found = served_chances(truth(p, 3), answers(sharper)["score"].tolist(), (0, 1), SPEC)
    assert found is not None
    assert found.p_value == 1 / 200
    assert found.slope == pytest.approx(1 / 2.5, abs=0.1)
    assert found.error > 2 * found.usual


def test_calibration_is_of_labelled_rows_with_probabilities_whatever_the_type_of_the_label() -> None:
    p = chances(200, 1)
    rows = answers(p)["score"].tolist()
    ones = [str(label) for label in truth(p, 2)]
    full = served_chances(ones, rows, (0, 1), SPEC)
    assert full is not None
    assert full.rows == 200
    part = served_chances([None, *ones[1:]], [*rows[:-1], None], (0, 1), SPEC)
    assert part is not None
    assert part.rows == 198
    assert served_chances(ones[:20], rows[:20], (0, 1), SPEC) is None
    assert served_chances(ones, [None] * 200, (0, 1), SPEC) is None
    assert served_chances(ones, rows, None, SPEC) is None


# Groups.

SLICED = make_spec(gate={"slices": ["plan", "region"]})
_seeds = count(40)


def served(
    rows: int = 1200, *, worse: str = "", seed: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return labelled predictions of an AUC of about 0.9, in the group `worse` of 0.5; and their groups."""
    rng = np.random.default_rng(next(_seeds) if seed is None else seed)
    groups = pd.DataFrame({"plan": rng.choice(["basic", "pro", "team"], rows, p=[0.5, 0.3, 0.2]),
                           "region": rng.choice(["north", "south"], rows)})  # fmt: skip
    y = (rng.random(rows) < 0.4).astype(int)
    helps = np.where(groups["plan"] == worse, 0.0, 1.8)
    p = 1 / (1 + np.exp(-(rng.normal(size=rows) + helps * y - 1)))
    found = answers(p)
    found["label"] = y.tolist()
    return found, groups


def judged(rows: pd.DataFrame, groups: pd.DataFrame, summaries=()):
    return judge_slices(rows, groups, (0, 1), SLICED, promise=0.9, past=past_of(summaries))


def test_a_group_that_falls_behind_is_found_though_the_average_hides_it() -> None:
    before = [judged(*served(), summaries=()).summary() for _ in range(6)]
    found = judged(*served(worse="team"), summaries=before)
    outcomes = {(one.column, one.value): one.outcome for one in found.slices}
    assert outcomes.pop(("plan", "team")) == "drift"
    assert (outcomes["plan", "basic"], outcomes["plan", "pro"]) == ("ok", "ok")
    assert found.outcome == "drift"
    assert found.reason.startswith("plan = team 0.")
    assert "usually 0.8" in found.reason or "usually 0.9" in found.reason


def test_a_group_that_always_was_harder_does_not_alarm() -> None:
    before = [judged(*served(worse="team")).summary() for _ in range(6)]
    assert judged(*served(worse="team"), summaries=before).outcome == "ok"


def test_groups_that_stay_as_they_are_alarm_in_few_windows() -> None:
    before = [judged(*served(seed=place)).summary() for place in range(6)]
    outcomes = [judged(*served(seed=seed), summaries=before).outcome for seed in range(100, 130)]
    assert (
        outcomes.count("drift") <= 4
    )  # at most 2.5 % of windows by the interval; 99.9 % of a binomial of 30


def test_without_earlier_windows_groups_are_measured_and_not_judged() -> None:
    found = judged(*served())
    assert found.outcome == "undecided"
    assert {one.value for one in found.slices} == {"basic", "pro", "team", "north", "south"}
    assert all(0.85 < one.score < 0.97 for one in found.slices)
    assert found.calibration is not None


def test_small_groups_and_columns_that_were_not_logged_are_left_out_and_named() -> None:
    rows, groups = served()
    groups["plan"] = ["tiny"] * 20 + ["big"] * (len(groups) - 20)
    found = judged(rows, groups.drop(columns="region"))
    assert [one.value for one in found.slices] == ["big"]
    assert found.unknown == ("region",)
    assert "values of region are not logged" in found.reason
    bare = judge_slices(rows, groups, (0, 1), SPEC, promise=0.9)
    assert (bare.outcome, bare.reason, bare.slices) == ("undecided", "the spec names no slices", ())


def test_no_labelled_row_is_undecided() -> None:
    rows, groups = served(10)
    assert judged(rows.iloc[:0], groups.iloc[:0]).outcome == "undecided"


def test_a_bad_window_does_not_become_what_is_usual() -> None:
    one = {"column": "plan", "value": "pro", "score": 0.9, "low": 0.88, "high": 0.92, "outcome": "ok"}
    past = past_of([{"slices": [one]}, {"slices": [{**one, "score": 0.5, "outcome": "drift"}]},
                    {"slices": [{**one, "score": None}]}, {}])  # fmt: skip
    assert past == {("plan", "pro"): [(0.9, pytest.approx(0.02))]}
