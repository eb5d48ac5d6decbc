"""Two versions behind the app: the mean over HTTP, in the log, retraced; partners that come, go or break."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from serving import holder as holding
from serving.app import create_app
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.model.second_opinion import combine
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.engine import open_store, reading
from tasks.store.models import load_model
from tasks.store.schema import predictions
from tasks.versions.partner import set_partner
from tests.serving.exposed import other_model, promoted
from tests.serving.running import running
from tests.serving.test_app import asked
from tests.versions import LATER, SPEC_, Made, a_version, files_of, moved, set_up

ROWS = 200


@pytest.fixture(scope="module")
def models(made: Made, tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Return three models that differ: of versions 1, 2 and 3, which serves."""
    folder = tmp_path_factory.mktemp("models")
    return [other_model(made, folder, rows) for rows in (240, 120, 180)]


@pytest.fixture
def pair(models: list[Made], settings: Settings, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return a place where version 3 answers with version 1, and version 2 served between."""
    monkeypatch.setattr("serving.scoring._agrees", lambda *_: True)  # most of a version's loading
    place = set_up(replace_probe(settings), fresh)
    for number, model in enumerate(models, 1):
        promoted(model, place, f"a{number}")
    beside(place, 1)
    return place


def replace_probe(settings: Settings) -> Settings:
    return settings.model_copy(update={"probe": "here"})


def beside(place: Settings, partner: int | None, champion: int = 3, decision: str = "") -> None:
    set_partner(
        SPEC_, partner, champion=champion, actor="rule", reason="ahead", as_of=LATER, settings=place,
        decision_id=decision or f"beside-{partner}",
    )  # fmt: skip


def offline(models: list[Made], frame: pd.DataFrame, *numbers: int) -> Predictions:
    """Return what these versions say together, computed without the app."""
    said = [predict(load_model(models[number - 1].trained.model_path), frame) for number in numbers]
    return combine(*said) if len(said) == 2 else said[0]


def inputs(made: Made) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    frame = made.frame.head(ROWS)[SPEC_.features.all]
    return frame, frame.astype(object).where(frame.notna(), None).to_dict("records")


def scores(given: Any) -> np.ndarray[Any, Any]:
    return np.array([list(answer["probabilities"].values()) for answer in given["answers"]])


def log_of(place: Settings, request_id: str) -> pd.DataFrame:
    query = sa.select(predictions).where(predictions.c.request_id == request_id)
    with reading(open_store(place)) as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    frame = pd.DataFrame(rows)
    frame["index"] = frame["prediction_id"].str.rpartition("/")[2].astype(int)
    return frame.sort_values("index", ignore_index=True)


@pytest.fixture
def client(pair: Settings) -> Iterator[httpx.Client]:
    with running(create_app(["churn"], pair, poll_seconds=0.05)) as client:
        yield client


def until(client: httpx.Client, partner: int | None) -> dict[str, Any]:
    """Return the model's entry once it names this partner, which has to be soon."""
    for _ in range(400):
        [shown] = client.get("/models").json()
        if shown["partner"] == partner:
            return dict(shown)
        threading.Event().wait(0.02)
    raise AssertionError(shown)


def test_the_answer_is_the_mean_and_the_log_names_both(
    client: httpx.Client, models: list[Made], pair: Settings
) -> None:
    frame, rows = inputs(models[0])
    expected = offline(models, frame, 3, 1)
    alone = offline(models, frame, 3)
    assert expected.probabilities is not None
    assert alone.probabilities is not None
    assert np.abs(expected.probabilities - alone.probabilities).max() > 1e-3
    given = asked(client, *rows)
    assert (given["version"], given["partner"]) == (3, 1)
    np.testing.assert_array_equal(scores(given), expected.probabilities)
    assert [answer["prediction"] for answer in given["answers"]] == expected.prediction.tolist()
    log = log_of(pair, given["request_id"])
    assert (set(log["version"]), set(log["partner"])) == ({3}, {1})
    np.testing.assert_array_equal(np.array(log["score"].tolist()), expected.probabilities)
    assert until(client, 1)["version"] == 3
    assert 'evergreen_served_partner{model="churn"} 1.0' in client.get("/metrics").text

    retraced = client.get(f"/explain/churn/{given['request_id']}/5").json()
    assert retraced["reproduces"] is True
    assert (retraced["version"], retraced["partner"]) == (3, 1)
    assert retraced["again_score"] == retraced["score"] == expected.probabilities[5].tolist()
    assert [half["version"] for half in retraced["halves"]] == [3, 1]
    halves = np.array([half["score"] for half in retraced["halves"]])
    np.testing.assert_array_equal(halves.mean(axis=0), expected.probabilities[5])
    assert [step["step"] for step in retraced["partner_steps"]] == [
        step["step"] for step in retraced["steps"]
    ]

    beside(pair, None)
    until(client, None)
    given_alone = asked(client, *rows)
    assert (given_alone["version"], given_alone["partner"]) == (3, None)
    np.testing.assert_array_equal(scores(given_alone), alone.probabilities)
    assert set(log_of(pair, given_alone["request_id"])["partner"]) == {None}
    retraced = client.get(f"/explain/churn/{given['request_id']}/5").json()
    assert (retraced["reproduces"], retraced["partner"]) == (True, 1)
    retraced = client.get(f"/explain/churn/{given_alone['request_id']}/5").json()
    assert (retraced["reproduces"], retraced["partner"], retraced["halves"]) == (True, None, [])


def test_a_partner_is_swapped_while_requests_run(
    client: httpx.Client, models: list[Made], pair: Settings
) -> None:
    frame, rows = inputs(models[0])
    frame, rows = frame.head(2), rows[:2]
    expected = {
        partner: offline(models, frame, 3, *([partner] if partner else [])).probabilities
        for partner in (1, 2, None)
    }
    answered: Counter[int | None] = Counter()
    wrong: list[Any] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=60, trust_env=False) as own:
            while not over.is_set():
                given = own.post("/predict/churn", json={"rows": rows})
                if given.status_code != 200:
                    wrong.append((given.status_code, given.text[:200]))
                    continue
                partner = given.json()["partner"]
                if not np.array_equal(scores(given.json()), expected[partner]):
                    wrong.append(partner)
                answered[partner] += 1

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn, partner in enumerate((2, None, 1)):
        beside(pair, partner, decision=f"turn-{turn}")
        until(client, partner)
        before = answered[partner]
        while answered[partner] < before + 3 and not wrong:
            threading.Event().wait(0.02)
    over.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert set(answered) == {1, 2, None}


