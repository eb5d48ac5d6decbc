from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.core.evaluation.gate import AnchorEvidence, Worth
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec_gate import Anchor, Fairness, Gate, Value
from tests.gates import GATE, anchor, judged, models
from tests.make import START

# Promote, keep, or not enough evidence.


def test_what_is_shown_to_be_better_is_promoted_and_the_other_way_round_kept() -> None:
    mine, theirs = models(2000, 0.03)
    found, swapped = judged(mine, theirs), judged(theirs, mine)
    assert found.outcome == "promote" and found.reasons[0].startswith("better than the champion by 0.03 (")
    assert swapped.outcome == "keep" and swapped.difference == -found.difference
    assert found.p_better > 0.95 and swapped.p_better < 0.05
    assert (found.mcnemar.only_challenger, found.mcnemar.only_champion) == (130, 70)
    assert (swapped.mcnemar.only_challenger, swapped.mcnemar.only_champion) == (70, 130)


def test_a_small_gain_on_few_rows_is_undecided_and_says_how_many_rows_would_tell() -> None:
    found = judged(*models(200, 0.02))
    assert found.outcome == "undecided" and found.low < 0 < GATE.margin < found.high
    assert found.needed_rows is not None and 200 < found.needed_rows < 20_000
    assert f"about {found.needed_rows:,} rows would" in found.reasons[0]
    assert found.sentence().startswith("not enough evidence: 200 rows do not tell")
    enough = judged(*models(2 * found.needed_rows, 0.02))
    assert enough.outcome == "promote"


def test_no_gain_on_many_rows_is_kept_because_the_margin_is_ruled_out() -> None:
    found = judged(*models(20_000, 0.0))
    assert found.outcome == "keep" and 0 < found.high < GATE.margin
    assert "a gain of 0.01 is ruled out" in found.reasons[0]


def test_no_gain_on_few_rows_is_undecided_without_a_number_of_rows() -> None:
    found = judged(*models(200, 0.0))
    assert found.outcome == "undecided" and found.needed_rows is None
    assert "it is not ahead" in found.reasons[0]


def test_equal_answers_are_kept_however_few_the_rows() -> None:
    mine, _ = models(120, 0.0)
    found = judged(mine, mine)
    assert found.outcome == "keep" and found.difference == 0


def test_a_flaw_keeps_the_champion_where_the_difference_alone_is_not_enough_evidence() -> None:
    found = judged(*models(200, 0.02), Gate(floor=0.95))
    assert found.outcome == "keep" and "below the floor 0.95" in found.reasons[0]


def test_a_challenger_no_better_than_a_guess_is_kept_though_it_beats_the_champion() -> None:
    rng = np.random.default_rng(2)
    y = (rng.random(2000) < 0.9).astype(int)
    always = np.ones(2000, int)
    mine, theirs = np.where(rng.random(2000) < 0.03, 0, 1), np.where(rng.random(2000) < 0.2, 0, 1)
    said = [Scored(y, answer, None, (0, 1)) for answer in (mine, theirs, always)]
    without, found = judged(*said[:2]), judged(*said[:2], baseline=said[2])
    assert without.outcome == "promote" and found.outcome == "keep"
    assert "no better than a guess" in found.reasons[0]
    assert [(one.name, one.outcome) for one in found.baselines] == [("dummy", "worse")]
    assert found.baseline_score == pytest.approx(y.mean()) and found.champion_score == pytest.approx(
        (y == theirs).mean()
    )


def test_a_linear_model_is_compared_and_decides_nothing() -> None:
    mine, theirs = models(2000, 0.03)
    perfect = Scored(mine.y_true, mine.y_true, None, (0, 1))
    found = judged(mine, theirs, linear=perfect)
    assert found.outcome == "promote"
    assert [(one.name, one.outcome, one.score) for one in found.baselines] == [("linear", "worse", 1.0)]
    assert found.baselines[0].difference == pytest.approx(found.challenger_score - 1)


def test_a_first_model_that_is_better_than_a_guess_is_promoted_beside_a_linear_one() -> None:
    mine, guess = models(2000, 0.1, differ=0.3)
    found = judged(mine, None, baseline=guess, linear=mine)
    assert found.outcome == "promote" and [one.name for one in found.baselines] == ["dummy", "linear"]
    assert np.isnan(found.champion_score) and found.mcnemar is None and found.anchor is None
    few = judged(*[models(150, 0.03)[0], None], baseline=models(150, 0.03)[1])
    assert few.outcome == "keep" and "rows would" in few.reasons[0]


# What speaks against a challenger that is better.


DOUBTS = {
    "anchor": ({"anchor": anchor(-0.08)}, GATE, "worse than version 4 on the 1,000 trusted rows"),
    "disagreement": ({}, Gate(max_disagreement=0.05), "different labels on 10.0% of 2,000 rows"),
    "labels": ({"train_labels": {0: 0.98, 1: 0.02}}, GATE, "labels 4"),
    "value": (
        {"worth": Worth(np.zeros(2000), np.tile([1.0, 2.0], 1000))},
        Gate(value=Value(outcomes={"1>1": 1}, decides=True, currency="EUR")),
        "worth per row 0 EUR against 1.5 EUR",
    ),
}


