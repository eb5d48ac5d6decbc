"""Rows of the anchor are never learnt from; a linear model of the same rows is kept for comparison."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks import train
from tasks.core.errors import TrainingError
from tasks.core.model.guess import label_quantiles
from tasks.core.model.labels import labels_of
from tasks.core.model.linear import fit_linear
from tasks.core.model.pipeline import build_pipeline, predict
from tasks.core.model.split import split_rows
from tasks.core.model.weighting import row_weights
from tasks.settings import Settings
from tasks.store.models import load_model
from tests.judged import WINDOW, Room
from tests.make import make_frame, make_spec

SLIDING = {"training": "28d", "check": "7d", "rows": "sliding"}
SGD = {"class": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss"}, "mode": "partial_fit"}


@pytest.fixture
def room(tmp_path: Path, settings: Settings) -> Room:
    return Room(tmp_path, settings)


def anchor_of(frame: pd.DataFrame, room: Room) -> tuple[str, str]:
    path = room.folder / "anchor.parquet"
    frame.to_parquet(path, index=False)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def test_rows_of_the_anchor_are_not_learnt_from(room: Room) -> None:
    frame, spec = make_frame(500), make_spec(window=SLIDING)
    path, digest = anchor_of(frame.iloc[50:90], room)
    found = room.train(spec, frame, anchor_path=path)
    assert (found.anchored_rows, found.train_rows, found.anchor_sha256) == (40, 360, digest)
    used = frame.iloc[:400].drop(index=range(50, 90))
    keys = "\n".join(sorted(used["event_id"]))
    assert found.train_keys_sha256 == hashlib.sha256(keys.encode()).hexdigest()
    by_hand = build_pipeline(spec).fit(used[spec.features.all], labels_of(used, spec))
    rows = frame.iloc[400:]
    np.testing.assert_array_equal(
        predict(load_model(found.model_path), rows).probabilities, predict(by_hand, rows).probabilities
    )
    share = dict(found.guess)[1]
    assert share == pytest.approx(used["churned"].mean())


def test_wrong_labels_in_the_anchors_rows_change_nothing_of_the_model(room: Room) -> None:
    frame, spec = make_frame(500), make_spec()
    path, _ = anchor_of(frame.iloc[50:90], room)
    spoilt = frame.copy()
    spoilt.loc[50:89, "churned"] = 1 - spoilt.loc[50:89, "churned"]
    clean = load_model(room.train(spec, frame, anchor_path=path).model_path)
    other = load_model(room.train(spec, spoilt, anchor_path=path).model_path)
    np.testing.assert_array_equal(predict(clean, frame).probabilities, predict(other, frame).probabilities)


def test_neither_a_search_nor_partial_fit_learns_from_the_anchor(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(500)
    path, _ = anchor_of(frame.iloc[50:90], room)
    seen: list[pd.DataFrame] = []
    plain = train.best_params
    monkeypatch.setattr(
        train, "best_params", lambda spec, rows, threads: (seen.append(rows), plain(spec, rows))[1]
    )
    search = make_spec(estimator={"params": {"max_iter": 3}, "search": {"max_leaf_nodes": [3, 5]}})
    assert room.train(search, frame, anchor_path=path).anchored_rows == 40
    assert not set(seen[0]["event_id"]) & set(frame["event_id"].iloc[50:90])
    spec = make_spec(estimator=SGD)
    champion = room.train(spec, make_frame(500, seed=1))
    found = room.train(spec, frame, anchor_path=path, champion_model=champion.model_path)
    assert (found.train_rows, found.anchored_rows) == (360, 40)


def test_an_anchor_that_cannot_be_read_stops_the_training(room: Room) -> None:
    frame = make_frame(300)
    (room.folder / "odd.parquet").write_bytes(b"no parquet")
    for name in ("gone.parquet", "odd.parquet"):
        with pytest.raises(TrainingError, match="an anchor that cannot be read"):
            room.train(make_spec(), frame, anchor_path=str(room.folder / name))
    path, _ = anchor_of(frame.drop(columns="event_id"), room)
    with pytest.raises(TrainingError, match="an anchor that cannot be read"):
        room.train(make_spec(), frame, anchor_path=path)


def test_without_an_anchor_nothing_is_left_out(room: Room) -> None:
    found = room.train(make_spec(), make_frame(300), anchor_path="")
    assert (found.anchored_rows, found.anchor_sha256, found.train_rows) == (0, "", 240)


# The linear model.


def test_a_linear_model_of_the_same_rows_is_kept_with_its_digest(room: Room) -> None:
    frame, spec = make_frame(600), make_spec()
    frame.loc[::7, "tenure"] = np.nan
    found = room.train(spec, frame)
    assert hashlib.sha256(Path(str(found.linear_path)).read_bytes()).hexdigest() == found.linear_sha256
    model = load_model(str(found.linear_path))
    split = split_rows(frame, spec, WINDOW.end)
    weights = row_weights(split.train["event_time"], spec, split.cut)
    assert type(model[-1]).__name__ == "LogisticRegression"
    by_hand = fit_linear(spec, split.train, weights)
    np.testing.assert_array_equal(model.predict_proba(frame), by_hand.predict_proba(frame))
    assert not np.array_equal(by_hand[-1].coef_, fit_linear(spec, split.train)[-1].coef_)
    numbers = make_spec(
        task="regression", metric="r2", estimator={"class": "sklearn.tree.DecisionTreeRegressor"}
    )
    amounts = frame.assign(churned=frame["spend"] * 2.0)
    ridge = load_model(str(room.train(numbers, amounts).linear_path))
    assert type(ridge[-1]).__name__ == "Ridge"
    assert np.corrcoef(ridge.predict(amounts), amounts["churned"])[0, 1] > 0.99


def test_a_linear_estimator_has_no_linear_model_beside_it(room: Room) -> None:
    spec = make_spec(estimator={"class": "sklearn.linear_model.LogisticRegression"})
    found = room.train(spec, make_frame(300))
    assert (found.linear_path, found.linear_sha256) == (None, "")


def test_a_linear_model_that_fails_does_not_stop_the_training(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec, rows, weights):
        raise FloatingPointError("no")

    monkeypatch.setattr(train, "fit_linear", refuse)
    found = room.train(make_spec(), make_frame(300))
    assert found.linear_path is None and found.train_rows == 240


def test_a_linear_model_learns_from_twenty_thousand_rows_at_most() -> None:
    frame, spec = make_frame(50_001), make_spec()
    thin = frame.iloc[::3]  # fewer than 20,000 rows, spread over time: all are used
    whole, again = fit_linear(spec, frame), fit_linear(spec, thin)
    np.testing.assert_array_equal(whole[-1].coef_, again[-1].coef_)
    weights = np.linspace(0.1, 1.0, len(frame))
    by_weight = fit_linear(spec, frame, weights)[-1].coef_
    np.testing.assert_array_equal(by_weight, fit_linear(spec, thin, weights[::3])[-1].coef_)
    assert whole[-1].n_iter_[0] < 200


# The labels.


def test_quantiles_tell_the_distribution_of_a_regressions_labels() -> None:
    spec = make_spec(task="regression", metric="r2", estimator={"class": "sklearn.linear_model.Ridge"})
    frame = make_frame(5000).assign(churned=np.random.default_rng(0).gamma(2.0, 3.0, 5000))
    found = np.array(label_quantiles(spec, frame))
    assert (found[0], found[-1]) == (frame["churned"].min(), frame["churned"].max())
    assert found[500] == pytest.approx(frame["churned"].median())
    assert label_quantiles(make_spec(), make_frame(50)) == ()
