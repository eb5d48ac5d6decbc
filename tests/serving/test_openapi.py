"""What the app says of itself is true: its examples are answered, its schema is the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from serving.app import create_app
from serving.openapi import examples, row_schema
from serving.request import BadRows, RowChecker
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.keys import make_key
from tests.make import make_frame, make_spec
from tests.serving.asgi import JSON, Driver, driven
from tests.serving.test_app import ROW, promoted
from tests.versions import LATER, SPEC_, Made, set_up


@pytest.fixture(scope="module")
def guest(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("described") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    promoted(made, place)
    return place


@pytest.fixture(scope="module")
def driver(guest: Settings) -> Iterator[Driver]:
    with driven(create_app(["churn", "other"], guest, poll_seconds=3600)) as driver:
        yield driver


def described(driver: Driver) -> Any:
    answer = driver.ask("/openapi.json", method="GET")
    assert answer.status == 200
    return answer.json


def test_every_model_has_a_path_of_its_own_with_its_own_rows(driver: Driver) -> None:
    said = described(driver)
    assert {"/predict/churn", "/predict/other"} <= set(said["paths"])
    assert "/predict/{model}" not in said["paths"]
    row = said["components"]["schemas"]["Row_churn"]
    assert row["required"] == SPEC_.features.all
    assert row["additionalProperties"] is False
    assert row["properties"]["spend"] == {"type": ["number", "null"], "minimum": 0.0}
    assert row["properties"]["plan"]["enum"] == ["basic", "pro", "team", None]
    assert "No version serves yet" in said["paths"]["/predict/other"]["post"]["description"]


def test_the_examples_are_golden_rows_and_are_answered(driver: Driver, made: Made) -> None:
    way = described(driver)["paths"]["/predict/churn"]["post"]
    shown = way["requestBody"]["content"]["application/json"]["examples"]
    assert set(shown) == {"one", "many"}
    known = made.frame.tail(60)["spend"].tolist()
    for one in shown.values():
        answer = driver.ask("/predict/churn", json.dumps(one["value"]).encode())
        assert answer.status == 200
        assert len(answer.json["answers"]) == len(one["value"]["rows"])
        assert one["value"]["rows"][0]["spend"] in known
        jsonschema.validate(answer.json, way["responses"]["200"]["content"]["application/json"]["schema"])


def test_refusals_are_described_and_have_the_form_that_is_said(driver: Driver, guest: Settings) -> None:
    said = described(driver)
    way = said["paths"]["/predict/churn"]["post"]
    wanted = {"200", "400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "503"}
    assert set(way["responses"]) == wanted
    assert way["security"] == [{"key": []}, {"bearer": []}]
    assert "security" not in said["paths"]["/health"]["get"]
    assert {"401", "403", "404", "429", "503"} <= set(
        said["paths"]["/explain/{model}/{prediction_id}"]["get"]["responses"]
    )
    bodies = [b"{", b'{"rows": [1]}', json.dumps({"rows": [{**ROW, "spend": -1}]}).encode(), b" " * 5_000_000]
    for body in bodies:
        answer = driver.ask("/predict/churn", body)
        form = way["responses"][str(answer.status)]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json, {**form, "components": said["components"]})
    assert driver.ask("/predict/other", bodies[2]).status == 503


def test_the_description_follows_the_champion(made: Made, place: Settings) -> None:
    promoted(made, place)
    app = create_app(["churn"], place, poll_seconds=3600)
    with driven(app) as driver:
        first = described(driver)
        assert first["paths"]["/predict/churn"]["post"]["description"].startswith("Answered by version 1,")
        assert described(driver) == first
        promoted(made, place, "a2")
        assert app.state.service.holders["churn"].refresh()
        assert described(driver)["paths"]["/predict/churn"]["post"]["description"].startswith(
            "Answered by version 2,"
        )


def test_a_predict_key_may_read_the_description(made: Made, place: Settings) -> None:
    promoted(made, place)
    key = make_key(open_store(place), "shop", "predict", at=LATER)
    with driven(create_app(["churn"], place)) as driver:
        assert driver.ask("/openapi.json", method="GET").status == 401
        assert driver.ask("/openapi.json", method="GET", headers={**JSON, "x-api-key": key}).status == 200


def test_the_schema_refuses_what_the_checker_refuses() -> None:
    spec = make_spec(
        features={"numeric": ["a", "b"], "categorical": ["c", "d", "e"]},
        contract={"a": {"ge": 0, "lt": 5, "nullable": False}, "b": {"isin": [1, 2.5]},
                  "c": {"dtype": "boolean"}, "d": {"matches": "[a-z]{2}"},
                  "e": {"dtype": "string", "nullable": False}},
    )  # fmt: skip
    checker = RowChecker(spec)
    schema = row_schema(checker)
    good = {
        "a": 0,
        "b": 2.5,
        "c": True,
        "d": "xy",
        "e": "t",
        "event_id": 7,
        "event_time": "2026-02-01T10:00:00Z",
    }
    changes: list[dict[str, Any]] = [
        {}, {"a": -1}, {"a": 5}, {"a": None}, {"a": "1"}, {"a": True}, {"b": 2}, {"b": None}, {"b": "1"},
        {"c": None}, {"c": "true"}, {"d": "xyz"}, {"d": None}, {"e": None}, {"e": "x" * 1001},
        {"e": 5}, {"event_id": None}, {"event_id": []}, {"event_time": 5}, {"zz": 1},
    ]  # fmt: skip
    for change in changes:
        row = {**good, **change}
        try:
            checker.check([row])
            is_good = True
        except BadRows:
            is_good = False
        fits = jsonschema.Draft202012Validator(schema).is_valid(row)
        assert fits == is_good, change


def test_a_golden_row_that_the_contract_would_refuse_is_no_example() -> None:
    class Fake:
        checker = RowChecker(SPEC_)
        golden = make_frame(30)[SPEC_.features.all].assign(spend=[-1.0] * 3 + [2.0] * 27)

    assert [one["spend"] for one in examples(Fake())] == [2.0, 2.0]  # type: ignore[arg-type]
