from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from threadpoolctl import threadpool_limits

from tasks import evaluate
from tasks.core.errors import RegistryError, TrainingError
from tasks.settings import Settings
from tasks.store.models import load_model
from tests.judged import FREELY, LINEAR, LOGISTIC, WINDOW, Room, upside_down
from tests.make import make_frame, make_spec

REGRESSION = make_spec(
    task="regression",
    metric="neg_root_mean_squared_error",
    estimator={"class": "sklearn.linear_model.Ridge"},
    window={"training": "28d", "check": "7d", "rows": "sliding"},
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with threadpool_limits(limits=1):
        yield


@pytest.fixture
def room(tmp_path: Path, settings: Settings) -> Room:
    return Room(tmp_path, settings)


def amounts(rows: int = 800, seed: int = 0, noise: float = 1.0) -> pd.DataFrame:
    frame = make_frame(rows, seed=seed)
    rng = np.random.default_rng(seed)
    return frame.assign(churned=0.3 * frame["spend"] - 0.1 * frame["tenure"] + noise * rng.normal(size=rows))


def test_a_first_model_that_has_learnt_something_is_promoted_with_its_promise(room: Room) -> None:
    trained = room.train(LINEAR, make_frame(1500))
    found = room.evaluate(LINEAR, trained, None)
    holdout = pd.read_parquet(trained.holdout_path)
    chance = load_model(trained.model_path).predict_proba(holdout)[:, 1]
    want = sk.roc_auc_score(holdout["churned"], chance)
    assert found.decision.outcome == "promote"
    assert found.promise == pytest.approx(want) and found.metrics["roc_auc"] == pytest.approx(want)
    assert found.promise_low < want < found.promise_high
    assert found.metrics["accuracy"] == pytest.approx(sk.accuracy_score(holdout["churned"], chance > 0.5))
    assert (found.baseline, found.champion_metrics, found.holdout_rows) == (0.5, {}, 300)


def test_a_first_model_without_any_signal_is_kept_out(room: Room) -> None:
    frame = make_frame(1000)
    frame["churned"] = np.random.default_rng(5).permutation(frame["churned"])
    found = room.evaluate(LINEAR, room.train(LINEAR, frame), None)
    assert found.decision.outcome == "keep" and "guess" in found.decision.reasons[0]


def test_a_challenger_beats_a_champion_that_the_world_has_left_behind(room: Room) -> None:
    champion = room.champion(LINEAR, upside_down(make_frame(1500, seed=1)))
    found = room.evaluate(LINEAR, room.train(LINEAR, make_frame(1500)), champion)
    assert found.decision.outcome == "promote" and found.champion_version == 3
    assert found.champion_metrics["roc_auc"] < 0.5 < found.metrics["roc_auc"]
    assert found.decision.difference == pytest.approx(
        found.metrics["roc_auc"] - found.champion_metrics["roc_auc"]
    )


def test_a_challenger_that_learnt_from_a_wrong_world_is_kept_out(room: Room) -> None:
    frame = make_frame(1500)
    frame.loc[:1199, "churned"] = 1 - frame.loc[:1199, "churned"]  # the holdout, from 1200 on, is as it was
    found = room.evaluate(LINEAR, room.train(LINEAR, frame), room.champion(LINEAR, make_frame(1500, seed=1)))
    assert found.decision.outcome == "keep" and found.decision.high < 0


def test_an_equal_challenger_passes_unless_proof_is_asked_for(room: Room) -> None:
    trained, champion = room.train(LINEAR, make_frame(1500)), room.champion(LINEAR, make_frame(1500, seed=1))
    strict = make_spec(estimator=LOGISTIC, gate={**FREELY, "rule": "better"})
    outcomes = [room.evaluate(spec, trained, champion).decision for spec in (LINEAR, strict)]
    assert outcomes[0].outcome == "promote" and abs(outcomes[0].difference) < 0.02
    assert outcomes[1].outcome in ("keep", "undecided") and outcomes[1].difference == outcomes[0].difference


def test_rows_the_champion_may_have_seen_are_left_out_of_the_comparison(room: Room) -> None:
    frame = make_frame(1500)
    trained = room.train(LINEAR, frame)
    end = frame["event_time"].iloc[1350].to_pydatetime()
    found = room.evaluate(LINEAR, trained, room.champion(LINEAR, make_frame(1500, seed=1), end))
    assert found.decision.rows == 150 and found.holdout_rows == 300
    whole = room.evaluate(LINEAR, trained, None)
    assert found.promise == whole.promise  # a promise rests on all rows the challenger never saw


def test_too_few_rows_that_are_new_to_the_champion_are_refused(room: Room) -> None:
    frame = make_frame(1500)
    trained = room.train(LINEAR, frame)
    for row, left in ((1450, 50), (1499, 1)):
        end = frame["event_time"].iloc[row].to_pydatetime()
        found = room.evaluate(LINEAR, trained, room.champion(LINEAR, make_frame(300, seed=1), end))
        assert found.decision.outcome == "refuse" and found.decision.rows == left
    late = room.evaluate(LINEAR, trained, room.champion(LINEAR, make_frame(300, seed=1), WINDOW.end))
    assert late.decision.outcome == "refuse" and late.decision.rows == 0


def test_a_champion_is_never_beaten_because_it_cannot_be_scored(room: Room) -> None:
    wider = make_spec(estimator=LOGISTIC, features={"numeric": ["tenure", "spend", "visits"]}, contract={})
    champion = room.champion(wider, make_frame(500, seed=1).assign(visits=1.0))
    trained = room.train(LINEAR, make_frame(1000))
    found = room.evaluate(LINEAR, trained, champion)
    assert found.decision.outcome == "refuse" and "looks at 'visits'" in found.decision.reasons[0]
    gone = room.evaluate(LINEAR, trained, replace(champion, model_path=str(room.folder / "gone.skops")))
    assert gone.decision.outcome == "refuse" and "cannot be loaded" in gone.decision.reasons[0]


def test_a_changed_label_type_does_not_hand_the_challenger_a_victory(room: Room) -> None:
    text = make_frame(1000, seed=1)
    text["churned"] = text["churned"].map({0: "no", 1: "yes"})
    found = room.evaluate(LINEAR, room.train(LINEAR, make_frame(1000)), room.champion(LINEAR, text))
    assert found.decision.outcome == "refuse" and "none of these labels" in found.decision.sentence()


def test_a_model_file_that_was_changed_after_training_is_not_judged(room: Room) -> None:
    trained, other = room.train(LINEAR, make_frame(400)), room.train(LINEAR, make_frame(400, seed=1))
    Path(trained.model_path).write_bytes(Path(other.model_path).read_bytes())
    with pytest.raises(RegistryError, match="digest"):
        room.evaluate(LINEAR, trained, None)


def test_a_regression_is_judged_with_its_direction(room: Room) -> None:
    frame = amounts()
    trained = room.train(REGRESSION, frame)
    first = room.evaluate(REGRESSION, trained, None)
    holdout = pd.read_parquet(trained.holdout_path)
    said = load_model(trained.model_path).predict(holdout)
    want = -sk.root_mean_squared_error(holdout["churned"], said)
    assert first.promise == pytest.approx(want) and first.decision.outcome == "promote"
    centre = frame["churned"].iloc[:640]
    guesses = [
        -sk.root_mean_squared_error(holdout["churned"], np.full(160, v))
        for v in (centre.mean(), centre.median())
    ]
    assert first.baseline == pytest.approx(max(guesses))
    noisy = room.champion(REGRESSION, amounts(seed=1).assign(churned=lambda rows: -rows["churned"]))
    assert room.evaluate(REGRESSION, trained, noisy).decision.outcome == "promote"
    equal = room.evaluate(REGRESSION, trained, room.champion(REGRESSION, amounts(seed=2)))
    assert equal.decision.outcome == "promote" and equal.decision.low < 0


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], ["a", "b", "c"]])
def test_string_boolean_and_several_classes_are_judged(labels: list, room: Room) -> None:
    frame = make_frame(1500)
    tenure = frame["tenure"].rank(pct=True)
    frame["churned"] = pd.Series([labels[min(int(p * len(labels)), len(labels) - 1)] for p in tenure])
    found = room.evaluate(LINEAR, room.train(LINEAR, frame), None)
    assert found.decision.outcome == "promote" and found.promise > 0.9
    turned = frame.assign(churned=frame["churned"].map(dict(zip(labels, labels[::-1], strict=True))))
    champion = room.champion(LINEAR, turned)
    assert room.evaluate(LINEAR, room.train(LINEAR, frame), champion).decision.outcome == "promote"
    assert {"accuracy", "balanced_accuracy", "neg_log_loss"} <= set(found.metrics)


