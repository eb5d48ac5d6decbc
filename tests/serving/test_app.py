"""The app as a client sees it: answers of the champion, each on record, whatever moves behind it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from serving.app import create_app
from serving.body import MOST_BYTES
from serving.request import MOST_ROWS
from tasks.core.model.pipeline import predict
from tasks.core.window import Window
from tasks.register import Version
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.engine import open_store
from tasks.store.models import load_model
from tasks.versions.move import move
from tests.serving.running import running
from tests.versions import LATER, SPEC_, Made, a_version, set_up

EVER = Window(LATER.replace(year=2000), LATER.replace(year=2999))
ROW: dict[str, Any] = {"tenure": 12.0, "spend": 30.0, "plan": "basic", "region": "north"}


def promoted(made: Made, place: Settings, attempt: str = "a1") -> Version:
    version = a_version(made, place, attempt)
    move(SPEC_, version, actor="ann", reason="good", decision_id=f"d-{attempt}", as_of=LATER, settings=place)
    return version


@pytest.fixture(scope="module")
def place_of_client(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A place with one promoted version."""
    folder = tmp_path_factory.mktemp("serving") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    promoted(made, place)
    return place


@pytest.fixture(scope="module")
def client(place_of_client: Settings) -> Iterator[httpx.Client]:
    """The app with one promoted version behind it, which it looks at every 50 ms."""
    with running(create_app(["churn"], place_of_client, poll_seconds=0.05)) as client:
        yield client


def asked(client: httpx.Client, *rows: object, status: int = 200) -> Any:
    given = client.post("/predict/churn", json={"rows": list(rows)})
    assert given.status_code == status, given.text
    return given.json()


def test_an_answer_is_the_models_own_and_stands_in_the_store(
    client: httpx.Client, made: Made, place_of_client: Settings
) -> None:
    frame = made.frame.head(40)
    rows = frame[SPEC_.features.all].replace({np.nan: None}).to_dict("records")
    given = asked(client, *rows)
    model = load_model(made.trained.model_path)
    offline = predict(model, frame)
    assert given["version"] == 1
    assert [one["prediction"] for one in given["answers"]] == offline.prediction.tolist()
    scores = [[one["probabilities"]["0"], one["probabilities"]["1"]] for one in given["answers"]]
    assert np.array_equal(np.array(scores), offline.probabilities)

    kept = predictions.read(open_store(place_of_client), "churn", EVER)
    kept = kept[kept["prediction_id"].str.startswith(given["request_id"])]
    assert set(kept["version"]) == {1}
    assert sorted(kept["prediction_id"]) == sorted(f"{given['request_id']}/{i}" for i in range(40))
    assert kept["latency_ms"].gt(0).all()


def test_a_row_with_its_key_and_time_is_found_by_them(
    client: httpx.Client, place_of_client: Settings
) -> None:
    asked(client, {**ROW, "event_id": "e-7", "event_time": "2026-02-01T10:00:00+01:00"})
    moment = pd.Timestamp("2026-02-01T09:00:00Z").to_pydatetime()
    window = Window(moment, moment + pd.Timedelta("1s").to_pytimedelta())
    kept = predictions.read(open_store(place_of_client), "churn", window, with_inputs=True)
    assert list(kept["row_key"]) == ["e-7"]
    assert kept["inputs"][0] == ROW


