"""What each rule of the gate lets through, on independent rows and on rows in clusters."""

from __future__ import annotations

import numpy as np
import pytest

from bench.gate import coverage, promoted
from tasks.core.evaluation.clusters import cluster_codes
from tasks.core.evaluation.paired.compare import compare
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec_gate import Gate
from tests.gates import judged, models

TIMES = 300
"""Comparisons per share; its standard error is at most .03, and .013 at shares near .95."""


def rule(name: str, **more) -> Gate:
    return Gate.model_validate({"rule": name, **more})


def guesses(y: np.ndarray) -> Scored:
    return Scored(y, np.ones(len(y), int), None, (0, 1))


# Shares: two standard errors of tolerance around the table in docs/gate.md.


@pytest.mark.parametrize(
    ("rows", "gain", "low", "high"),
    [
        (200, -0.05, 0.26, 0.38),
        (500, -0.05, 0.0, 0.06),
        (2000, -0.05, 0.0, 0.0),
        (200, 0.0, 0.93, 0.99),
        (500, 0.0, 0.93, 0.99),
        (200, 0.01, 0.96, 1.0),
        (500, 0.01, 0.97, 1.0),
    ],
)
def test_not_worse_keeps_the_broken_out_and_starves_no_equal_one(rows, gain, low, high) -> None:
    assert low <= promoted(rows, gain, TIMES, rule="not_worse", effect=1).share <= high


@pytest.mark.parametrize(("rows", "gain", "low", "high"), [(500, 0.0, 0.42, 0.56), (500, -0.05, 0, 0.01)])
def test_ahead_is_a_coin_for_equal_challengers_and_closed_to_broken_ones(rows, gain, low, high) -> None:
    assert low <= promoted(rows, gain, TIMES, rule="ahead", effect=1).share <= high


def test_better_starves_a_challenger_that_is_one_point_better() -> None:
    assert promoted(500, 0.01, TIMES, rule="better", effect=1).share <= 0.25
    assert promoted(500, 0.0, TIMES, rule="better", effect=1).share <= 0.07


def test_rows_in_clusters_promote_equal_challengers_no_oftener_than_the_confidence_allows() -> None:
    assert promoted(2000, 0.0, TIMES, rule="better", effect=4).share <= 0.05 + 0.025
    assert promoted(2000, 0.0, TIMES, rule="not_worse", effect=4).share >= 0.95 - 0.025


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "neg_log_loss", "neg_root_mean_squared_error"])
@pytest.mark.parametrize(
    ("effect", "by"),
    [
        pytest.param(1, "time", marks=pytest.mark.slow),
        (2, "entity"),
        pytest.param(10, "time", marks=pytest.mark.slow),
    ],
)
def test_clustered_intervals_cover_the_truth_whatever_the_design_effect(metric, effect, by) -> None:
    more = {"resamples": 100, "truth_rows": 500_000, "effect": effect}
    shares = coverage(metric, 500, TIMES, by=by, **more)
    assert min(shares) >= 0.95 - 0.02 - 2 * 0.0126 and shares[0] <= 0.99  # two points, two standard errors


def test_without_clusters_intervals_of_clustered_rows_are_far_too_narrow() -> None:
    assert coverage("accuracy", 500, TIMES, effect=5, truth_rows=500_000)[0] < 0.75


def test_erosion_of_twenty_challengers_at_the_margin_is_what_the_doc_says() -> None:
    """Proof lets less than one margin through; not_worse lets most of them, which others have to stop."""
    lost = {
        name: 20 * 0.01 * promoted(2000, -0.01, TIMES, rule=name, effect=1).share
        for name in ("not_worse", "ahead", "better")
    }
    assert lost["better"] <= 0.01
    assert 0.0 < lost["ahead"] <= 0.03
    assert 0.11 <= lost["not_worse"] <= 0.16


# Single verdicts.


def test_the_same_small_loss_is_promoted_kept_or_undecided_by_the_rule() -> None:
    pair = models(500, -0.004)
    outcomes = {name: judged(*pair, rule(name)) for name in ("not_worse", "ahead", "better")}
    assert {name: decision.outcome for name, decision in outcomes.items()} == {
        "not_worse": "promote",
        "ahead": "keep",
        "better": "undecided",
    }
    assert {decision.rule for decision in outcomes.values()} == set(outcomes)
    assert len({decision.p_better for decision in outcomes.values()}) == 1


def test_equal_answers_are_not_worse_and_not_ahead() -> None:
    model, _ = models(300, 0.0)
    assert judged(model, model, rule("not_worse")).outcome == "promote"
    assert judged(model, model, rule("ahead")).outcome == "keep"


def test_a_large_margin_lets_no_shown_loss_through_any_rule() -> None:
    for name in ("not_worse", "ahead", "better"):
        assert judged(*models(5000, -0.02), rule(name, margin=0.5)).outcome == "keep"


def test_hard_stops_hold_under_every_rule() -> None:
    pair, group = models(2000, 0.02), np.repeat(["a", "b"], 1000)
    wrong = np.where(group == "b", 1 - pair[0].y_true, pair[0].y_true)
    bad_slice = Scored(pair[0].y_true, wrong, None, (0, 1))
    for name in ("not_worse", "ahead"):
        assert judged(*pair, rule(name, floor=0.95)).outcome == "keep"
        assert judged(*models(99, 0.02), rule(name)).outcome == "refuse"
        worse = judged(bad_slice, pair[1], rule(name, max_disagreement=None), slices={"g": group})
        assert worse.outcome == "keep" and any("worse on g=b" in reason for reason in worse.reasons)
        useless = judged(*pair, rule(name), baseline=Scored(pair[0].y_true, pair[0].y_true, None, (0, 1)))
        # The champion is no better than the guess either, so keeping it would gain nothing.
        assert useless.outcome == "promote" and useless.simpler == ("dummy",)


