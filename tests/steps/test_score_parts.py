"""Scoring in parts: the same answers as at once, in bounded memory, in a file or a table besides the log."""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from tasks.core.dataset import Dataset
from tasks.core.errors import FetchError, SpecError, StoreError
from tasks.core.model.pipeline import build_pipeline, predict
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.fetch import fetch_rows_to_score, fetch_window
from tasks.score import ScoredWindow, score_window
from tasks.settings import Settings
from tasks.sources import assemble
from tasks.store import predictions
from tasks.store.engine import open_store
from tasks.store.models import save_model
from tasks.validate import validate_in_parts
from tests.make import START, make_frame, make_spec, spec_block

WINDOW = Window(START, START + timedelta(days=28))
SMALL = {"class": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 3}}


def spec_on(url: str, *, table: str | None = None, **scoring: Any) -> ModelSpec:
    source = {**spec_block()["source"], "url": url, "table": table}
    return make_spec(source=source, estimator=SMALL, scoring={"batch_rows": 100, **scoring})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    frame = make_frame(400, seed=9)
    fitted = build_pipeline(make_spec(estimator=SMALL)).fit(frame, frame["churned"])
    path = tmp_path_factory.mktemp("model") / "model.skops"
    save_model(fitted, path)
    return fitted, str(path)


def run(spec: ModelSpec, model: tuple[Any, str], settings: Settings, version: int = 3) -> ScoredWindow:
    rows = fetch_rows_to_score.fn(spec, WINDOW, WINDOW.end, settings=settings)
    validate_in_parts.fn(spec, rows, attempt="score", settings=settings)
    return score_window.fn(spec, rows, model[1], version, served_at=WINDOW.end, settings=settings)


def test_rows_read_through_files_are_those_read_at_once(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(900)
    newer = frame.iloc[::7].assign(
        spend=1.0, event_time=lambda rows: rows["event_time"] + timedelta(minutes=1)
    )
    frame.iloc[:500].to_parquet(tmp_path / "a.parquet")
    # Another part with another type for one column, and one that the first lacks.
    pd.concat([frame.iloc[500:], newer]).assign(
        tenure=lambda rows: rows["tenure"].round().astype(int)
    ).assign(extra=1).to_parquet(tmp_path / "b.parquet")
    spec = spec_on(str(tmp_path / "*.parquet"))
    at_once = fetch_window.fn(spec, WINDOW, WINDOW.end, settings=settings)
    through = fetch_rows_to_score.fn(spec, WINDOW, WINDOW.end, settings=settings)
    pd.testing.assert_frame_equal(pd.read_parquet(at_once.path), pd.read_parquet(through.path))
    assert (at_once.rows, at_once.columns, at_once.missing) == (
        through.rows,
        through.columns,
        through.missing,
    )
    assert not list(settings.work_dir(spec.name).glob(".rows-*")), "nothing of the way there is left"


def test_only_keys_and_times_are_in_memory(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "_SLICE_ROWS", 4096)
    rows, numbers = 60_000, 40
    rng = np.random.default_rng(0)
    frame = make_frame(rows)[["event_id", "event_time", "churned"]]
    wide = frame.assign(**{f"x{index}": rng.random(rows) for index in range(numbers)})
    pq.write_table(pa.Table.from_pandas(wide), tmp_path / "rows.parquet", row_group_size=1_000)
    del wide
    source = {**spec_block()["source"], "url": str(tmp_path / "rows.parquet"), "table": None}
    spec = make_spec(
        source=source, features={"numeric": [f"x{index}" for index in range(numbers)]}, contract={}
    )
    held = rows * numbers * 8
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        dataset = fetch_rows_to_score.fn(spec, WINDOW, WINDOW.end, settings=settings)
    finally:
        pa.set_memory_pool(usual)
    _POOLS.append(pool)
    assert dataset.rows == rows
    assert pool.max_memory() > rows * 8, "the measurement measures"
    assert pool.max_memory() < 0.6 * held


_POOLS: list[pa.MemoryPool] = []  # a pool must live as long as the last array that was made from it


def test_parts_give_the_answers_that_the_whole_gives(
    tmp_path: Path, settings: Settings, model: tuple[Any, str]
) -> None:
    frame = make_frame(730)
    frame.to_parquet(tmp_path / "rows.parquet")
    spec = spec_on(str(tmp_path / "rows.parquet"))
    first, again = run(spec, model, settings), run(spec, model, settings, version=4)
    assert (first.rows, first.new, first.left_out) == (730, 730, 0)
    assert (again.rows, again.new) == (730, 0)
    logged = (
        predictions.read(open_store(settings), spec.name, WINDOW).set_index("row_key").loc[frame["event_id"]]
    )
    said = predict(model[0], frame)
    assert np.array_equal(np.array(logged["score"].tolist()), said.probabilities)
    assert set(logged["version"]) == {3}, "the first answer stands"


def test_inputs_are_kept_where_something_reads_them_and_never_a_sensitive_value(
    tmp_path: Path, settings: Settings, model: tuple[Any, str]
) -> None:
    make_frame(120).to_parquet(tmp_path / "rows.parquet")
    plain = spec_on(str(tmp_path / "rows.parquet"))
    features = {**spec_block()["features"], "sensitive": ["region"]}
    asked = ModelSpec.model_validate(
        {**plain.model_dump(mode="json"), "drift": {"rows": "log"}, "features": features}
    )
    run(asked, model, settings)
    kept = predictions.read(open_store(settings), "churn", WINDOW, with_inputs=True)
    frame = pd.read_parquet(tmp_path / "rows.parquet").set_index("event_id")
    assert [row["spend"] for row in kept["inputs"]] == frame.loc[kept["row_key"], "spend"].tolist()
    hashes = {row["region"] for row in kept["inputs"]}
    assert len(hashes) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in hashes)