@pytest.mark.parametrize("kind", DOUBTS)
@pytest.mark.parametrize(("on_doubt", "outcome"), [("ask", "ask"), ("keep", "keep"), ("tell", "promote")])
def test_a_doubt_about_a_better_challenger_does_what_the_spec_says(
    kind: str, on_doubt: str, outcome: str
) -> None:
    more, gate, words = DOUBTS[kind]
    found = judged(*models(2000, 0.03), gate.model_copy(update={"on_doubt": on_doubt}), **more)
    assert found.outcome == outcome
    assert found.reasons[0].startswith("better than the champion")
    assert any(words in reason for reason in found.reasons[1:]), found.reasons
    assert found.doubts == found.reasons[1:]


def test_no_doubt_makes_a_challenger_good_or_changes_what_the_rows_say() -> None:
    for kind, (more, gate, _) in DOUBTS.items():
        found = judged(*models(2000, -0.03), gate, **more)
        assert found.outcome == "keep" and found.doubts and found.doubts[0] not in found.reasons, kind
    assert judged(*models(2000, -0.03), anchor=anchor(0.08)).outcome == "keep"


def test_the_anchor_tolerates_a_loss_that_is_not_shown_or_within_its_tolerance() -> None:
    pair = models(2000, 0.03)
    small = judged(*pair, anchor=anchor(-0.012))
    assert (
        small.outcome == "promote" and small.anchor.outcome == "ok" and small.anchor.tolerance == GATE.margin
    )
    assert small.anchor.difference == pytest.approx(-0.012)
    assert small.anchor.low < -GATE.margin and small.anchor.high > 0
    wide = Gate(anchor=Anchor(tolerance=0.1))
    assert judged(*pair, anchor=anchor(-0.08)).anchor.outcome == "worse"
    assert judged(*pair, wide, anchor=anchor(-0.08)).outcome == "promote"


def test_the_anchor_of_a_first_keeper_only_scores() -> None:
    found = judged(*models(2000, 0.03), anchor=replace(anchor(0.0), keeper=None, keeper_version=None)).anchor
    assert found.outcome == "ok" and found.score == pytest.approx(0.85) and np.isnan(found.difference)
    assert (found.rows, found.sha256, found.fixed_at) == (1000, "a" * 64, START)


def test_an_anchor_that_cannot_tell_is_reported_and_does_not_block() -> None:
    rng = np.random.default_rng(0)
    y, x = np.tile([0, 1], 1000), rng.random(2000)
    better = np.clip(0.3 * x + 0.6 * y, 0, 1)
    mine, theirs = (
        Scored(y, (p > 0.5).astype(int), np.column_stack([1 - p, p]), (0, 1)) for p in (better, x)
    )
    one_class = [replace(one, y_true=np.zeros(2000, int)) for one in (mine, theirs)]
    found = judged(mine, theirs, Gate(max_disagreement=None), "roc_auc", anchor=AnchorEvidence(*one_class, 4))
    assert found.outcome == "promote" and found.anchor.outcome == "undecided"
    assert "cannot tell" in found.reasons[1] and found.doubts == ()


def test_a_gap_between_groups_that_the_champion_does_not_have_is_a_doubt() -> None:
    rng = np.random.default_rng(1)
    y, group = rng.integers(0, 2, 3000), np.repeat(["a", "b"], 1500).astype(object)
    missed = (group == "b") & (y == 1) & (rng.random(3000) < 0.4)
    mine = Scored(y, np.where(missed, 0, y), None, (0, 1))
    theirs = Scored(y, np.where(rng.random(3000) < 0.3, 1 - y, y), None, (0, 1))
    gate = Gate(on_doubt="ask", fairness=Fairness(columns=["group"]))
    found = judged(mine, theirs, gate, groups={"group": group})
    assert found.outcome == "ask" and found.guards[-1].name == "fairness"
    assert found.guards[-1].value == pytest.approx(0.4, abs=0.05)
    assert "true positive rate 1 in a, 0.6" in found.reasons[1]
    worse_before = Scored(y, np.where((group == "b") & (y == 1), 0, y), None, (0, 1))
    assert judged(mine, worse_before, gate, groups={"group": group}).outcome == "promote"


# Slices.


def test_a_slice_without_the_positive_class_cannot_be_told_and_is_not_judged_on_the_other() -> None:
    y = np.concatenate([np.zeros(500, int), np.tile([0, 1], 1000)])
    group = np.array(["none"] * 500 + ["both"] * 2000)
    rng = np.random.default_rng(0)
    mine, theirs = (
        Scored(y, np.where(rng.random(2500) < wrong, 1 - y, y), None, None) for wrong in (0.1, 0.2)
    )
    found = judged(mine, theirs, metric="recall", slices={"g": group})
    assert [(one.value, one.outcome) for one in found.slices] == [("both", "ok"), ("none", "undecided")]
    assert found.outcome == "promote"