def test_few_differing_rows_can_show_a_loss_no_more_than_a_gain() -> None:
    y = np.tile([0, 1], 300)
    champion = Scored(y, np.where(np.arange(600) % 5 > 0, y, 1 - y), None, (0, 1))
    prediction = champion.prediction.copy()
    prediction[[1, 2, 3]] = 1 - y[[1, 2, 3]]
    challenger = Scored(y, prediction, None, (0, 1))
    result = compare(challenger, champion, "f1_macro", confidence=0.95)
    assert result.difference.value < 0 and result.p_better >= 0.5**4
    assert judged(challenger, champion, rule("not_worse"), "f1_macro").outcome == "promote"


# Clusters in the verdict.


def test_a_gain_of_one_entity_is_no_proof_once_its_rows_are_one_cluster() -> None:
    challenger, champion = models(1000, 0.03, differ=0.04)
    gained = (challenger.prediction == challenger.y_true) & (champion.prediction != champion.y_true)
    entity = np.where(gained, 0, np.arange(1000))
    alone = judged(challenger, champion, rule("better"))
    together = judged(challenger, champion, rule("better"), clusters=cluster_codes(np.arange(1000), entity))
    assert alone.outcome == "promote" and (alone.design_effect, alone.clusters) == (1, None)
    assert together.outcome == "undecided" and together.design_effect > 10
    assert together.clusters == len(set(entity)) and together.p_better < alone.p_better
    assert together.needed_rows is not None and alone.needed_rows is None


def test_slices_follow_the_clusters_and_one_entity_alone_is_judged_by_its_rows() -> None:
    challenger, champion = models(2000, -0.08, differ=0.1)
    side = np.repeat(["a", "b"], 1000)
    copies = np.repeat(np.arange(50), 40)
    order = np.argsort(challenger.prediction == challenger.y_true, kind="stable")
    pair = [
        Scored(scored.y_true[order], scored.prediction[order], None, (0, 1))
        for scored in (challenger, champion)
    ]
    plain, by_row = (
        judged(*pair, rule("not_worse"), slices={"side": side}, clusters=codes)
        for codes in (None, np.where(side == "a", 0, 1 + copies))
    )
    lengths = [{part.value: part.high - part.low for part in decision.slices} for decision in (plain, by_row)]
    assert lengths[0]["a"] == lengths[1]["a"] and lengths[0]["b"] <= lengths[1]["b"]


def test_clusters_that_cannot_tell_or_do_not_fit_the_rows_are_refused() -> None:
    pair = models(500, 0.03)
    assert judged(*pair, rule("not_worse"), clusters=np.zeros(500, int)).outcome == "refuse"
    wrong = judged(*pair, rule("not_worse"), clusters=np.zeros(499, int))
    assert wrong.outcome == "refuse" and "499 clusters for 500 rows" in wrong.reasons[0]


# A first version, and a simpler model.


@pytest.mark.parametrize(("on_doubt", "outcome"), [("tell", "promote"), ("ask", "ask"), ("keep", "keep")])
def test_a_first_version_ahead_of_a_guess_without_proof_is_a_doubt_and_not_an_end(on_doubt, outcome) -> None:
    challenger, guess = models(150, 0.03)
    decision = judged(challenger, None, rule("not_worse", on_doubt=on_doubt), baseline=guess)
    assert decision.outcome == outcome and "not shown to be better than a guess" in decision.doubts[0]
    assert judged(challenger, None, rule("better"), baseline=guess).outcome == "keep"
    assert judged(guess, None, rule("not_worse", on_doubt=on_doubt), baseline=challenger).outcome == "keep"


def test_a_season_in_the_labels_does_not_leave_a_first_version_waiting() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(10, 1, 500)
    model, guess = Scored(y, y + rng.normal(0, 0.3, 500)), Scored(y, np.full(500, 8.0))
    more = {"baseline": guess, "train_labels": rng.normal(8, 1, 3000)}
    gate, metric = rule("not_worse", on_doubt="ask"), "neg_mean_absolute_error"
    first = judged(model, None, gate, metric, **more)
    assert first.outcome == "promote" and first.doubts == ()
    assert any(reason.startswith("label shift") for reason in first.reasons), "it is told all the same"
    older = Scored(y, y + rng.normal(0, 0.5, 500))
    assert judged(model, older, gate, metric, **more).outcome == "ask"


def test_a_linear_model_that_is_shown_to_be_better_is_named_in_the_sentence_and_decides_nothing() -> None:
    challenger, champion = models(2000, 0.03)
    y = challenger.y_true
    decision = judged(challenger, champion, rule("not_worse"), linear=Scored(y, y, None, (0, 1)))
    assert decision.outcome == "promote" and decision.simpler == ("linear",)
    assert "a simpler model is better: linear scores 1" in decision.sentence()
    alike = judged(challenger, champion, rule("not_worse"), linear=challenger)
    assert alike.simpler == () and "simpler" not in alike.sentence()