def test_bad_rows_are_set_aside_once_and_the_others_scored(
    tmp_path: Path, settings: Settings, model: tuple[Any, str]
) -> None:
    frame = make_frame(730)
    frame.loc[[5, 600, 601], "spend"] = -1.0
    frame.to_parquet(tmp_path / "rows.parquet")
    spec = spec_on(str(tmp_path / "rows.parquet"))
    done = run(spec, model, settings)
    assert (done.rows, done.left_out) == (727, 3)
    run(spec, model, settings)
    kept = [pd.read_parquet(path) for path in (settings.root / "quarantine" / spec.name).glob("*.parquet")]
    assert sorted(pd.concat(kept)["event_id"]) == sorted(frame.loc[[5, 600, 601], "event_id"])
    with sqlite3.connect(settings.root / "store.db") as store:
        assert store.execute("SELECT rows FROM quarantine").fetchall() == [(3,)]


def test_answers_stand_in_one_file_per_window(
    tmp_path: Path, settings: Settings, model: tuple[Any, str]
) -> None:
    frame = make_frame(330)
    frame.iloc[:300].to_parquet(tmp_path / "rows.parquet")
    spec = spec_on(str(tmp_path / "rows.parquet"), into=str(tmp_path / "out"))
    first = run(spec, model, settings)
    assert pq.read_table(first.into).num_rows == 300
    frame.to_parquet(tmp_path / "rows.parquet")  # thirty rows came late, and another version serves by now
    second = run(spec, model, settings, version=4)
    written = pd.read_parquet(second.into)
    assert first.into == second.into
    assert [path.name for path in (tmp_path / "out").iterdir()] == [Path(first.into).name]
    assert written.groupby("version").size().to_dict() == {3: 300, 4: 30}
    in_order = written.set_index("row_key").loc[frame["event_id"]]
    said = predict(model[0], frame)
    assert np.array_equal(np.array(in_order["score"].tolist()), said.probabilities)
    assert in_order["prediction"].tolist() == [str(label) for label in said.prediction]


def test_answers_stand_in_a_table_of_the_source(
    postgres_url: str, settings: Settings, model: tuple[Any, str]
) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    make_frame(250).to_sql("customer_events", engine, index=False)
    spec = spec_on(postgres_url, table="customer_events", into="table:scores")
    for _ in range(2):
        assert run(spec, model, settings).into == "table:scores"
    with engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT count(*), count(DISTINCT row_key), min(version) FROM scores")
        )
        assert found.one() == (250, 250, 3)
        kind = connection.execute(sa.text("SELECT prediction, score FROM scores LIMIT 1")).one()
    assert kind.prediction in ("0", "1")
    assert sum(json.loads(kind.score)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("into", "url"),
    [("table:scores", "rows.parquet"), ("table:a b; drop", "sqlite:///a.db"), ("table:", "sqlite:///a.db")],
)
def test_a_table_that_could_not_be_is_refused_when_the_spec_is_read(into: str, url: str) -> None:
    with pytest.raises(SpecError, match=r"scoring\.into"):
        spec_on(url, table="t" if "://" in url else None, into=into)


def test_a_folder_that_cannot_be_written_is_named_and_the_log_keeps_everything(
    tmp_path: Path, settings: Settings, model: tuple[Any, str]
) -> None:
    make_frame(50).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "out").write_text("a file, not a folder")
    spec = spec_on(str(tmp_path / "rows.parquet"), into=str(tmp_path / "out"))
    with pytest.raises(StoreError, match=r"scoring\.into; the prediction log has them all"):
        run(spec, model, settings)
    assert len(predictions.read(open_store(settings), spec.name, WINDOW)) == 50


def test_a_table_of_another_shape_is_left_alone(
    tmp_path: Path, settings: Settings, model: tuple[Any, str]
) -> None:
    url = f"sqlite:///{tmp_path / 'customers.db'}"
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    frame = make_frame(50)
    frame.assign(event_time=frame["event_time"].dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")).to_sql(
        "customer_events", engine, index=False
    )
    spec = spec_on(url, table="customer_events", into="table:customer_events")
    with pytest.raises(FetchError):
        run(spec, model, settings)
    assert len(pd.read_sql("SELECT * FROM customer_events", engine)) == 50


def test_a_file_changed_since_it_was_fetched_is_refused(tmp_path: Path, settings: Settings) -> None:
    make_frame(50).to_parquet(tmp_path / "rows.parquet")
    spec = spec_on(str(tmp_path / "rows.parquet"))
    rows: Dataset = fetch_rows_to_score.fn(spec, WINDOW, WINDOW.end, settings=settings)
    make_frame(51).to_parquet(rows.path)
    with pytest.raises(Exception, match="other bytes"):
        validate_in_parts.fn(spec, rows, settings=settings)
