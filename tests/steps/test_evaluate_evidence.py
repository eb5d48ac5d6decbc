"""What the gate is given besides two scores: rows nobody has learnt from, trusted rows, money, groups."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks import evaluate
from tasks.core.evaluation.evidence import GateEvidence
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.guess import score_of
from tasks.core.results import AnchorRef
from tasks.evaluating.groups import groups_of
from tasks.evaluating.seen import unseen
from tasks.settings import Settings
from tasks.store.engine import open_store, writing
from tasks.store.schema_versions import versions
from tests.judged import FIXED, FREELY, LINEAR, LOGISTIC, Room, anchored, upside_down
from tests.make import START, make_frame, make_spec, spec_block


@pytest.fixture
def room(tmp_path: Path, settings: Settings) -> Room:
    return Room(tmp_path, settings)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[GateEvidence]:
    """What the gate is given, call by call."""
    seen: list[GateEvidence] = []
    plain = evaluate.decide_promotion

    def watched(evidence, gate):
        seen.append(evidence)
        return plain(evidence, gate)

    monkeypatch.setattr(evaluate, "decide_promotion", watched)
    return seen


# Rows the champion has learnt from.


def snapshot(room: Room, frame: pd.DataFrame) -> dict[str, Any]:
    return {"path": room.dataset(frame).path, "rows": len(frame)}


def test_rows_whose_key_the_champion_was_trained_on_are_left_out(room: Room) -> None:
    frame, cut = make_frame(1500), START + timedelta(days=10)
    trained = room.train(LINEAR, frame)
    champion = room.champion(LINEAR, make_frame(1500, seed=1), cut)
    learnt = make_frame(400, seed=1)
    learnt.loc[:39, "event_id"] = frame["event_id"].iloc[1300:1340].to_numpy()  # early there, late here
    learnt.loc[350:, "event_id"] = frame["event_id"].iloc[1400:1450].to_numpy()  # its own holdout
    assert (learnt["event_time"].iloc[350:] >= cut).all()
    found = room.evaluate(LINEAR, trained, champion, champion_snapshot=snapshot(room, learnt))
    assert found.decision.rows == 260 and found.holdout_rows == 300
    assert found.promise == room.evaluate(LINEAR, trained, None).promise


def test_a_champion_trained_on_the_compared_rows_is_refused_with_their_number(room: Room) -> None:
    frame = make_frame(1500)
    trained = room.train(LINEAR, frame)
    champion = room.champion(LINEAR, frame)
    moved = frame.assign(event_time=frame["event_time"] - pd.Timedelta("400d"))
    found = room.evaluate(LINEAR, trained, champion, champion_snapshot=snapshot(room, moved))
    assert found.decision.outcome == "refuse" and found.decision.rows == 0
    assert "the champion was trained on 300 of the compared rows" in found.decision.sentence()


def test_keys_are_found_again_when_their_type_changed(room: Room, settings: Settings) -> None:
    frame = make_frame(100).assign(event_id=range(100))
    champion = ChampionRef("model.skops", 3, START + timedelta(days=14))
    as_text = frame.assign(
        event_id=frame["event_id"].astype(str), event_time=frame["event_time"] - pd.Timedelta("20d")
    )
    found = unseen(make_spec(), frame, champion, snapshot(room, as_text.iloc[60:]), settings)
    assert (found.known, int(found.chosen.sum())) == (40, 10)
    numbers = as_text.assign(event_id=frame["event_id"].astype("float64"))
    assert unseen(make_spec(), frame, champion, snapshot(room, numbers.iloc[60:]), settings).known == 40
    back = frame.assign(event_id=frame["event_id"].astype("float64"))
    assert unseen(make_spec(), back, champion, snapshot(room, as_text.iloc[60:]), settings).known == 40


GROUPED = make_spec(
    source={**spec_block()["source"], "group": "customer"},
    estimator=LOGISTIC,
    gate={"max_disagreement": None},
)


def test_rows_of_entities_that_the_champion_has_learnt_are_left_out(room: Room, settings: Settings) -> None:
    frame = make_frame(100).assign(customer=[float(i % 10) for i in range(100)])
    cut = frame["event_time"].iloc[50].to_pydatetime()
    champion = ChampionRef("model.skops", 3, cut)
    before = make_frame(20, seed=2, start=START, days=1)
    before["customer"] = [str(i % 5) for i in range(20)]  # it was trained on customers 0 to 4 ...
    before.loc[18, "customer"] = None
    own = make_frame(2, seed=3, start=cut).assign(customer=["0", "1"])  # ... less those of its own holdout
    own.loc[1, "churned"] = np.nan  # not labelled: in no holdout
    learnt = snapshot(room, pd.concat([before, own]))
    found = unseen(
        GROUPED, frame.assign(customer=frame["customer"].mask(frame.index == 99)), champion, learnt, settings
    )
    left = frame["customer"][found.chosen].value_counts().to_dict()
    assert left == {**dict.fromkeys((0.0, 5.0, 6.0, 7.0, 8.0, 9.0), 5)}
    assert (found.known, found.kin) == (0, 20)
    plain = unseen(make_spec(), frame, champion, learnt, settings)
    assert (plain.kin, int(plain.chosen.sum())) == (0, 50)
    without = snapshot(room, pd.concat([before, own]).drop(columns="customer"))
    assert int(unseen(GROUPED, frame, champion, without, settings).chosen.sum()) == 50


def test_an_unlabelled_row_was_not_learnt(room: Room, settings: Settings) -> None:
    frame = make_frame(100)
    early = frame.assign(event_time=frame["event_time"] - pd.Timedelta("40d"), churned=np.nan)
    early.loc[:59, "churned"] = 1.0
    found = unseen(make_spec(), frame, ChampionRef("m", 3, START), snapshot(room, early), settings)
    assert (found.known, int(found.chosen.sum())) == (60, 40)


def test_too_few_rows_of_entities_new_to_the_champion_refuse_and_say_so(room: Room) -> None:
    frame = make_frame(1500)
    frame["customer"] = [f"c{i}" for i in range(1500)]
    frame.loc[1250:, "customer"] = "old"
    trained = room.train(GROUPED, frame)
    learnt = make_frame(50, seed=2, start=START, days=1).assign(customer="old")
    champion = room.champion(GROUPED, upside_down(frame.iloc[:900]), START + timedelta(days=2))
    found = room.evaluate(GROUPED, trained, champion, champion_snapshot=snapshot(room, learnt))
    assert found.decision.outcome == "refuse" and found.decision.rows == 50
    assert "250 more rows are of entities (source.group)" in found.decision.sentence()
    assert room.evaluate(GROUPED, trained, champion).decision.outcome == "promote"


@pytest.mark.parametrize("record", [None, {}, {"path": "gone.parquet"}, {"path": "here"}, {"path": "odd"}])
def test_without_the_champions_rows_the_time_decides_and_it_is_said(
    record: dict[str, Any] | None, room: Room, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    frame = make_frame(100)
    if record and record["path"] == "odd":
        record = snapshot(room, frame.drop(columns="event_id"))
    if record and record["path"] == "here":
        (room.folder / "here").write_bytes(b"no parquet")
        record = {"path": str(room.folder / "here")}
    cut = frame["event_time"].iloc[80].to_pydatetime()
    found = unseen(make_spec(), frame, ChampionRef("model.skops", 3, cut), record, settings)
    assert (found.chosen.tolist(), found.known) == ([False] * 80 + [True] * 20, 0)
    assert "only their time tells" in caplog.text


def test_a_snapshot_on_s3_is_read_there(room: Room, settings: Settings, s3_bucket: str) -> None:
    from tasks.store import s3

    frame = make_frame(100)
    url = f"s3://{s3_bucket}/models/snapshots/x.parquet"
    early = frame.assign(event_time=frame["event_time"] - pd.Timedelta("400d")).iloc[90:]
    remote = settings.model_copy(update={"artifacts": f"s3://{s3_bucket}/models"})
    s3.put_file(Path(room.dataset(early).path), url, remote)
    found = unseen(make_spec(), frame, ChampionRef("model.skops", 3, START), {"path": url}, remote)
    assert (found.known, int(found.chosen.sum())) == (10, 90)


# The champion.


def test_whatever_goes_wrong_with_the_champion_keeps_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = room.train(LINEAR, make_frame(1000))
    champion = room.champion(LINEAR, upside_down(make_frame(1000, seed=1)))
    assert room.evaluate(LINEAR, trained, champion).decision.outcome == "promote"
    plain = evaluate.answers_to
    for error in (RuntimeError("row 7"), MemoryError(), IndexError("ada@example.org")):

        def fails(spec, model, rows, calls=[], error=error):  # noqa: B006 - counts its calls
            calls.append(1)
            if len(calls) == 2:  # the first is the challenger
                raise error
            return plain(spec, model, rows)

        monkeypatch.setattr(evaluate, "answers_to", fails)
        found = room.evaluate(LINEAR, trained, champion)
        assert found.decision.outcome == "refuse" and found.champion_metrics == {}
        assert type(error).__name__ in found.decision.sentence() and "ada" not in found.decision.sentence()


def test_a_version_is_never_compared_with_itself(room: Room) -> None:
    trained = room.train(LINEAR, make_frame(1000))
    found = room.evaluate(LINEAR, trained, ChampionRef(trained.model_path, 3, START))
    assert found.decision.outcome == "refuse" and "same version" in found.decision.sentence()


# The anchor.


def test_the_challenger_is_held_against_the_keeper_of_the_anchor(room: Room) -> None:
    trusted = make_frame(400, seed=7, start=START - timedelta(days=28))
    keeper = replace(room.champion(LINEAR, make_frame(1500, seed=1)), version=2)
    anchor = anchored(room, trusted, keeper)
    champion = room.champion(LINEAR, upside_down(make_frame(1500, seed=3)))
    clean = room.train(LINEAR, make_frame(1500), anchor_path=anchor.path)
    found = room.evaluate(LINEAR, clean, champion, anchor=anchor)
    assert found.decision.outcome == "promote" and found.decision.anchor is not None
    assert (found.decision.anchor.rows, found.decision.anchor.keeper_version) == (400, 2)
    assert found.decision.anchor.fixed_at == FIXED and found.anchor_sha256 == anchor.sha256
    assert found.anchor_score == pytest.approx(found.decision.anchor.score) and found.anchor_score > 0.7
    spoilt = room.train(LINEAR, upside_down(make_frame(1500)), anchor_path=anchor.path)
    right = room.champion(LINEAR, make_frame(1500, seed=3))
    asking = make_spec(estimator=LOGISTIC, gate={**FREELY, "on_doubt": "ask"})
    attack = room.evaluate(asking, spoilt, right, anchor=anchor)  # its own holdout is upside down too
    assert attack.decision.difference > 0.3 and attack.decision.outcome == "ask"
    assert attack.decision.anchor is not None and attack.decision.anchor.outcome == "worse"
    assert "anchor" in attack.decision.sentence()


def test_an_anchor_without_a_keeper_is_only_scored(room: Room) -> None:
    anchor = anchored(room, make_frame(300, seed=7))
    trained = room.train(LINEAR, make_frame(1000), anchor_path=anchor.path)
    found = room.evaluate(LINEAR, trained, None, anchor=anchor)
    assert found.decision.outcome == "promote" and found.anchor_score is not None
    assert found.decision.anchor is not None and np.isnan(found.decision.anchor.keeper_score)


def test_whatever_is_wrong_with_the_anchor_refuses(room: Room) -> None:
    rows = make_frame(300, seed=7)
    anchor = anchored(room, rows)
    trained = room.train(LINEAR, make_frame(1000), anchor_path=anchor.path)

    def sentence(anchor: AnchorRef, trained=trained) -> str:
        found = room.evaluate(LINEAR, trained, None, anchor=anchor)
        assert found.decision.outcome == "refuse"
        assert (found.anchor_score, found.anchor_sha256) == (None, anchor.sha256)
        return found.decision.sentence()

    assert "digest is wrong" in sentence(replace(anchor, trouble="digest is wrong", path=""))
    assert "without leaving its rows out" in sentence(anchor, room.train(LINEAR, make_frame(1000)))
    gone = replace(anchor, keeper=ChampionRef("gone.skops", 2, START), keeper_version=2)
    assert "version 2 cannot score its rows" in sentence(gone)
    narrow = anchored(room, rows.drop(columns="spend"))
    lacking = sentence(narrow, room.train(LINEAR, make_frame(1000), anchor_path=narrow.path))
    assert "its rows lack spend" in lacking and "--verdict renew_anchor --version N" in lacking
    infinite = anchored(room, rows.assign(spend=np.inf))
    assert "the challenger cannot score its rows" in sentence(
        infinite, room.train(LINEAR, make_frame(1000), anchor_path=infinite.path)
    )
    narrow = infinite
    Path(narrow.path).write_bytes(b"changed")
    changed = sentence(narrow, replace(trained, anchor_sha256=narrow.sha256))
    assert "its rows cannot be read (ValueError)" in changed


GOING_ON = make_spec(
    estimator={
        "class": "sklearn.linear_model.SGDClassifier",
        "params": {"loss": "log_loss"},
        "mode": "partial_fit",
    },
    gate={"max_disagreement": None},
)


def test_a_challenger_that_goes_on_from_a_champion_that_learnt_the_anchor_is_refused(
    room: Room, settings: Settings
) -> None:
    frame = make_frame(2000)
    old = room.train(GOING_ON, frame.iloc[:1250])
    champion = ChampionRef(old.model_path, 3, old.cut)
    learnt = snapshot(room, frame.iloc[:1250])
    anchor = anchored(room, frame.iloc[500:900], champion)
    more = {"champion_model": old.model_path, "champion_train_end": old.cut, "anchor_path": anchor.path}
    trained = room.train(GOING_ON, frame, **more)
    found = room.evaluate(GOING_ON, trained, champion, anchor=anchor, champion_snapshot=learnt)
    assert found.decision.outcome == "refuse" and found.anchor_score is None
    assert (
        "the champion, which the challenger goes on from, learnt 400 of its rows" in found.decision.sentence()
    )
    blind = room.evaluate(GOING_ON, trained, champion, anchor=anchor)
    assert blind.decision.outcome == "refuse" and "cannot be told whether" in blind.decision.sentence()

    # The champion was itself trained without these rows, as its score on them tells.
    facts = {name: {} for name in ("snapshot", "gate", "params")}
    facts |= dict.fromkeys(("created", "registered_at", "window_start", "window_end", "cut"), FIXED)
    facts |= dict.fromkeys(("run_id", "attempt", "decision_id", "cause", "digest"), "x")
    row = {"model": "churn", "number": 3, "metric": "roc_auc", "anchor_sha256": anchor.sha256}
    with writing(open_store(settings)) as connection:
        connection.execute(versions.insert(), {**facts, **row, "anchor_score": 0.8})
    found = room.evaluate(GOING_ON, trained, champion, anchor=anchor, champion_snapshot=learnt)
    assert found.decision.outcome != "refuse" and found.anchor_score is not None

    newer = anchored(room, frame.iloc[1300:1500], champion)
    trained = room.train(GOING_ON, frame, **{**more, "anchor_path": newer.path})
    assert room.evaluate(GOING_ON, trained, champion, anchor=newer).decision.outcome != "refuse"


# Weights, groups, labels, the linear model.


def test_the_gate_is_given_weights_groups_labels_and_a_linear_model(
    room: Room, given: list[GateEvidence]
) -> None:
    frame = make_frame(1000)
    frame["amount"] = np.arange(1000.0)
    gate = {"weight": "amount", "fairness": {"columns": ["region"]}, "slices": ["plan"]}
    window = {"training": "28d", "check": "7d", "rows": "sliding"}
    spec = make_spec(gate=gate, estimator={"params": {"max_iter": 5}}, window=window)
    trained = room.train(spec, frame)
    found = room.evaluate(spec, trained, None)
    seen = given[0]
    assert seen.weights is not None and seen.weights.tolist() == frame["amount"].iloc[800:].tolist()
    assert seen.groups["region"].tolist() == frame["region"].iloc[800:].tolist()
    assert seen.slices["plan"].tolist() == frame["plan"].iloc[800:].tolist()
    shares = frame["churned"].iloc[:800].value_counts(normalize=True).to_dict()
    assert dict(seen.train_labels) == pytest.approx(shares)  # type: ignore[arg-type]
    assert seen.linear is not None and score_of(spec, seen.linear) > 0.7
    assert (seen.overlap, seen.trouble, seen.worth, seen.anchor) == (0, "", None, None)
    names = {one.name: one.score for one in found.decision.baselines}
    assert set(names) == {"dummy", "linear"} and found.decision.outcome == "promote"


def test_a_linear_model_that_cannot_be_read_decides_nothing(room: Room, given: list[GateEvidence]) -> None:
    spec = make_spec(estimator={"params": {"max_iter": 5}})
    trained = room.train(spec, make_frame(1000))
    Path(str(trained.linear_path)).write_bytes(b"damaged")
    assert room.evaluate(spec, trained, None).decision.outcome == "promote"
    assert given[0].linear is None


def test_labels_of_a_regression_are_given_as_their_distribution(
    room: Room, given: list[GateEvidence]
) -> None:
    spec = make_spec(task="regression", metric="r2", estimator={"class": "sklearn.linear_model.Ridge"})
    frame = make_frame(1000)
    frame["churned"] = frame["spend"] * 2.0
    room.evaluate(spec, room.train(spec, frame), None)
    labels = np.asarray(given[0].train_labels)
    older = frame["churned"].iloc[:800]
    assert (labels.min(), labels.max()) == (older.min(), older.max())
    assert np.median(labels) == pytest.approx(older.median(), rel=0.01)


def test_groups_of_numbers_are_quarters_and_personal_values_become_ranks() -> None:
    features = {"numeric": ["tenure", "spend"], "categorical": ["plan", "region"], "sensitive": ["region"]}
    spec = make_spec(features=features)
    frame = make_frame(400)
    frame.loc[:9, "spend"] = np.nan
    frame.loc[:19, "plan"] = None
    spend = pd.Series(groups_of(spec, frame, "spend")).value_counts()
    assert spend.pop("missing") == 10 and len(spend) == 4 and spend.min() >= 97
    assert (groups_of(spec, frame, "plan") == "missing").sum() == 20
    ranks = groups_of(spec, frame, "region")
    assert set(ranks) == {"#1", "#2", "#3", "#4"}
    most = frame["region"].value_counts().index[0]
    assert set(ranks[(frame["region"] == most).to_numpy()]) == {"#1"}


# All of it.


HERE = "tests.steps.test_evaluate_evidence"


def distance(rows: pd.DataFrame, prediction: np.ndarray, probabilities: None) -> pd.Series:
    """A regression gives no probabilities; what it is off by costs."""
    assert probabilities is None
    return -(rows["churned"] - prediction).abs()


def classes(frame: pd.DataFrame) -> pd.DataFrame:
    names = np.array(["low", "mid", "high"], dtype=object)
    return frame.assign(churned=names[pd.qcut(frame["tenure"], 3, labels=False)])


def amounts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(churned=0.3 * frame["spend"] - 0.1 * frame["tenure"])


@pytest.mark.parametrize(
    ("labels", "over", "value"),
    [
        (lambda frame: frame, {}, {"outcomes": {"1>1": 3, "0>1": -1}}),
        (classes, {"metric": "neg_log_loss"}, {"outcomes": {"low>low": 3, "low>high": -9}}),
        (
            amounts,
            {"task": "regression", "metric": "neg_mean_absolute_error"},
            {"function": f"{HERE}:distance"},
        ),
    ],
)
def test_everything_at_once_gives_the_same_numbers_twice(
    labels: Any, over: dict[str, Any], value: dict[str, Any], room: Room
) -> None:
    def made(rows: int, seed: int) -> pd.DataFrame:
        return labels(make_frame(rows, seed=seed)).assign(weight=np.linspace(1, 2, rows))

    gate = {"value": value, "fairness": {"columns": ["region"]}, "slices": ["plan"], "weight": "weight"}
    kind = "Regressor" if "task" in over else "Classifier"
    estimator = {"class": f"sklearn.ensemble.HistGradientBoosting{kind}", "params": {"max_iter": 20}}
    spec = make_spec(estimator=estimator, gate=gate, **over)
    anchor = anchored(room, made(200, 7), room.champion(spec, made(800, 5)))
    trained = room.train(spec, made(800, 0), anchor_path=anchor.path)
    turned = made(800, 1)
    turned["churned"] = turned["churned"].to_numpy()[::-1]
    champion = room.champion(spec, turned)
    first, again = (room.evaluate(spec, trained, champion, anchor=anchor) for _ in range(2))
    assert str(first) == str(again)
    assert first.decision.outcome in ("promote", "ask") and first.decision.difference > 0
    assert first.decision.anchor is not None and first.decision.anchor.outcome in ("ok", "worse")
    assert first.anchor_score == pytest.approx(first.decision.anchor.score)  # weighted, both
    assert first.decision.value is not None and first.decision.value.difference > 0
    assert {one.name for one in first.decision.baselines} == {"dummy", "linear"}
    late = replace(champion, train_end=datetime(2027, 1, 1, tzinfo=UTC))
    none_left = room.evaluate(spec, trained, late, anchor=anchor)
    assert (none_left.decision.outcome, none_left.decision.rows) == ("refuse", 0)
    assert none_left.promise == first.promise
