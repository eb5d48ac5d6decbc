from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tasks.core.dataset import Dataset
from tasks.core.errors import TrainingError
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import build_pipeline, predict
from tasks.core.model.search import best_params
from tasks.core.model.split import split_rows
from tasks.core.model.weighting import row_weights
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.models import load_model
from tasks.train import train_challenger
from tests.make import START, make_frame, make_spec, spec_block

WINDOW = Window(START, START + timedelta(days=28))
SGD = {"class": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss"}, "mode": "partial_fit"}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with threadpool_limits(limits=1):
        yield


def stored(frame: pd.DataFrame, folder: Path, window: Window = WINDOW) -> Dataset:
    path = folder / "rows.parquet"
    frame.to_parquet(path, index=False)
    return Dataset(str(path), len(frame), hashlib.sha256(path.read_bytes()).hexdigest(), window)


def train(
    spec: ModelSpec, frame: pd.DataFrame, folder: Path, settings: Settings, attempt: str = "a1", **more
):
    return train_challenger.fn(spec, stored(frame, folder), attempt, settings=settings, **more)


def faded(rows: pd.DataFrame, end: datetime) -> np.ndarray:
    """Weights by hand: half after 0.35 of the 28 days of `make_spec`."""
    days = (end - rows["event_time"]).dt.total_seconds().to_numpy() / 86_400
    return 0.5 ** (days / (0.35 * 28))


@pytest.mark.parametrize(
    ("path", "params", "task"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20}, "classification"),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 10}, "classification"),
        ("sklearn.linear_model.LogisticRegression", {}, "classification"),
        ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 10}, "classification"),
        ("sklearn.linear_model.SGDClassifier", {"loss": "log_loss"}, "classification"),
        ("sklearn.linear_model.Ridge", {}, "regression"),
        ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 20}, "regression"),
    ],
)
def test_the_stored_model_gives_the_fitted_ones_answers_to_the_last_bit(
    path: str, params: dict, task: str, tmp_path: Path, settings: Settings
) -> None:
    spec = make_spec(
        task=task,
        metric="r2" if task == "regression" else "roc_auc",
        estimator={"class": path, "params": params},
    )
    frame = make_frame(600)
    frame.loc[::11, "tenure"] = np.nan
    frame.loc[::13, "region"] = None
    found = train(spec, frame, tmp_path, settings)
    split = split_rows(frame, spec, WINDOW.end)
    again = build_pipeline(spec).fit(
        split.train[spec.features.all],
        labels_of(split.train, spec),
        estimator__sample_weight=row_weights(split.train["event_time"], spec, split.cut),
    )
    assert found.rows_rule == "fading"
    kept = predict(load_model(found.model_path), split.holdout)
    fresh = predict(again, split.holdout)
    np.testing.assert_array_equal(kept.prediction, fresh.prediction)
    np.testing.assert_array_equal(kept.probabilities, fresh.probabilities)
    assert kept.classes == fresh.classes


def test_training_says_what_it_used_and_keeps_the_newest_rows_unseen(
    tmp_path: Path, settings: Settings
) -> None:
    frame = make_frame(500)
    found = train(make_spec(), frame, tmp_path, settings)
    holdout = pd.read_parquet(found.holdout_path)
    assert (found.train_rows, found.holdout_rows, len(holdout)) == (400, 100, 100)
    assert holdout["event_id"].tolist() == frame["event_id"].tolist()[400:]
    assert found.cut == frame["event_time"].iloc[400].to_pydatetime()
    keys = "\n".join(sorted(frame["event_id"].iloc[:400]))
    assert found.train_keys_sha256 == hashlib.sha256(keys.encode()).hexdigest()
    assert found.train_window == WINDOW and found.params == {"max_iter": 30, "max_leaf_nodes": 8}
    weights = faded(frame.iloc[:400], found.cut)
    assert dict(found.guess)[1] == pytest.approx(np.average(frame["churned"].iloc[:400], weights=weights))
    assert found.effective_rows == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert (found.rows_rule, found.rows_note, found.window_rows) == ("fading", "", 500)
    assert found.half_life_days == pytest.approx(9.8)
    assert hashlib.sha256(Path(found.model_path).read_bytes()).hexdigest() == found.model_sha256
    assert Path(found.model_path).parent == settings.root / "work" / "a1"
    json.dumps(found.params)


