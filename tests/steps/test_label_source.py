"""Labels of a source of their own meet the predictions they are for, as of when they were known."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from tasks.core.errors import ContractError, FetchError, SpecError
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.decide import record_labels
from tasks.labels import fetch_label_source
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.engine import open_store
from tasks.store.labels import matured
from tests.labelled import DAY, T0, day, serve, spec_with


@pytest.fixture
def engine(settings: Settings):
    return open_store(settings)


def database(tmp_path: Path, frame: pd.DataFrame) -> str:
    url = f"sqlite:///{tmp_path / 'truth.db'}"
    frame.to_sql("truth", sa.create_engine(url), index=False)
    return url


def fetched(spec: ModelSpec, settings: Settings, window: Window, as_of: datetime) -> int:
    dataset = fetch_label_source.fn(spec, window, as_of, settings=settings)
    return record_labels.fn(spec, dataset, as_of=as_of, settings=settings)


def standing(engine, **over: Any) -> dict[str, Any]:
    frame = matured(engine, "churn", Window(T0, T0 + 90 * DAY), **over)
    return dict(zip(frame["row_key"], frame["label"], strict=True))


def test_labels_come_from_a_table_of_their_own_with_the_time_they_were_known(
    engine, settings, tmp_path
) -> None:
    keys, _ = serve(engine, 0, rows=4)
    serve(engine, 5, rows=2)
    truth = pd.DataFrame(
        {
            "customer": [keys[0], keys[1], keys[1], keys[2], keys[3], "stranger", "d5-0"],
            "outcome": [1.0, 0.0, 1.0, 1.0, None, 1.0, 1.0],
            "told": [
                *("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z", "2026-01-09T00:00:00Z"),
                *("2026-01-20T00:00:00Z", "2026-01-07T00:00:00Z", "2026-01-07T00:00:00Z"),
                "2026-01-11T00:00:00Z",
            ],
        }
    )
    source = {"url": database(tmp_path, truth), "table": "truth", "key": "customer", "column": "outcome"}
    spec = spec_with(source | {"timestamp": "told"})
    now = T0 + 5 * DAY
    assert fetched(spec, settings, day(0), now) == 3
    assert fetched(spec, settings, day(0), now) == 0
    assert standing(engine) == {keys[0]: 1.0, keys[1]: 1.0}, "not of strangers, the future or other windows"
    assert standing(engine, as_of=T0 + 3 * DAY) == {keys[0]: 1.0, keys[1]: 0.0}, "the correction came later"
    assert standing(engine, as_of=T0 + 1.5 * DAY) == {keys[0]: 1.0}
    assert fetched(spec, settings, day(0), T0 + 30 * DAY) == 1
    assert standing(engine)[keys[2]] == 1.0


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_labels_of_a_file_go_by_the_id_of_the_prediction(engine, settings, tmp_path, kind: str) -> None:
    keys, y = serve(engine, 0, rows=30)
    truth = pd.DataFrame({"id": [f"id-{key}" for key in keys[:20]], "outcome": y[:20]})
    path = tmp_path / f"truth.{kind}"
    truth.to_parquet(path) if kind == "parquet" else truth.to_csv(path, index=False)
    spec = spec_with({"url": str(path), "key": "id", "column": "outcome", "by": "prediction_id"})
    assert fetched(spec, settings, day(0), T0 + 2.5 * DAY) == 16, "only those that are mature"
    assert fetched(spec, settings, day(0), T0 + 5 * DAY) == 4
    assert standing(engine) == dict(zip(keys[:20], y[:20].tolist(), strict=True))
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT count(DISTINCT prediction_id) FROM labels").scalar()
    assert kept == 20


def test_keys_that_are_numbers_in_the_source_meet_those_of_the_log(engine, settings, tmp_path) -> None:
    rows = {"prediction_id": ["p"], "row_key": [7], "event_time": [T0], "prediction": [0], "score": [None]}
    predictions.log(engine, pd.DataFrame(rows), model="churn", version=1, served_at=T0)
    truth = pd.DataFrame({"id": [7, 8], "outcome": [1, 0]})
    source = {"url": database(tmp_path, truth), "table": "truth", "key": "id", "column": "outcome"}
    assert fetched(spec_with(source), settings, day(0), T0 + 9 * DAY) == 1
    assert standing(engine) == {"7": 1}


def test_a_window_that_is_not_mature_or_was_never_served_has_no_labels(engine, settings, tmp_path) -> None:
    truth = pd.DataFrame({"id": ["a"], "outcome": [1]})
    source = {"url": database(tmp_path, truth), "table": "truth", "key": "id", "column": "outcome"}
    for as_of in (T0 + DAY, T0 + 9 * DAY):
        assert fetched(spec_with(source), settings, day(0), as_of) == 0


def test_a_source_of_labels_that_is_wrong_says_so(engine, settings, tmp_path) -> None:
    serve(engine, 0, rows=3)
    truth = pd.DataFrame({"id": ["a"], "outcome": [1]})
    source = {"url": database(tmp_path, truth), "table": "truth", "key": "id", "column": "outcome"}
    now = T0 + 9 * DAY
    with pytest.raises(SpecError, match=r"no label\.source"):
        fetch_label_source.fn(spec_with(), day(0), now, settings=settings)
    for wrong, error in [
        ({"column": "result"}, ContractError),
        ({"key": "customer"}, ContractError),
        ({"timestamp": "told"}, ContractError),
        ({"table": "nowhere"}, FetchError),
    ]:
        with pytest.raises(error):
            fetch_label_source.fn(spec_with(source | wrong), day(0), now, settings=settings)


def test_labels_and_keys_of_any_spelling_meet_those_of_the_log(engine, settings, tmp_path) -> None:
    place = tmp_path / "truth"
    place.mkdir()
    rows = {"prediction_id": ["p", "q"], "row_key": ["1001", "1002"], "event_time": [T0, T0]}
    frame = pd.DataFrame(rows | {"prediction": [0, 1], "score": [None, None]})
    predictions.log(engine, frame, model="churn", version=1, served_at=T0)
    pd.DataFrame({"id": [1001.0, None], "outcome": [True, False]}).to_parquet(place / "a.parquet")
    pd.DataFrame({"id": ["1002  ", "x"], "outcome": ["0", "1"]}).to_parquet(place / "b.parquet")
    spec = spec_with({"url": str(place), "key": "id", "column": "outcome"})
    assert fetched(spec, settings, day(0), T0 + 9 * DAY) == 2
    assert standing(engine) == {"1001": 1, "1002": 0}
    pd.DataFrame({"id": ["1002"], "outcome": ["yes"]}).to_parquet(place / "b.parquet")
    with pytest.raises(ContractError, match="cannot be one"):
        fetched(spec, settings, day(0), T0 + 9 * DAY)