def test_slices_are_compared_and_personal_values_are_not_written_down(room: Room) -> None:
    features = {"numeric": ["tenure", "spend"], "categorical": ["plan", "region"], "sensitive": ["region"]}
    spec = make_spec(
        estimator=LOGISTIC, features=features, gate={"slices": ["region", "plan", "spend"], "min_rows": 30}
    )
    champion = room.champion(spec, upside_down(make_frame(1500, seed=1)))
    found = room.evaluate(spec, room.train(spec, make_frame(1500)), champion)
    by_column = {
        name: [s.value for s in found.decision.slices if s.column == name]
        for name in ("region", "plan", "spend")
    }
    assert by_column["region"] == ["#1", "#2", "#3", "#4"]
    assert sorted(by_column["plan"]) == ["basic", "pro", "team"] and len(by_column["spend"]) == 4
    assert sum(s.rows for s in found.decision.slices if s.column == "region") == 300
    assert "south" not in str(found)


def test_a_holdout_of_one_class_is_refused_and_its_promise_unknown(room: Room) -> None:
    frame = make_frame(1000)
    frame.loc[800:, "churned"] = 0
    found = room.evaluate(LINEAR, room.train(LINEAR, frame), room.champion(LINEAR, make_frame(500, seed=1)))
    assert found.decision.outcome == "refuse" and np.isnan(found.promise)