def test_the_same_attempt_again_gives_the_same_model(tmp_path: Path, settings: Settings) -> None:
    spec, frame = make_spec(), make_frame(400)
    answers = [
        predict(load_model(train(spec, frame, tmp_path, settings).model_path), frame).probabilities
        for _ in range(2)
    ]
    np.testing.assert_array_equal(answers[0], answers[1])


def test_nothing_of_the_holdout_reaches_the_model(tmp_path: Path, settings: Settings) -> None:
    spec, frame = make_spec(estimator={"class": "sklearn.linear_model.LogisticRegression"}), make_frame(500)
    spoilt = frame.copy()
    spoilt.loc[400:, ["tenure", "spend"]] = 1e6
    spoilt.loc[400:, "churned"] = 1 - spoilt.loc[400:, "churned"]
    answers = [
        predict(load_model(train(spec, rows, tmp_path, settings).model_path), frame).probabilities
        for rows in (frame, spoilt)
    ]
    np.testing.assert_array_equal(answers[0], answers[1])


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(500).astype({"churned": "float64"})
    frame.loc[:49, "churned"] = np.nan
    found = train(make_spec(), frame, tmp_path, settings)
    assert found.unlabelled_rows == 50 and found.train_rows + found.holdout_rows == 450
    assert load_model(found.model_path).classes_.tolist() == [0, 1]


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [3, 7], ["a", "b", "c"]])
def test_labels_of_every_kind_come_back_as_they_were(
    labels: list, tmp_path: Path, settings: Settings
) -> None:
    frame = make_frame(600)
    frame["churned"] = [labels[i % len(labels)] for i in range(600)]
    metric = "roc_auc" if len(labels) == 2 else "roc_auc_ovr"
    found = train(make_spec(metric=metric), frame, tmp_path, settings)
    assert predict(load_model(found.model_path), frame.iloc[:5]).classes == tuple(labels)


