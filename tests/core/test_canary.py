"""A canary judged: how often a good one is called worse, a worse one found, and when nobody can tell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.scoring import Scored
from tasks.core.policy.canary import CanaryVerdict, Look, difference_of, judge_canary, next_look
from tasks.core.policy.shadowed import report_shadow
from tests.make import make_spec

ACCURACY = make_spec(metric="accuracy", serving={"canary_min_rows": 200})
AUC = make_spec(metric="roc_auc", serving={"canary_min_rows": 200})


def right(rng: np.random.Generator, rows: int, share: float) -> Scored:
    """Return answers of which this share is right in truth."""
    labels = (rng.random(rows) < 0.4).astype(int)
    said = np.where(rng.random(rows) < share, labels, 1 - labels)
    return Scored(labels, said, None, (0, 1))


def head(one: Scored, rows: int) -> Scored:
    return Scored(one.y_true[:rows], one.prediction[:rows], None, one.classes)


def looked_at(seed: int, truth: float, most: int) -> list[CanaryVerdict]:
    """Return every verdict on a canary of this accuracy beside a champion of 0.8, as labels come."""
    rng = np.random.default_rng(seed)
    champion, canary = right(rng, most * 3, 0.8), right(rng, most, truth)
    looks = {look.number: look for rows in range(0, most, 10) if (look := next_look(rows, ACCURACY))}
    return [
        judge_canary(head(champion, one.rows * 3), head(canary, one.rows), ACCURACY, one)
        for one in looks.values()
    ]


def returned(truth: float, runs: int, most: int = 1100) -> float:
    back = (any(one.outcome == "return" for one in looked_at(seed, truth, most)) for seed in range(runs))
    return sum(back) / runs


def most_false_alarms(runs: int) -> float:
    """Return the promise, (1 - gate.confidence) / 2 over all looks, with three standard errors of so many."""
    return 0.025 + 3 * math.sqrt(0.025 * 0.975 / runs)


def test_looking_again_and_again_calls_an_equal_canary_worse_no_oftener_than_promised() -> None:
    assert returned(0.80, 60) <= most_false_alarms(60)


@pytest.mark.slow
def test_the_promise_holds_over_many_looks_and_many_canaries() -> None:
    assert returned(0.80, 300, 5000) <= most_false_alarms(300)


def test_a_canary_that_is_clearly_worse_is_found_and_a_better_one_never_sent_back() -> None:
    assert returned(0.60, 15) == 1.0
    assert returned(0.70, 15) > 0.8
    assert returned(0.88, 15) == 0.0


def test_looks_grow_by_half_and_share_the_risk() -> None:
    looks = [next_look(rows, ACCURACY) for rows in (199, 200, 299, 300, 449, 450, 10**9)]
    assert looks[0] is None
    assert [one.rows for one in looks[1:6] if one] == [200, 200, 300, 300, 450]
    every = [0.025 / (k * (k + 1)) for k in range(1, 10_000)]
    assert looks[1] == Look(1, 200, pytest.approx(0.0125))
    assert sum(every) < 0.025


def test_the_interval_of_the_difference_is_newcombes() -> None:
    # Newcombe, Statistics in Medicine 17 (1998): 873, table II, method 10: 56/70 and 48/80.
    def wilson(hits: int, rows: int) -> Interval:
        z, share = 1.959964, hits / rows
        centre, reach = 2 * rows * share + z * z, z * math.sqrt(z * z + 4 * rows * share * (1 - share))
        return Interval(
            share, (centre - reach) / (2 * (rows + z * z)), (centre + reach) / (2 * (rows + z * z))
        )

    found = difference_of(wilson(56, 70), wilson(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_scores_are_those_of_scikit_learn_and_probabilities_may_come_as_lists() -> None:
    rng = np.random.default_rng(3)

    def drawn(rows: int, apart: float) -> Scored:
        labels = (rng.random(rows) < 0.4).astype(int)
        given = 1 / (1 + np.exp(-rng.normal(apart * labels, 1)))
        table = np.fromiter([[1 - p, p] for p in given], dtype=object, count=rows)
        return Scored(labels.astype(object), (given > 0.5).astype(int), table, (0, 1))

    champion, canary = drawn(2000, 1.5), drawn(300, 0.2)
    look = next_look(300, AUC)
    assert look is not None
    verdict = judge_canary(champion, canary, AUC, look)
    for one, told in ((champion, verdict.champion), (canary, verdict.canary)):
        scores = [row[1] for row in one.probabilities]  # type: ignore[union-attr]
        assert told == pytest.approx(roc_auc_score(one.y_true.astype(int), scores))
    assert verdict.outcome == "return"
    assert verdict.high < 0
    assert verdict.difference == pytest.approx(verdict.canary - verdict.champion)
    assert "worse beyond chance" in verdict.reason


@pytest.mark.parametrize("what", ["one class", "no champion", "missing"])
def test_what_cannot_be_told_is_undecided_with_its_reason(what: str) -> None:
    rng = np.random.default_rng(0)
    champion, canary = right(rng, 1000, 0.8), right(rng, 200, 0.5)
    if what == "one class":
        canary = Scored(np.zeros(200, dtype=int), canary.prediction, None, (0, 1))
    elif what == "no champion":
        champion = head(champion, 0)
    else:
        canary = Scored(canary.y_true, np.full(200, None, dtype=object), None, (0, 1))
    verdict = judge_canary(champion, canary, ACCURACY, Look(1, 200, 0.0125))
    words = {"one class": "canary: all 200", "no champion": "champion: no pred", "missing": "200 of 200"}
    assert verdict.outcome == "undecided"
    assert words[what] in verdict.reason
    assert verdict.summary()["difference"] is None


# The shadow.


def pairs(**over: Any) -> pd.DataFrame:
    rows = {
        "prediction": [1, 0, None, 1],
        "score": [[0.2, 0.8], [0.6, 0.4], None, [0.1, 0.9]],
        "latency_ms": [1.0, 2.0, 3.0, 4.0],
        "error": [None, None, "ValueError", None],
        "champion_prediction": [1, 1, 1, 1],
        "champion_score": [[0.3, 0.7], [0.4, 0.6], [0.5, 0.5], [0.3, 0.7]],
        "champion_latency_ms": [10.0, 20.0, 30.0, 40.0],
        "label": [1, 0, 0, None],
        **over,
    }
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in rows.items()})


def test_a_shadow_is_told_in_numbers_worked_out_by_hand() -> None:
    found = report_shadow(pairs(), ACCURACY, classes=(0, 1), champion_classes=(0, 1))
    assert (found.rows, found.errors, found.refused, found.labelled) == (4, 1, 0, 2)
    assert found.agreement == pytest.approx(2 / 3)
    assert found.mean_difference == pytest.approx((0.1 - 0.2 + 0.2) / 3)
    assert found.mean_gap == pytest.approx((0.1 + 0.2 + 0.2) / 3)
    assert (found.p50_ms, found.champion_p50_ms) == (2.0, 20.0)
    assert found.p99_ms == pytest.approx(np.percentile([1, 2, 4], 99))
    assert (found.score, found.champion_score, found.difference) == (1.0, 0.5, 0.5)
    assert "66.7% the same" in found.sentence()


def test_labels_that_a_store_gave_back_as_text_are_the_models_own() -> None:
    given = pairs(label=["1", "0", None, "1"], champion_prediction=["1", "1", "1", "1"])
    found = report_shadow(given, ACCURACY, classes=(0, 1), champion_classes=(0, 1))
    assert found.agreement == pytest.approx(2 / 3)
    assert (found.labelled, found.score) == (3, 1.0)


def test_a_shadow_of_numbers_and_an_empty_one() -> None:
    spec = make_spec(
        task="regression", metric="neg_mean_absolute_error", label={"column": "y"},
        estimator={"class": "sklearn.linear_model.Ridge"},
    )  # fmt: skip
    given = pairs(
        prediction=[1.0, 2.0, None, 3.0],
        champion_prediction=[1.0, 3.0, 1.0, 5.0],
        label=[1.0, 2.0, None, 4.0],
    )
    found = report_shadow(given, spec, classes=None, champion_classes=None)
    assert (found.mean_difference, found.mean_gap) == (-1.0, 1.0)
    assert found.agreement == pytest.approx(1 / 3)
    assert (found.score, found.champion_score) == pytest.approx((-1 / 3, -2 / 3))
    none = report_shadow(given.head(0), spec, classes=None, champion_classes=None)
    assert (none.rows, none.sentence()) == (0, "no shadow answers yet")
    assert none.summary()["agreement"] is None


def test_versions_of_other_classes_are_compared_by_what_they_said_only() -> None:
    found = report_shadow(pairs(), ACCURACY, classes=(0, 1), champion_classes=(0, 1, 2))
    assert math.isnan(found.mean_gap)
    assert found.agreement == pytest.approx(2 / 3)
