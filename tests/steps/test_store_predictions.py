"""Every prediction is kept once, and meets the newest label its row ever got."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tasks.core.errors import ContractError
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.engine import open_store
from tests.stores import BOTH, fresh_store

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = Window(T0, T0 + 7 * DAY)


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_store(Settings(state_dir=tmp_path_factory.mktemp("one")))


def served(rows: int = 4, *, days: float = 4, **over: Any) -> pd.DataFrame:
    times = pd.date_range(T0, periods=rows, freq=timedelta(days=days / max(rows, 1)))
    frame = pd.DataFrame(
        {
            "prediction_id": [f"p{n}" for n in range(rows)],
            "row_key": [f"k{n}" for n in range(rows)],
            "event_time": times,
            "prediction": [n % 2 for n in range(rows)],
            "score": [[0.25, 0.75]] * rows,
        }
    )
    return frame.assign(**over)


def log(store: Engine, rows: pd.DataFrame, **over: Any) -> int:
    return predictions.log(store, rows, **{"model": "churn", "version": 3, "served_at": T0 + DAY, **over})


def known(store: Engine, labels: dict[str, Any], at: datetime, model: str = "churn") -> int:
    frame = pd.DataFrame({"row_key": list(labels), "label": list(labels.values())})
    return predictions.labels_record(store, model, frame, at)


def labels_of(store: Engine, **over: Any) -> dict[str, Any]:
    frame = predictions.matured(store, "churn", WEEK, **over)
    return dict(zip(frame["row_key"], frame["label"], strict=True))


def test_what_was_logged_is_read_back_unchanged(store: Engine) -> None:
    inputs = [{"tenure": 1.5, "region": "h:ab12"}] * 4
    assert log(store, served(), inputs=inputs, latency_ms=2.5) == 4
    found = predictions.read(store, "churn", WEEK, with_inputs=True)
    assert found["prediction_id"].tolist() == ["p0", "p1", "p2", "p3"]
    assert found["event_time"].tolist() == [T0 + n * DAY for n in range(4)]
    assert found["event_time"].dt.tz is not None
    assert found["prediction"].tolist() == [0, 1, 0, 1]
    assert found["score"].tolist() == [[0.25, 0.75]] * 4
    assert found["inputs"].tolist() == inputs
    assert set(found["version"]) == {3}
    assert set(found["latency_ms"]) == {2.5}
    assert set(found["served_at"]) == {pd.Timestamp(T0 + DAY)}


def test_a_prediction_logged_again_keeps_its_first_answer(store: Engine) -> None:
    log(store, served(2))
    assert log(store, served(3, prediction=9), version=4) == 1
    found = predictions.read(store, "churn", WEEK)
    assert found["prediction"].tolist() == [0, 1, 9]
    assert found["version"].tolist() == [3, 3, 4]


def test_the_same_id_of_two_models_is_two_predictions(store: Engine) -> None:
    assert log(store, served(2)) + log(store, served(2), model="spend") == 4
    assert len(predictions.read(store, "spend", WEEK)) == 2


@pytest.mark.parametrize(
    "values",
    [["yes", "no"], [True, False], [1, 0], [0.1 + 0.2, -1e-300], [np.int64(7), np.int64(8)]],
    ids=["strings", "booleans", "integers", "floats", "numpy"],
)
def test_predictions_and_labels_keep_the_type_of_their_class(store: Engine, values: list[Any]) -> None:
    log(store, served(2, prediction=pd.Series(values, dtype=object)))
    known(store, {"k0": values[0], "k1": values[1]}, T0 + 9 * DAY)
    found = predictions.matured(store, "churn", WEEK)
    plain = [getattr(value, "item", lambda value=value: value)() for value in values]
    for column in ("prediction", "label"):
        assert found[column].tolist() == plain
        assert [type(value) for value in found[column].tolist()] == [type(value) for value in plain]


def test_a_prediction_that_is_not_a_number_is_recorded_as_missing(store: Engine) -> None:
    log(store, served(1, prediction=[float("nan")], score=[None]))
    found = predictions.read(store, "churn", WEEK)
    assert found["prediction"].isna().tolist() == [True]
    assert found["score"].isna().tolist() == [True]


def test_windows_that_touch_share_no_prediction_and_lose_none(store: Engine) -> None:
    log(store, served(28, days=7))
    parts = [predictions.read(store, "churn", day) for day in WEEK.split(DAY)]
    ids = pd.concat(parts)["prediction_id"]
    assert sorted(ids) == sorted(f"p{n}" for n in range(28))


def test_predictions_of_one_version_can_be_read_alone(store: Engine) -> None:
    log(store, served(2))
    log(store, served(4), version=4)
    assert len(predictions.read(store, "churn", WEEK, version=4)) == 2


def test_an_empty_window_has_the_same_columns(store: Engine) -> None:
    log(store, served())
    full, empty = (predictions.read(store, "churn", window) for window in (WEEK, WEEK.before()))
    assert (len(empty), list(empty)) == (0, list(full))
    labelled = predictions.matured(store, "churn", WEEK)
    assert (len(labelled), list(labelled)[-1]) == (0, "label")


def test_the_newest_label_wins_and_every_label_is_kept(store: Engine) -> None:
    log(store, served(2))
    assert known(store, {"k0": 0, "k1": 0, "other": 1}, T0 + 8 * DAY) == 3
    assert known(store, {"k0": 1, "k1": 0}, T0 + 9 * DAY) == 1
    assert labels_of(store) == {"k0": 1, "k1": 0}
    with store.connect() as connection:
        query = "SELECT label, known_at FROM labels WHERE row_key = 'k0' ORDER BY id"
        assert [int(row[0]) for row in connection.exec_driver_sql(query)] == [0, 1]


def test_of_labels_known_at_the_same_moment_the_last_recorded_wins(store: Engine) -> None:
    log(store, served(1))
    for label in (0, 1, 1):
        known(store, {"k0": label}, T0 + 8 * DAY)
    assert labels_of(store) == {"k0": 1}


def test_an_old_window_recorded_again_does_not_undo_a_correction(store: Engine) -> None:
    log(store, served(1))
    known(store, {"k0": 0}, T0 + 8 * DAY)
    known(store, {"k0": 1}, T0 + 9 * DAY)
    assert known(store, {"k0": 0}, T0 + 8 * DAY) == 0
    assert labels_of(store) == {"k0": 1}


def test_a_replay_sees_only_what_was_known_then(store: Engine) -> None:
    log(store, served(2))
    known(store, {"k0": 0}, T0 + 8 * DAY)
    known(store, {"k0": 1, "k1": 1}, T0 + 9 * DAY)
    assert labels_of(store, as_of=T0 + 8 * DAY) == {"k0": 0}
    assert labels_of(store, as_of=T0 + 7 * DAY) == {}


def test_a_label_that_is_missing_is_no_label(store: Engine) -> None:
    log(store, served(3))
    assert known(store, {"k0": None, "k1": float("nan"), "k2": 1.0}, T0 + 8 * DAY) == 1
    assert labels_of(store) == {"k2": 1.0}


def test_labels_of_another_model_are_not_joined(store: Engine) -> None:
    log(store, served(1))
    known(store, {"k0": 1}, T0 + 8 * DAY, model="spend")
    assert labels_of(store) == {}


def test_keys_that_are_numbers_meet_their_labels(store: Engine) -> None:
    log(store, served(2, row_key=[10, 11]))
    predictions.labels_record(store, "churn", pd.DataFrame({"row_key": [11], "label": [1]}), T0 + 8 * DAY)
    assert labels_of(store) == {"11": 1}


def test_rows_of_the_wrong_shape_are_refused_before_anything_is_written(store: Engine) -> None:
    naive = served(2)
    naive["event_time"] = naive["event_time"].dt.tz_localize(None)
    for rows, message in [
        (served(2).drop(columns="score"), "without \\['score'\\]"),
        (naive, "without a zone"),
        (served(2, event_time=[pd.Timestamp(T0), pd.NaT]), "missing event times"),
    ]:
        with pytest.raises(ContractError, match=message):
            log(store, rows)
    with pytest.raises(ContractError, match="1 inputs for 2"):
        log(store, served(2), inputs=[{}])
    assert log(store, served(0)) == 0
    assert predictions.read(store, "churn", WEEK).empty


def test_hostile_text_is_data_and_nothing_else(store: Engine) -> None:
    text = "'; DROP TABLE predictions; -- ☃ %s :x"
    log(store, served(1, row_key=[text], prediction_id=[text]), model=text)
    predictions.labels_record(store, text, pd.DataFrame({"row_key": [text], "label": [text]}), T0 + DAY)
    assert predictions.matured(store, text, WEEK)["label"].tolist() == [text]


def test_three_thousand_rows_take_few_statements(store: Engine) -> None:
    rows = served(3000, days=6)
    labels = pd.DataFrame({"row_key": rows["row_key"], "label": 1})
    inputs = [{f"feature_{n}": 1.5 * n for n in range(10)}] * 3000
    said: list[str] = []
    event.listen(store, "before_cursor_execute", lambda *call: said.append(call[2]))
    counts = [
        log(store, rows, inputs=inputs),
        predictions.labels_record(store, "churn", labels, T0 + 8 * DAY),
        predictions.labels_record(store, "churn", labels, T0 + 9 * DAY),
        len(predictions.matured(store, "churn", WEEK)),
    ]
    assert counts == [3000, 3000, 0, 3000]
    assert len(said) < 60  # row by row it would be thousands


LABELS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=15
)


@given(LABELS)
@effort(max_examples=25, deadline=None)
def test_matured_agrees_with_a_plain_reading_of_the_history(
    one_store: Engine, arrivals: list[tuple[str, int, int]]
) -> None:
    model = uuid4().hex
    log(one_store, served(3, row_key=list("abc")), model=model)
    arrivals.sort(key=lambda item: item[2])  # stable: labels of one day stay in the order drawn
    for key, label, day in arrivals:
        known(one_store, {key: label}, T0 + day * DAY, model=model)
    for as_of in range(5):
        frame = predictions.matured(one_store, model, WEEK, as_of=T0 + as_of * DAY)
        newest = {key: label for key, label, day in arrivals if day <= as_of}
        assert dict(zip(frame["row_key"], frame["label"], strict=True)) == newest