def test_entities_of_the_holdout_are_not_learnt_from(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(500)
    frame["customer"] = [f"c{i % 450}" for i in range(500)]
    spec = make_spec(source={**spec_block()["source"], "group": "customer"})
    found = train(spec, frame, tmp_path, settings)
    assert found.dropped_for_group == 50 and found.train_rows == 350


# What cannot be trained on.


def spoil(kind: str) -> pd.DataFrame:
    frame = make_frame(300)
    if kind == "one class":
        frame["churned"] = 1
    if kind == "one row":
        frame = frame.iloc[:1]
    if kind == "no rows":
        frame = frame.iloc[:0]
    if kind == "null column":
        frame["tenure"] = np.nan
    if kind == "null category":
        frame["plan"] = pd.Series([None] * 300, dtype=object)
    if kind == "null labels":
        frame["churned"] = np.nan
    if kind == "infinite":
        frame.loc[3, "spend"] = np.inf
    if kind == "no column":
        frame = frame.drop(columns="spend")
    if kind == "one moment":
        frame["event_time"] = frame["event_time"].iloc[0]
    return frame


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("one class", "one class only in 240 training rows"),
        ("one row", "1 labelled rows"),
        ("no rows", "0 labelled rows"),
        ("null column", "no value at all in tenure"),
        ("null category", "no value at all in plan"),
        ("null labels", "0 labelled rows"),
        ("infinite", "infinite values in spend"),
        ("no column", "cannot be read"),
        ("one moment", "no row before"),
    ],
)
def test_what_cannot_be_trained_on_is_said_plainly(
    kind: str, words: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(TrainingError, match=words) as caught:
        train(make_spec(), spoil(kind), tmp_path, settings)
    assert caught.value.model == "churn" and caught.value.expected


def test_an_estimators_complaint_never_quotes_a_row(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(300).astype({"spend": object})
    frame.loc[5, "spend"] = "ada@example.org"
    frame["spend"] = frame["spend"].astype(str)
    with pytest.raises(TrainingError) as caught:
        train(make_spec(), frame, tmp_path, settings)
    assert "could not convert" in str(caught.value)
    assert not any(value in str(caught.value) for value in frame["spend"].iloc[:20])


def test_the_threads_of_training_do_not_travel_with_the_model(tmp_path: Path, settings: Settings) -> None:
    place = settings.model_copy(update={"threads": 2})
    estimator = {"class": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 4}}
    found = train(make_spec(estimator=estimator), make_frame(200), tmp_path, place)
    assert load_model(found.model_path)[-1].n_jobs is None
    estimator["params"]["n_jobs"] = 1
    found = train(make_spec(estimator=estimator), make_frame(200), tmp_path, place, "own")
    assert load_model(found.model_path)[-1].n_jobs == 1


def test_a_parameter_the_estimator_refuses_is_named(tmp_path: Path, settings: Settings) -> None:
    spec = make_spec(estimator={"params": {"max_iter": -3}})
    with pytest.raises(TrainingError, match="max_iter"):
        train(spec, make_frame(300), tmp_path, settings)


# Going on from the champion.


def grown(tmp_path: Path, settings: Settings, estimator: dict, **more):
    """A champion trained on the older rows, and a challenger that went on from it with the newer ones."""
    spec = make_spec(estimator=estimator, **more)
    champion = train(spec, make_frame(400, seed=0), tmp_path, settings, "first")
    newer = make_frame(400, seed=1, start=START + timedelta(days=28))
    newer["spend"] *= 5
    return spec, champion, newer


@pytest.mark.parametrize(
    ("estimator", "more"),
    [
        (SGD, {}),
        (
            {"class": "sklearn.linear_model.SGDRegressor", "mode": "partial_fit"},
            {"task": "regression", "metric": "r2"},
        ),
    ],
)
def test_partial_fit_is_one_pass_from_the_champion_with_its_preprocessing(
    estimator: dict, more: dict, tmp_path: Path, settings: Settings
) -> None:
    spec, champion, newer = grown(tmp_path, settings, estimator, **more)
    before = Path(champion.model_path).read_bytes()
    found = train(spec, newer, tmp_path, settings, "second", champion_model=champion.model_path)
    by_hand = load_model(champion.model_path)
    split = split_rows(newer, spec, WINDOW.end)
    older, more = split.train, {"sample_weight": row_weights(split.train["event_time"], spec, split.cut)}
    if spec.task == "classification":
        more["classes"] = np.array([0, 1])
    by_hand[-1].partial_fit(by_hand[:-1].transform(older[spec.features.all]), labels_of(older, spec), **more)
    model = load_model(found.model_path)
    np.testing.assert_array_equal(model[-1].coef_, by_hand[-1].coef_)
    assert not np.array_equal(model[-1].coef_, load_model(champion.model_path)[-1].coef_)
    np.testing.assert_array_equal(
        model[:-1].transform(newer), load_model(champion.model_path)[:-1].transform(newer)
    )
    assert Path(champion.model_path).read_bytes() == before


def test_partial_fit_looks_only_at_rows_new_to_the_champion(tmp_path: Path, settings: Settings) -> None:
    spec, champion, newer = grown(tmp_path, settings, SGD)
    since = newer["event_time"].iloc[300].to_pydatetime()
    found = train(
        spec,
        newer,
        tmp_path,
        settings,
        "second",
        champion_model=champion.model_path,
        champion_train_end=since,
    )
    assert found.train_rows == 20  # rows 300 to 319; from 320 on is holdout
    with pytest.raises(TrainingError, match="no row that is new"):
        late = newer["event_time"].iloc[399].to_pydatetime()
        train(
            spec,
            newer,
            tmp_path,
            settings,
            "third",
            champion_model=champion.model_path,
            champion_train_end=late,
        )


def test_partial_fit_takes_a_batch_of_one_class_but_no_new_class(tmp_path: Path, settings: Settings) -> None:
    spec, champion, newer = grown(tmp_path, settings, SGD)
    found = train(
        spec, newer.assign(churned=0), tmp_path, settings, "second", champion_model=champion.model_path
    )
    assert load_model(found.model_path).classes_.tolist() == [0, 1]
    with pytest.raises(TrainingError, match="1 new classes"):
        train(spec, newer.assign(churned=2), tmp_path, settings, "third", champion_model=champion.model_path)


def test_partial_fit_without_a_champion_starts_from_scratch(tmp_path: Path, settings: Settings) -> None:
    found = train(make_spec(estimator=SGD), make_frame(400), tmp_path, settings)
    assert found.train_rows == 320


def test_partial_fit_of_an_estimator_that_cannot_is_refused(tmp_path: Path, settings: Settings) -> None:
    champion = train(make_spec(), make_frame(400), tmp_path, settings, "first")
    spec = make_spec(estimator={"mode": "partial_fit"})
    with pytest.raises(TrainingError, match="HistGradientBoostingClassifier"):
        train(spec, make_frame(400), tmp_path, settings, "second", champion_model=champion.model_path)


def test_partial_fit_with_other_features_is_refused(tmp_path: Path, settings: Settings) -> None:
    _, champion, newer = grown(tmp_path, settings, SGD)
    other = make_spec(estimator=SGD, features={"numeric": ["spend", "tenure"], "categorical": ["plan"]})
    with pytest.raises(TrainingError, match="other features"):
        train(other, newer, tmp_path, settings, "second", champion_model=champion.model_path)


# The search.


def test_the_search_finds_the_planted_parameter_and_the_model_is_fitted_with_it(
    tmp_path: Path, settings: Settings
) -> None:
    estimator = {
        "class": "sklearn.ensemble.HistGradientBoostingClassifier",
        "params": {"max_iter": 20},
        "search": {"learning_rate": [1e-6, 0.1], "max_leaf_nodes": [4]},
    }
    spec = make_spec(estimator=estimator, metric="neg_log_loss")
    found = train(spec, make_frame(600), tmp_path, settings)
    assert found.params == {"max_iter": 20, "learning_rate": 0.1, "max_leaf_nodes": 4}
    assert load_model(found.model_path)[-1].learning_rate == 0.1


def test_the_search_never_judges_on_rows_older_than_those_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.core.model import search

    seen = []
    plain = search.build_pipeline

    class Watched:
        def __init__(self, model):
            self.model = model

        @property
        def steps(self):
            return self.model.steps

        def fit(self, x, y, **weights):
            self.newest = x.index.max()
            self.model.fit(x, y, **weights)
            self.classes_ = self.model.classes_
            return self

        def predict(self, x):
            seen.append((self.newest, x.index.min()))
            return self.model.predict(x)

        def predict_proba(self, x):
            return self.model.predict_proba(x)

    monkeypatch.setattr(search, "build_pipeline", lambda spec, threads: Watched(plain(spec, threads=threads)))
    spec = make_spec(estimator={"params": {"max_iter": 5}, "search": {"max_leaf_nodes": [3, 5]}})
    best_params(spec, make_frame(200))
    assert len(seen) == 6 and all(newest < oldest for newest, oldest in seen)


def test_a_search_without_any_score_is_refused() -> None:
    spec = make_spec(estimator={"search": {"max_iter": [5]}})
    with pytest.raises(TrainingError, match="no score for any combination"):
        best_params(spec, make_frame(200).assign(churned=0))


def test_a_dataset_that_is_not_there_is_a_training_error(tmp_path: Path, settings: Settings) -> None:
    dataset = replace(stored(make_frame(100), tmp_path), path=str(tmp_path / "gone.parquet"))
    with pytest.raises(TrainingError, match="cannot be read"):
        train_challenger.fn(make_spec(), dataset, "a1", settings=settings)