def test_a_slice_is_weighted_as_the_whole_is() -> None:
    mine, theirs = models(2000, 0.03)
    worse = (mine.prediction != mine.y_true) & (theirs.prediction == theirs.y_true)
    group = np.where(np.arange(2000) % 2, "odd", "even")
    weights = np.where(worse & (group == "odd"), 8.0, 1.0)
    plain = judged(mine, theirs, slices={"g": group})
    heavy = judged(mine, theirs, slices={"g": group}, weights=weights)
    assert plain.outcome == "promote" and {one.outcome for one in plain.slices} == {"ok"}
    assert {one.value: one.outcome for one in heavy.slices} == {"odd": "worse", "even": "ok"}
    assert heavy.outcome == "keep" and any("worse on g=odd" in reason for reason in heavy.reasons)


# Kinds of models.


def test_weights_decide_which_rows_count() -> None:
    y = np.tile([0, 1], 1000)
    early = np.arange(2000) < 1000
    mine, theirs = (Scored(y, np.where(right, y, 1 - y), None, (0, 1)) for right in (early, ~early))
    rng = np.random.default_rng(0)
    weights = np.where(early, 3.0, 1.0) * rng.uniform(0.5, 1.5, 2000)
    found, swapped = judged(mine, theirs, weights=weights), judged(theirs, mine, weights=weights)
    assert found.outcome == "ask" and swapped.outcome == "keep", "they differ on every row"
    assert found.challenger_score == pytest.approx(weights[early].sum() / weights.sum())
    assert judged(mine, theirs).outcome == "undecided" or judged(mine, theirs).outcome == "keep"


def test_string_labels_of_three_classes_are_guarded_too() -> None:
    rng = np.random.default_rng(3)
    names = np.array(["low", "mid", "high"], dtype=object)
    code = rng.integers(0, 3, 1500)

    def said(right: float) -> Scored:
        chance = np.full((1500, 3), (1 - right) / 2)
        chance[np.arange(1500), np.where(rng.random(1500) < right, code, (code + 1) % 3)] = right
        chance /= chance.sum(axis=1, keepdims=True)
        return Scored(names[code], names[chance.argmax(axis=1)], chance, tuple(names))

    mine, theirs = said(0.9), said(0.7)
    gate = Gate(on_doubt="ask", fairness=Fairness(columns=["g"]), max_disagreement=0.6)
    group = np.where(rng.random(1500) < 0.5, "x", "y")
    train = np.array(["low"] * 900 + ["mid"] * 50 + ["high"] * 50, dtype=object)
    found = judged(mine, theirs, gate, "f1_macro", groups={"g": group}, train_labels=train)
    assert found.outcome == "ask" and [one.name for one in found.guards] == [
        "disagreement",
        "label shift",
        "fairness",
    ]
    assert [one.outcome for one in found.guards] == ["ok", "worse", "ok"]
    assert found.guards[1].value == pytest.approx(0.9 - (code == 0).mean(), abs=0.03)
    assert found.calibration.error < 0.05 and np.isnan(found.calibration.slope)
    assert judged(mine, theirs, gate, "f1_macro", groups={"g": group}).outcome == "promote"


def test_a_regression_is_guarded_by_its_labels_groups_and_worth() -> None:
    rng = np.random.default_rng(4)
    y, group = rng.normal(10, 1, 2000), np.repeat(["a", "b"], 1000)
    mine = Scored(y, y + rng.normal(0, np.where(group == "a", 0.1, 1.0)))
    theirs = Scored(y, y + rng.normal(0, 1.5, 2000))
    gate = Gate(
        on_doubt="ask",
        fairness=Fairness(columns=["g"], max_gap=0.3),
        value=Value(function="a.b:c"),
        floor=2.0,
    )
    worth = Worth(-np.abs(mine.prediction - y), -np.abs(theirs.prediction - y))
    found = judged(
        mine,
        theirs,
        gate,
        "neg_root_mean_squared_error",
        groups={"g": group},
        train_labels=rng.normal(8, 1, 5000),
        worth=worth,
    )
    assert [(one.name, one.outcome) for one in found.guards] == [
        ("label shift", "worse"),
        ("fairness", "worse"),
    ]
    assert found.guards[0].value == pytest.approx(0.68, abs=0.05)
    assert (
        found.guards[1].value == pytest.approx(0.9, abs=0.03)
        and "mean absolute error" in found.guards[1].detail
    )
    assert found.outcome == "ask" and found.calibration is None
    assert found.value.difference == pytest.approx(np.mean(worth.challenger - worth.champion))
    assert found.value.low > 0
