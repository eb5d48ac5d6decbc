"""One answer retraced: from what was asked, through every step, to the very score that was given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from threadpoolctl import threadpool_limits

from serving import explain as command
from serving.app import create_app
from serving.walk import walk
from tasks.core.model.pipeline import build_pipeline
from tasks.settings import Settings
from tasks.store.engine import open_store, writing
from tasks.store.schema import predictions
from tests.make import make_frame, make_spec
from tests.serving.asgi import Driver, driven
from tests.serving.test_app import ROW, promoted
from tests.versions import LATER, SMALL, Made, a_version, set_up

PRIVATE = make_spec(
    estimator=SMALL,
    features={
        "numeric": ["tenure", "spend"],
        "categorical": ["plan", "region"],
        "sensitive": ["region", "spend"],
    },
)


@pytest.fixture(scope="module")
def guest(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("explained") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    promoted(made, place)
    return place


@pytest.fixture(scope="module")
def driver(guest: Settings) -> Iterator[Driver]:
    with driven(create_app(["churn"], guest, poll_seconds=3600)) as driver:
        yield driver


def asked(driver: Driver, *rows: dict[str, Any]) -> Any:
    answer = driver.ask("/predict/churn", json.dumps({"rows": rows}).encode())
    assert answer.status == 200, answer.body
    return answer.json


def told(driver: Driver, named: str, status: int = 200, row: dict[str, Any] | None = None) -> Any:
    sent = b"" if row is None else json.dumps({"row": row}).encode()
    answer = driver.ask(f"/explain/churn/{named}", sent, method="GET" if row is None else "POST")
    assert answer.status == status, answer.body
    return answer.json


def test_an_answer_is_retraced_to_the_same_bits(driver: Driver, made: Made) -> None:
    frame = made.frame.head(20)
    rows = json.loads(frame[list(ROW)].to_json(orient="records", double_precision=15))
    given = asked(driver, *rows)
    for at in range(20):
        one = told(driver, f"{given['request_id']}/{at}")
        assert one["reproduces"] is True
        assert one["prediction"] == one["again"] == given["answers"][at]["prediction"]
        assert one["score"] == one["again_score"] == list(given["answers"][at]["probabilities"].values())
        assert one["inputs"] == rows[at]
        assert one["version"] == 1
        assert one["is_champion"] is True
        assert one["route"] == "champion"
        steps = {step["step"]: step["values"] for step in one["steps"]}
        assert list(steps)[-1] == "columns"
        assert list(steps["columns"]) == list(ROW)
        assert steps["columns"]["spend"] == rows[at]["spend"]
        assert steps["columns.categorical.text"] == {"plan": rows[at]["plan"], "region": rows[at]["region"]}
        assert steps["columns.categorical.codes"]["plan"] == ["basic", "pro", "team"].index(rows[at]["plan"])


def test_a_request_id_alone_means_its_first_row(driver: Driver) -> None:
    given = asked(driver, ROW, {**ROW, "tenure": 1.0})
    assert told(driver, given["request_id"])["prediction_id"] == f"{given['request_id']}/0"
    assert told(driver, f"{given['request_id']}/1")["inputs"]["tenure"] == 1.0
    assert "no prediction of this id" in told(driver, f"{given['request_id']}/2", 404)["detail"]
    assert driver.ask(f"/explain/other/{given['request_id']}", method="GET").status == 404


def test_an_earlier_version_answers_for_itself(made: Made, place: Settings) -> None:
    promoted(made, place)
    app = create_app(["churn"], place, poll_seconds=3600)
    with driven(app) as driver:
        given = asked(driver, ROW)
        promoted(made, place, "a2")
        assert app.state.service.holders["churn"].refresh()
        one = told(driver, given["request_id"])
        assert (one["version"], one["is_champion"], one["reproduces"]) == (1, False, True)


def test_a_score_that_does_not_come_out_again_is_said(driver: Driver, guest: Settings) -> None:
    given = asked(driver, ROW)
    at = predictions.c.prediction_id == f"{given['request_id']}/0"
    with writing(open_store(guest)) as connection:
        connection.execute(sa.update(predictions).where(at).values(score=[0.25, 0.75]))
    one = told(driver, given["request_id"])
    assert one["reproduces"] is False
    assert "other numbers now" in one["says"]


@pytest.fixture(scope="module")
def private(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A place whose model has two sensitive features."""
    from tasks.versions.move import move

    folder = tmp_path_factory.mktemp("private") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    version = a_version(made, place, "p1", spec=PRIVATE)
    move(PRIVATE, version, actor="ann", reason="good", decision_id="d-p1", as_of=LATER, settings=place)
    return place


