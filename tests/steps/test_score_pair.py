"""Batch scores of two versions: the mean, the log, and a partner that fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sklearn.metrics import roc_auc_score

from tasks.core.model.bundle import MODEL, digest_of
from tasks.core.model.pipeline import build_pipeline, predict
from tasks.core.model.second_opinion import combine
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.fetch import fetch_rows_to_score
from tasks.replay.story import Story
from tasks.score import ScoredWindow, score_window
from tasks.scoring.answering import Answering
from tasks.settings import Settings
from tasks.store import partitions, registry
from tasks.store.engine import open_store, reading
from tasks.store.models import load_model, save_model
from tasks.store.schema import predictions
from tasks.store.version import PartnerInfo
from tests.make import START, make_frame, make_spec, spec_block
from tests.versions import SMALL, Made, a_version, fresh, made, place

__all__ = ["fresh", "made", "place"]

WINDOW = Window(START, START + timedelta(days=28))


@pytest.fixture
def other(made: Made, place: Settings) -> PartnerInfo:
    """Return the version of `made`, as a partner."""
    version = a_version(made, place)
    copy = registry.local_copy(version, settings=place)
    return PartnerInfo(7, copy.path, copy.manifest)


@pytest.fixture
def champion_path(tmp_path: Path) -> str:
    frame = make_frame(400, seed=9)
    path = tmp_path / MODEL
    save_model(build_pipeline(make_spec(estimator=SMALL)).fit(frame, frame["churned"]), path)
    return str(path)


def spec_on(folder: Path) -> ModelSpec:
    make_frame(230, seed=4).to_parquet(folder / "rows.parquet")
    source = {**spec_block()["source"], "url": str(folder / "rows.parquet"), "table": None}
    scoring = {"batch_rows": 100, "into": str(folder / "into")}
    return make_spec(source=source, estimator=SMALL, scoring=scoring)


def run(spec: ModelSpec, path: str, place: Settings, **over: Any) -> ScoredWindow:
    rows = fetch_rows_to_score.fn(spec, WINDOW, WINDOW.end, settings=place)
    return score_window.fn(spec, rows, path, 12, served_at=WINDOW.end, settings=place, **over)


def logged(place: Settings) -> pd.DataFrame:
    with reading(open_store(place)) as connection:
        rows = connection.execute(sa.select(predictions).order_by(predictions.c.prediction_id)).mappings()
        return pd.DataFrame([dict(row) for row in rows])


def test_the_answer_is_the_mean_of_both(
    tmp_path: Path, place: Settings, champion_path: str, other: PartnerInfo
) -> None:
    spec = spec_on(tmp_path)
    scored = run(spec, champion_path, place, partner=other)
    assert (scored.version, scored.partner, scored.partner_trouble) == (12, 7, "")
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    expected = combine(
        predict(load_model(champion_path), frame), predict(load_model(other.model_path), frame)
    )
    log = logged(place).set_index("row_key").loc[frame["event_id"].astype(str)]
    assert expected.probabilities is not None
    np.testing.assert_array_equal(np.array(log["score"].tolist()), expected.probabilities)
    assert log["prediction"].tolist() == expected.prediction.tolist()
    assert set(log["version"]) == {12}
    assert set(log["partner"]) == {7}
    assert set(pq.read_table(scored.into).column("partner").to_pylist()) == {7}
    again = run(spec, champion_path, place)
    assert (again.new, again.partner) == (0, None)
    assert set(logged(place)["partner"]) == {7}


def test_a_partner_with_other_bytes_leaves_the_champion_alone(
    tmp_path: Path, place: Settings, champion_path: str, other: PartnerInfo
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in Path(other.path).iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / MODEL).write_bytes(Path(champion_path).read_bytes())
    assert digest_of((broken / MODEL).read_bytes()) != other.manifest.files[MODEL]
    scored = run(spec_on(tmp_path), champion_path, place, partner=replace(other, path=str(broken)))
    assert (scored.rows, scored.partner) == (230, None)
    assert scored.partner_trouble
    assert set(logged(place)["partner"]) == {None}


class Refusing:
    """A model that answers the first part and then no more."""

    def __init__(self, model: Any):
        self._model, self.calls = model, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("no more")
        return self._model.predict_proba(frame)


def test_a_partner_that_fails_is_not_asked_again(made: Made, other: PartnerInfo) -> None:
    model = load_model(made.trained.model_path)
    failing = Refusing(model)
    asked = Answering("churn", 12, model, other, "", failing, other.spec.features.all)
    frame = make_frame(50)
    assert [asked.answer(frame)[1] for _ in range(4)] == [7, None, None, None]
    assert failing.calls == 2
    assert asked.trouble


def test_the_partner_outlives_compaction(
    tmp_path: Path, place: Settings, champion_path: str, other: PartnerInfo
) -> None:
    spec = spec_on(tmp_path)
    run(spec, champion_path, place, partner=other)
    engine, day = open_store(place), Window(START, START + timedelta(days=1))
    part = partitions.write_part(engine, spec.name, day, folder=tmp_path, settings=place, at=WINDOW.end)
    assert part is not None
    table = pq.read_table(f"{place.artifact_root}/{part.path}")
    assert set(table.column("partner").to_pylist()) == {7}


def test_a_replay_scores_what_served(champion_path: str, other: PartnerInfo) -> None:
    frame = make_frame(300, seed=6)
    truth = frame["churned"].to_numpy()
    story = Story(make_spec(estimator=SMALL), cast("Any", None), champion_path)
    both = combine(predict(load_model(champion_path), frame), predict(load_model(other.model_path), frame))
    assert both.probabilities is not None
    expected = roc_auc_score(truth, both.probabilities[:, 1])
    assert story._score(champion_path, other, frame, truth) == pytest.approx(expected, abs=1e-12)
    assert story._score(champion_path, None, frame, truth) != pytest.approx(expected, abs=1e-6)