def test_a_metric_of_probabilities_needs_an_estimator_that_gives_them(room: Room) -> None:
    spec = make_spec(estimator={"class": "sklearn.linear_model.SGDClassifier"})
    with pytest.raises(TrainingError, match="SGDClassifier without class probabilities"):
        room.evaluate(spec, room.train(spec, make_frame(400)), None)
    by_label = make_spec(
        estimator={"class": "sklearn.linear_model.SGDClassifier"}, metric="balanced_accuracy"
    )
    assert room.evaluate(by_label, room.train(by_label, make_frame(1000)), None).decision.outcome == "promote"


def test_a_champion_without_probabilities_is_not_beaten_by_a_metric_that_needs_them(room: Room) -> None:
    ridge = make_spec(estimator={"class": "sklearn.linear_model.RidgeClassifier"}, metric="balanced_accuracy")
    champion = room.champion(ridge, make_frame(500, seed=1))
    found = room.evaluate(LINEAR, room.train(LINEAR, make_frame(1000)), champion)
    assert found.decision.outcome == "refuse" and "probabilities" in found.decision.sentence()
    assert "roc_auc" not in found.champion_metrics and found.champion_metrics["accuracy"] > 0.5
    assert found.metrics["roc_auc"] > 0.5 and found.champion_version == 3


@pytest.mark.parametrize("estimator", [LOGISTIC, {"params": {"max_iter": 5}}])
@pytest.mark.parametrize("slices", [[], ["spend"]])
def test_infinite_features_of_the_holdout_refuse_and_are_named(
    estimator: dict, slices: list, room: Room
) -> None:
    spec = make_spec(estimator=estimator, gate={"slices": slices, "fairness": {"columns": slices}})
    frame = make_frame(1000)
    frame.loc[[998, 999], "spend"] = [np.inf, -np.inf]
    trained = room.train(spec, frame)
    for champion in (room.champion(spec, upside_down(make_frame(500, seed=1))), None):
        found = room.evaluate(spec, trained, champion)
        assert found.decision.outcome == "refuse"
        assert "2 holdout rows hold infinite values in spend" in found.decision.sentence()
        assert found.holdout_rows == 198 and np.isfinite(found.promise)


def test_a_challenger_that_cannot_score_its_holdout_is_refused(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evaluate.answers_to

    def fails(spec, model, rows):
        if len(rows):
            raise ValueError("ada@example.org")
        return plain(spec, model, rows)

    champion, trained = room.champion(LINEAR, make_frame(500, seed=1)), room.train(LINEAR, make_frame(1000))
    monkeypatch.setattr(evaluate, "answers_to", fails)
    for incumbent in (champion, None):
        found = room.evaluate(LINEAR, trained, incumbent)
        assert found.decision.outcome == "refuse" and np.isnan(found.promise)
        assert "the challenger cannot score its holdout (ValueError)" in found.decision.sentence()
        assert "ada" not in str(found)


def test_a_weight_that_is_no_number_refuses(room: Room) -> None:
    spec = make_spec(estimator=LOGISTIC, gate={"weight": "amount"})
    found = room.evaluate(spec, room.train(spec, make_frame(1000).assign(amount="ada")), None)
    assert found.decision.outcome == "refuse" and "gate.weight 'amount'" in found.decision.sentence()
    assert "ada" not in found.decision.sentence()


def test_a_binary_metric_of_three_classes_is_a_training_error_with_the_remedy(room: Room) -> None:
    frame = make_frame(600)
    frame["churned"] = [i % 3 for i in range(600)]
    spec = make_spec(estimator=LOGISTIC, metric="f1")
    with pytest.raises(TrainingError, match="_macro"):
        room.evaluate(spec, room.train(spec, frame), None)


def test_evaluation_twice_gives_the_same_numbers(room: Room) -> None:
    trained, champion = room.train(LINEAR, make_frame(800)), room.champion(LINEAR, make_frame(800, seed=1))
    assert str(room.evaluate(LINEAR, trained, champion)) == str(room.evaluate(LINEAR, trained, champion))