def test_a_sensitive_input_is_unknown_until_it_is_given_and_a_guess_is_refused(private: Settings) -> None:
    with driven(create_app(["churn"], private)) as driver:
        named = asked(driver, ROW)["request_id"]
        one = told(driver, named)
        assert one["unknown"] == ["spend", "region"]
        assert one["inputs"] == {"tenure": 12.0, "plan": "basic"}
        assert (one["steps"], one["reproduces"], one["again"]) == ([], None, None)
        assert "spend, region" in one["says"]

        right = told(driver, named, row={"spend": 30, "region": "north"})
        assert right["reproduces"] is True
        assert right["inputs"] == ROW
        assert right["steps"]
        assert told(driver, named, row=dict(ROW))["reproduces"] is True

        right = {"spend": 30, "region": "north"}
        for wrong in (
            {**right, "spend": 31}, {**right, "region": "south"}, {**right, "tenure": 13},
            {"spend": 30}, {"region": "north"},
        ):  # fmt: skip
            refusal = told(driver, named, 409, row=wrong)["detail"]
            assert "31" not in refusal
            assert "south" not in refusal
        told(driver, named, 422, row={"spend": -1, "region": "north"})
        told(driver, named, 422, row={"spend": 30, "region": "north", "age": 3})
        for body in (b"{", b"[]", b'{"row": 3}', b'{"row": {}, "more": 1}'):
            assert driver.ask(f"/explain/churn/{named}", body).status == 422

        missing = asked(driver, {**ROW, "region": None})["request_id"]
        assert told(driver, missing)["unknown"] == ["spend"]


def test_what_the_log_kept_no_inputs_of_is_said(driver: Driver, guest: Settings) -> None:
    given = asked(driver, ROW)
    at = predictions.c.prediction_id == f"{given['request_id']}/0"
    with writing(open_store(guest)) as connection:
        connection.execute(sa.update(predictions).where(at).values(inputs=None))
    one = told(driver, given["request_id"])
    assert one["says"] == "The log kept no inputs of it."
    assert one["reproduces"] is None