@pytest.mark.parametrize(
    ("row", "field", "words"),
    [
        ({k: v for k, v in ROW.items() if k != "spend"}, "spend", "missing"),
        ({"spend_usd": 3, **{k: v for k, v in ROW.items() if k != "spend"}}, "spend", "'spend_usd' looks"),
        ({**ROW, "age": 3}, "age", "no such field"),
        ({**ROW, "spend": "30"}, "spend", "a number is needed"),
        ({**ROW, "spend": True}, "spend", "a number is needed"),
        ({**ROW, "spend": -1}, "spend", "greater than or equal to 0"),
        ({**ROW, "plan": "gold"}, "plan", "one of ['basic', 'pro', 'team']"),
        ({**ROW, "event_time": "2026-02-01T10:00:00"}, "event_time", "time with its zone"),
        ({**ROW, "region": "a\0b"}, "region", "without a NUL"),
        ({**ROW, "event_id": "a\0b"}, "event_id", "without a NUL"),
        ([1, 2], None, "a row is an object"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_refused_with_its_field_and_without_its_value(
    client: httpx.Client, place_of_client: Settings, row: object, field: str | None, words: str
) -> None:
    before = len(predictions.read(open_store(place_of_client), "churn", EVER))
    given = client.post("/predict/churn", json={"rows": [ROW, row]})
    assert given.status_code == 422
    assert len(predictions.read(open_store(place_of_client), "churn", EVER)) == before
    if field is None:
        return
    told = given.json()["detail"]
    assert any(one["row"] == 1 and one["field"] == field and words in one["problem"] for one in told), told
    assert "gold" not in given.text


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"rows": []}', b'{"rows": [{}], "more": 1}', b'{"rows": 3}', b"{", b"\xff\xfe",
        b'{"rows": [{"tenure": NaN, "spend": 1, "plan": "pro", "region": "x"}]}',
        b'{"rows": [{"tenure": 1e400, "spend": 1, "plan": "pro", "region": "x"}]}',
        b'{"rows": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(client: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert client.post("/predict/churn", content=body, headers=headers).status_code == 422


def test_too_many_rows_and_too_many_bytes_are_refused(client: httpx.Client) -> None:
    asked(client, *[ROW] * (MOST_ROWS + 1), status=422)
    headers = {"Content-Type": "application/json"}
    given = client.post("/predict/churn", content=b" " * (MOST_BYTES + 1), headers=headers)
    assert given.status_code == 413


def test_a_model_that_is_not_here_and_one_without_a_champion(place: Settings) -> None:
    with running(create_app(["churn"], place)) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == 503
        assert asked(client, ROW, status=503)["detail"] == "no champion yet: run the retrain flow"
        assert client.post("/predict/other", json={"rows": [ROW]}).status_code == 404


def test_a_promotion_is_served_at_the_next_look_and_a_broken_version_never(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(made, place)
    app = create_app(["churn"], place, poll_seconds=3600)
    with running(app) as client:
        holder = app.state.service.holders["churn"]
        assert asked(client, ROW)["version"] == 1
        promoted(made, place, "a2")
        assert asked(client, ROW)["version"] == 1  # not looked yet
        assert holder.refresh()
        assert asked(client, ROW)["version"] == 2

        promoted(made, place, "a3")
        monkeypatch.setattr("tasks.store.registry.difference", lambda *_: "other predictions on 1 row")
        assert not holder.refresh()
        assert asked(client, ROW)["version"] == 2
        assert "other predictions on 1 row" in client.get("/models").json()[0]["trouble"]
        monkeypatch.undo()
        assert holder.refresh()
        assert client.get("/models").json()[0] | {"digest": ""} == {
            "model": "churn", "version": 3, "partner": None, "digest": "", "promise": 0.8,
                "metric": "roc_auc", "trouble": "", "warning": "", "rollout": None,
        }  # fmt: skip


def test_what_cannot_be_kept_is_not_answered(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr("serving.record.Recorder._commit", full)
    told = asked(client, ROW, status=503)["detail"]
    assert "prediction log that cannot be written (OSError)" in told
    monkeypatch.undo()
    assert asked(client, ROW)["version"] == 1


def test_the_numbers_count_every_request_and_every_row_that_was_kept(place: Settings, made: Made) -> None:
    promoted(made, place)
    with running(create_app(["churn"], place)) as client:
        asked(client, ROW, ROW, ROW)
        asked(client, {**ROW, "spend": "x"}, status=422)
        client.post("/predict/nobody", json={"rows": [ROW]})
        text = client.get("/metrics").text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(found['evergreen_requests_total{model="churn",status="200"}']) == 1
    assert float(found['evergreen_requests_total{model="churn",status="422"}']) == 1
    assert float(found['evergreen_requests_total{model="unknown",status="404"}']) == 1
    assert float(found['evergreen_rows_total{model="churn",version="1"}']) == 3
    assert float(found["evergreen_log_rows_total"]) == 3
    assert float(found["evergreen_log_commits_total"]) == 1
    assert float(found['evergreen_served_version{model="churn"}']) == 1
    assert float(found['evergreen_trouble{model="churn"}']) == 0
    assert float(found['evergreen_answer_seconds_count{model="churn"}']) == 1


def test_requests_that_come_together_share_commits(place: Settings, made: Made) -> None:
    promoted(made, place)
    app = create_app(["churn"], place)
    with running(app) as client, ThreadPoolExecutor(16) as pool:
        given = list(pool.map(lambda _: asked(client, ROW)["request_id"], range(80)))
    assert len(set(given)) == 80
    kept = predictions.read(open_store(place), "churn", EVER)
    assert sorted(kept["prediction_id"]) == sorted(f"{one}/0" for one in given)
    assert app.state.service.recorder.written == 80
