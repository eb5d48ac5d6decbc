"""What answers are worth: by outcome or by a function of one's own, and never by guesswork."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.errors import SpecError
from tasks.core.evaluation.scoring import Scored
from tasks.evaluating.worth import worth_of
from tasks.settings import Settings
from tests.judged import LINEAR, LOGISTIC, Room, upside_down
from tests.make import make_frame, make_spec


@pytest.fixture
def room(tmp_path: Path, settings: Settings) -> Room:
    return Room(tmp_path, settings)


def valued(**value: Any):
    return make_spec(estimator=LOGISTIC, gate={"value": value, "max_disagreement": None})


def says(truth: list[Any], said: list[Any]) -> Scored:
    return Scored(np.array(truth), np.array(said), None, tuple(sorted({*truth, *said})))


@pytest.mark.parametrize(
    ("labels", "outcomes"),
    [
        ((0, 1), {"1>1": 10, "0>1": -2, "1>0": -5.5}),
        ((False, True), {"true>True": 10, "False > True": -2, "True>false": -5.5}),
        (("no", "yes"), {"yes>yes": 10, "no>yes": -2, "yes>no": -5.5}),
    ],
)
def test_every_outcome_has_its_worth_whatever_the_labels(labels: tuple, outcomes: dict[str, float]) -> None:
    no, yes = labels
    spec = valued(outcomes=outcomes)
    mine, theirs = says([yes, no, yes, no], [yes, yes, no, no]), says([yes, no, yes, no], [no, no, yes, yes])
    found = worth_of(spec, make_frame(4), mine, theirs)
    assert found is not None and found.challenger.tolist() == [10.0, -2.0, -5.5, 0.0]
    assert found.champion is not None and found.champion.tolist() == [-5.5, 0.0, 10.0, -2.0]


def test_no_value_has_no_worth_and_no_champion_no_worth_of_its_own() -> None:
    one = says([0, 1], [1, 1])
    assert worth_of(LINEAR, make_frame(2), one, None) is None
    found = worth_of(valued(outcomes={"1>1": 1}), make_frame(2), one, None)
    assert found is not None and found.champion is None


def test_outcomes_of_labels_that_do_not_exist_are_refused(room: Room) -> None:
    with pytest.raises(SpecError, match="naming 'yes', no label of these rows or models"):
        worth_of(valued(outcomes={"yes>yes": 1}), make_frame(2), says([0, 1], [1, 1]), None)
    spec = valued(outcomes={"yes>yes": 1})
    found = room.evaluate(spec, room.train(spec, make_frame(1000)), None)
    assert found.decision.outcome == "refuse" and "worth cannot be told" in found.decision.sentence()


def test_one_mistyped_label_among_good_ones_is_named() -> None:
    spec = valued(outcomes={"1>1": 10, "0>1": -2, "1>O": -50})
    with pytest.raises(SpecError, match="naming 'O', no label"):
        worth_of(spec, make_frame(2), says([0, 1], [1, 1]), says([0, 1], [0, 0]))


def test_a_label_that_only_one_model_knows_is_a_label_for_both() -> None:
    spec = valued(outcomes={"a>a": 1, "c>a": -5})
    mine = Scored(np.array(["a", "b"]), np.array(["a", "b"]), None, ("a", "b", "c"))
    theirs = Scored(np.array(["a", "b"]), np.array(["b", "b"]), None, ("a", "b"))
    found = worth_of(spec, make_frame(2), mine, theirs)
    assert found is not None and found.challenger.tolist() == [1, 0] and found.champion.tolist() == [0, 0]


def spend_kept(rows: pd.DataFrame, prediction: np.ndarray, probabilities: np.ndarray) -> pd.Series:
    """A campaign keeps what a customer who would have left spends, and costs 1 for everybody asked."""
    assert probabilities.shape == (len(rows), 2)
    return rows["spend"] * rows["churned"] * prediction - prediction


def broken(rows: pd.DataFrame, prediction: np.ndarray, probabilities: np.ndarray) -> Any:
    raise KeyError(rows["event_id"].iloc[0])


def nothing(rows: pd.DataFrame, prediction: np.ndarray, probabilities: np.ndarray) -> Any:
    return np.full(len(rows), np.nan)


def one_number(rows: pd.DataFrame, prediction: np.ndarray, probabilities: np.ndarray) -> Any:
    return 7.0


HERE = "tests.steps.test_evaluate_worth"


def test_a_function_of_ones_own_says_what_answers_are_worth(room: Room) -> None:
    spec = valued(function=f"{HERE}:spend_kept", currency="EUR")
    trained = room.train(spec, make_frame(1500))
    champion = room.champion(spec, upside_down(make_frame(1500, seed=1)))
    found = room.evaluate(spec, trained, champion)
    value = found.decision.value
    assert value is not None and value.currency == "EUR" and value.difference > 0
    assert value.difference == pytest.approx(value.per_row - value.champion_per_row)
    assert found.decision.outcome == "promote"


@pytest.mark.parametrize("name", ["broken", "nothing", "one_number", "absent"])
def test_a_function_that_does_not_tell_the_worth_refuses(name: str, room: Room) -> None:
    spec = valued(function=f"{HERE}:{name}")
    found = room.evaluate(spec, room.train(spec, make_frame(800)), None)
    assert found.decision.outcome == "refuse" and "worth cannot be told" in found.decision.sentence()
    assert "e0-" not in found.decision.sentence()