def test_a_damaged_partner_leaves_the_champion_alone_and_is_told_of(
    models: list[Made], pair: Settings
) -> None:
    version = registry.find_version("churn", 1, settings=pair)
    (files_of(version) / "model.skops").write_bytes(b"other")
    shutil.rmtree(pair.root / "versions" / version.digest, ignore_errors=True)
    frame, rows = inputs(models[0])
    with running(create_app(["churn"], pair, poll_seconds=0.05)) as client:
        given = asked(client, *rows)
        assert (given["version"], given["partner"]) == (3, None)
        np.testing.assert_array_equal(scores(given), offline(models, frame, 3).probabilities)
        [shown] = client.get("/models").json()
        assert shown["partner"] is None
        assert "version 1" in shown["warning"]
        ready = client.get("/ready")
        assert ready.status_code == 200
        assert set(ready.json()["warnings"]) == {"churn"}
        assert 'evergreen_partner_trouble{model="churn"} 1.0' in client.get("/metrics").text
        beside(pair, 2)
        assert until(client, 2)["warning"] == ""


class Failing:
    """The mean of a pair that no longer comes out, for rows with some tenure or for all."""

    is_rowwise = True

    def __init__(self, inner: Any, *, on: float):
        self._inner, self._on = inner, on

    def answers(self, rows: Any) -> Any:
        if any(row["tenure"] == self._on for row in rows):
            raise RuntimeError("no answer to that")
        return self._inner.answers(rows)


def test_rows_that_the_partner_cannot_answer_are_the_champions(models: list[Made], pair: Settings) -> None:
    app = create_app(["churn"], pair, poll_seconds=3600)
    _, rows = inputs(models[0])
    with running(app) as client:
        holder = app.state.service.holders["churn"]
        served = holder.current
        pair_scorer = Failing(served.partner.scorer, on=77.0)
        holder.current = replace(served, partner=replace(served.partner, scorer=pair_scorer))
        odd = {**rows[0], "tenure": 77.0}
        given = asked(client, odd)
        assert given["partner"] is None
        expected = offline(models, pd.DataFrame([odd])[SPEC_.features.all], 3)
        np.testing.assert_array_equal(scores(given), expected.probabilities)
        assert asked(client, rows[1])["partner"] == 1, "the partner is well: those rows were the reason"
        assert holder.partner_failures == 1
        assert set(log_of(pair, given["request_id"])["partner"]) == {None}


def test_a_partner_that_answers_nothing_any_more_is_asked_no_more(
    models: list[Made], pair: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(["churn"], pair, poll_seconds=3600)
    _, rows = inputs(models[0])
    with running(app) as client:
        holder = app.state.service.holders["churn"]
        partner = holder.current.partner.served

        def breaks(*_: object) -> Any:
            raise MemoryError

        monkeypatch.setattr(partner.scorer, "said", breaks)
        assert asked(client, rows[0])["partner"] is None
        assert holder.current.partner is None
        assert holder.partner_trouble
        assert asked(client, rows[1])["partner"] is None
        assert holder.partner_failures == 1
        monkeypatch.undo()
        assert not holder.refresh(), "it is tried again later, not at once"
        monkeypatch.setattr(holding, "_LOOK_AT_REGISTRY_SECONDS", 0.0)
        assert holder.refresh()
        assert asked(client, rows[1])["partner"] == 1


def test_a_new_champion_answers_alone(client: httpx.Client, models: list[Made], pair: Settings) -> None:
    moved(a_version(models[1], pair, "a9"), pair, "d9", as_of=LATER)
    shown = until(client, None)
    assert shown["version"] == 4
    assert asked(client, inputs(models[0])[1][0])["partner"] is None