def test_the_command_tells_the_same(
    guest: Settings, driver: Driver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(guest.root))
    named = asked(driver, ROW)["request_id"]
    assert command.main([named, "--model", "churn"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{named}/0 · churn version 1 · ")
    assert "columns.categorical.codes\n  plan: 0.0\n" in said
    assert said.endswith("The version gives the same numbers again.\n")
    assert command.main(["nothing", "--model", "churn"]) == 2
    assert "no prediction of this id" in capsys.readouterr().err


def test_the_command_reads_sensitive_inputs_from_a_file(
    private: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(private.root))
    with driven(create_app(["churn"], private)) as driver:
        named = asked(driver, ROW)["request_id"]
    assert command.main([named, "--model", "churn"]) == 0
    assert "region: (hash only)" in capsys.readouterr().out
    given = tmp_path / "row.json"
    for text, code, words in (
        ('{"spend": 30, "region": "north"}', 0, "the same numbers again"),
        ('{"spend": 30, "region": "south"}', 2, "another value of ['region']"),
        ('{"spend": "30", "region": "north"}', 2, "spend: a number is needed"),
        ("[]", 2, "inputs that are a list"),
        ("{", 2, "inputs that are no JSON"),
    ):
        given.write_text(text)
        assert command.main([named, "--model", "churn", "--row", str(given)]) == code
        said = capsys.readouterr()
        assert words in said.out + said.err


@pytest.mark.parametrize(
    "kind", ["sklearn.linear_model.LogisticRegression", "sklearn.ensemble.RandomForestClassifier"]
)
def test_the_last_step_is_what_the_estimator_is_given(kind: str) -> None:
    spec = make_spec(estimator={"class": kind})
    frame = make_frame(200)
    frame.loc[::5, "tenure"] = np.nan
    with threadpool_limits(1):
        model = build_pipeline(spec).fit(frame, frame["churned"])
    row = frame.iloc[[5]][spec.features.all]
    steps = walk(model, row)
    assert steps[-1].name == "columns"
    names, values = zip(*steps[-1].values, strict=True)
    assert "region_north" in names
    assert {"missingindicator_tenure"} <= set(names)
    assert "columns.numeric.impute" in [step.name for step in steps]
    probabilities = model.named_steps["estimator"].predict_proba(np.array([values], dtype=float))
    assert probabilities.tolist() == model.predict_proba(row).tolist()


class Breaks(FunctionTransformer):
    """A step that goes through whole and not one row at a time."""

    def transform(self, X: Any) -> Any:  # noqa: N803 -- its parent's name
        if len(X) == 1:
            raise ValueError("secret 123")
        return super().transform(X)


def text_model(*first: Any) -> tuple[Any, pd.DataFrame]:
    frame = make_frame(100)
    parts = [("n", "passthrough", ["tenure", "spend"]), *first, ("t", TfidfVectorizer(), "plan"),
             ("c", OneHotEncoder(), ["region"])]  # fmt: skip
    steps = [("columns", ColumnTransformer(parts)), ("estimator", LogisticRegression())]
    with threadpool_limits(1):
        return Pipeline(steps).fit(frame, frame["churned"]), frame


def test_a_part_whose_column_is_a_bare_name_is_followed() -> None:
    model, frame = text_model()
    steps = {one.name: one for one in walk(model, frame.head(1))}
    assert list(steps) == ["columns.n", "columns.t", "columns.c", "columns"]
    assert sorted(value for _, value in steps["columns.t"].values) == [0.0] * 2 + [1.0]
    assert not any(one.trouble for one in steps.values())
    by_place = ColumnTransformer([("p", OneHotEncoder(), [0]), ("m", OneHotEncoder(), [False, True])])
    other = Pipeline([("columns", by_place), ("estimator", LogisticRegression())])
    rows = frame[["plan", "region"]]
    assert [one.trouble for one in walk(other.fit(rows, frame["churned"]), rows.head(1))] == ["", "", ""]


def test_a_step_that_raises_ends_the_walk_and_is_named_without_its_words() -> None:
    model, frame = text_model(("b", Breaks(), ["spend"]))
    steps = walk(model, frame.head(1))
    assert [(one.name, one.trouble) for one in steps] == [
        ("columns.n", ""), ("columns.b", "ValueError"), ("columns.t", ""), ("columns.c", ""),
        ("columns", "ValueError"),
    ]  # fmt: skip
    assert "secret" not in str(steps)


def test_what_a_version_cannot_retrace_is_said_and_is_no_error_of_the_app(
    driver: Driver, guest: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object) -> Any:
        raise ZeroDivisionError("secret 123")

    named = asked(driver, ROW)["request_id"]
    with monkeypatch.context() as patch:
        patch.setattr("serving.walk._first_row", breaks)
        one = told(driver, named)
        assert one["reproduces"] is True
        assert "Step columns cannot be followed (ZeroDivisionError)." in one["says"]
        assert one["steps"][-1] == {"step": "columns", "values": {}, "trouble": "ZeroDivisionError"}
        patch.setattr("serving.scoring.Scorer.answers", breaks)
        one = told(driver, named)
        assert (one["reproduces"], one["again"]) == (False, None)
        assert "no answer to this now (ZeroDivisionError)" in one["says"]
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(guest.root))
    monkeypatch.setattr(command, "version_of", breaks)
    assert command.main([named, "--model", "churn"]) == 2
    said = capsys.readouterr().err
    assert said == "the answer cannot be retraced (ZeroDivisionError)\n"


def test_a_model_that_is_no_pipeline_has_no_steps() -> None:
    model = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    assert walk(model, pd.DataFrame(np.eye(4)[:1])) == ()
