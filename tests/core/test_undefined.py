"""Why a comparison has no score, and labels that a model can never answer."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core.evaluation.performance import judge
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.undefined import why_undefined
from tasks.core.evaluation.unknown import unknown_counts
from tasks.core.spec_gate import Gate
from tests.gates import judged
from tests.make import make_spec

Y = np.array([0.0, 1.0, 2.0, 3.0] * 30)


@pytest.mark.parametrize(
    ("metric", "labels", "answers", "words"),
    [
        ("neg_mean_squared_log_error", Y, Y - 2, ["60 of 120 predictions", "negative"]),
        ("neg_root_mean_squared_log_error", Y - 1.5, Y, ["30 of 120 labels", "negative"]),
        ("neg_mean_poisson_deviance", Y, Y, ["30 of 120 predictions", "zero or negative"]),
        ("neg_mean_poisson_deviance", Y - 1, Y + 1, ["30 of 120 labels", "negative"]),
        ("neg_mean_gamma_deviance", Y, Y + 1, ["30 of 120 labels", "zero or negative"]),
        ("r2", np.ones(120), Y, ["all 120 labels are the same"]),
        ("neg_mean_absolute_error", Y, np.where(Y == 0, np.inf, Y), ["30 of 120 predictions", "finite"]),
    ],
)
def test_a_regression_without_a_score_names_the_cause_and_its_rows(
    metric: str, labels: np.ndarray, answers: np.ndarray, words: list[str]
) -> None:
    found = why_undefined(metric, {"challenger": Scored(labels, answers)})
    assert all(word in found for word in words), found


def test_a_score_that_there_is_has_no_cause() -> None:
    assert not why_undefined("neg_mean_squared_log_error", {"challenger": Scored(Y, Y + 0.5)})
    assert not why_undefined("accuracy", {"challenger": Scored(Y > 1, Y > 1)})


def test_the_gate_says_why_it_cannot_compare() -> None:
    found = judged(Scored(Y, Y - 1.5), Scored(Y, Y + 0.1), metric="neg_mean_squared_log_error")
    assert found.outcome == "refuse" and "30 of 120 predictions of the challenger" in found.reasons[0]
    same = np.ones(120, dtype=int)
    found = judged(
        Scored(same, same, None, (0, 1)), Scored(same, same, None, (0, 1)), metric="balanced_accuracy"
    )
    assert found.outcome != "refuse" or "one class" in found.reasons[0]


LABELS = np.array(["no", "yes"] * 150 + ["paused"] * 100)
ANSWERS = np.array(["no", "yes"] * 150 + ["no"] * 100)


@pytest.mark.parametrize(("on_doubt", "outcome"), [("tell", "promote"), ("ask", "ask"), ("keep", "keep")])
def test_labels_that_no_training_row_has_speak_against_a_challenger(on_doubt, outcome: str) -> None:
    mine = Scored(LABELS, ANSWERS, None, ("no", "yes"))
    theirs = Scored(LABELS, np.array(["no"] * 400), None, ("no", "yes"))
    found = judged(mine, theirs, Gate(on_doubt=on_doubt))
    assert (
        found.outcome == outcome and "100 of 400 rows" in found.sentence() and "'paused'" in found.sentence()
    )
    assert any("paused" in doubt for doubt in found.doubts)


def test_a_challenger_that_knows_all_labels_is_not_doubted() -> None:
    mine = Scored(LABELS, LABELS, None, ("no", "paused", "yes"))
    theirs = Scored(LABELS, ANSWERS, None, ("no", "yes"))
    assert not judged(mine, theirs).doubts


def test_unknown_classes_of_labels_that_came_are_a_look_that_names_them() -> None:
    spec = make_spec(metric="accuracy")
    found = judge(LABELS, ANSWERS, None, ("no", "yes"), spec, 0.9)
    (look,) = found.looks()
    assert look.is_bad and look.cause == "unknown classes" and "'paused'" in look.message
    known = judge(LABELS[:300], ANSWERS[:300], None, ("no", "yes"), spec, 0.9)
    assert [look.is_bad for look in known.looks()] == [False]
    assert not judge([], [], None, ("no", "yes"), spec, 0.9).looks()


def test_numbers_are_the_same_class_in_whatever_type_they_come() -> None:
    assert not unknown_counts([1, 0.0, True, None, float("nan")], (0, 1))
    assert not judge(
        ["1", 0, 1.0] * 30, [1, 0, 1] * 30, None, (0, 1), make_spec(metric="accuracy"), 0.9
    ).unknown
