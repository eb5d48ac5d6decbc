"""Canaries planted where secrets live, then looked for wherever a run leaves traces: they are nowhere."""

from __future__ import annotations

import logging
import sqlite3
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from flows.detect_drift import detect_drift
from flows.retrain import retrain
from tasks.core.errors import FetchError
from tasks.core.spec import ModelSpec
from tasks.fetch import fetch_training
from tasks.run_state import outcome_of
from tasks.settings import Settings
from tasks.sources import secrets
from tasks.sources.sql import SqlSource
from tests.make import START, make_frame, make_spec, spec_block

pytestmark = [pytest.mark.engine]
AS_OF = START + timedelta(days=30)
PASSWORD = "canary-p@ss/word-1f"  # noqa: S105 -- not one
TENANT = "canary-tenant-2e"
ROW = "canary-row-3d"
WORDS = ("canary-p", "canary%2Dp", "ss/word-1f", "ss%2Fword-1f", TENANT, ROW)


@pytest.fixture
def database() -> Path:
    """File of the Prefect API's own database, as it lies on disk."""
    url = get_current_settings().server.database.connection_url
    assert url is not None
    return Path(sa.make_url(url.get_secret_value()).database or "")


@pytest.fixture
def spec(
    prefect_api: None,
    rows_spec: ModelSpec,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ModelSpec]:
    """A model on a database that only a password from a block opens, asked with a parameter from outside."""
    owner = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    make_frame(1500).to_sql("customer_events", owner, index=False)
    role = f"reader_{uuid.uuid4().hex[:8]}"
    with owner.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"))
        connection.execute(sa.text(f"GRANT SELECT ON customer_events TO {role}"))
    Secret(value=PASSWORD).save("canary-login", overwrite=True)
    monkeypatch.setenv("TENANT", TENANT)
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    place = sa.make_url(postgres_url)
    login = f"{role}:${{block:secret/canary-login}}"
    source = {
        **{**rows_spec.source.model_dump(), "table": None},
        "url": f"postgresql+psycopg://{login}@/{place.database}?host={place.query['host']}",
        "query": "SELECT * FROM customer_events WHERE CAST(:tenant AS text) <> ''",
        "parameters": {"tenant": "${TENANT}"},
    }
    yield make_spec(source=source)
    with owner.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {role}; DROP ROLE {role}"))


def with_query(spec: ModelSpec, query: str) -> ModelSpec:
    return make_spec(source={**spec.source.model_dump(), "query": query})


def everything_kept(database: Path) -> bytes:
    """The Prefect API's database, byte for byte, what is not yet merged included."""
    return b"".join(path.read_bytes() for path in sorted(database.parent.glob(f"{database.name}*")))


def told(database: Path, sql: str, *values: object) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [str(row[0]) for row in connection.execute(sql, values)]


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, "what the runs left did not arrive in time"
        time.sleep(0.2)


def files_with(word: str, folder: Path) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    ]


def test_canaries_of_runs_that_succeed_and_fail_are_nowhere(
    spec: ModelSpec,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    states = [
        retrain(spec, as_of=AS_OF, return_state=True),
        detect_drift(spec, as_of=AS_OF, return_state=True),
    ]
    assert [state.is_completed() for state in states] == [True, True], states
    assert outcome_of(states[0]) == "Promoted"
    # The database quotes the parameter in its error; a driver, the row it stumbled over.
    quoting = with_query(spec, "SELECT *, CAST(:tenant AS integer) AS number FROM customer_events")
    states += [retrain(quoting, as_of=AS_OF, reason="quoting", return_state=True)]

    def stumbling(*_: object) -> None:
        raise ValueError(f"cannot read {ROW}") from RuntimeError(f"with {PASSWORD}")

    with monkeypatch.context() as patch:
        patch.setattr(SqlSource, "batches", stumbling)
        states += [retrain(spec, as_of=AS_OF, reason="stumbling", return_state=True)]
        states += [detect_drift(spec, as_of=AS_OF, return_state=True)]
    assert all(state.is_failed() for state in states[2:]), states
    assert "ValueError in test_secrets.py" in str(states[4].message)

    runs = [str(state.state_details.flow_run_id) for state in states]
    logged = (
        "SELECT count(*) FROM log WHERE flow_run_id = ? AND message LIKE '%ValueError in test_secrets.py%'"
    )
    wait_until(lambda: told(database, logged, runs[3]) != ["0"] and told(database, logged, runs[4]) != ["0"])
    ended = "SELECT resource_id FROM event_resources WHERE resource_id LIKE ?"
    wait_until(lambda: all(told(database, ended, f"prefect.flow-run.{run}") for run in runs))

    kept = everything_kept(database)
    assert spec.source.query is not None
    assert b"block:secret/canary-login" in kept, "the search does see parameters"
    assert b"canary-login" in kept, "and block documents"
    printed = capfd.readouterr()
    places = {"prefect": kept, "stdout": printed.out.encode(), "stderr": printed.err.encode()}
    places["log"] = caplog.text.encode()
    found = [(word, name) for word in WORDS for name, text in places.items() if word.encode() in text]
    assert found == []
    assert [(word, path) for word in WORDS for path in files_with(word, tmp_path)] == []
    assert files_with("customer_events", tmp_path / "state"), "the search does see the bundle's spec"


def test_the_api_refuses_a_literal_password_before_it_keeps_it(prefect_api: None, database: Path) -> None:
    block = spec_block()
    canary = f"canary-{uuid.uuid4().hex}"
    literal = {**block["source"], "url": f"postgresql://me:{canary}@db/x"}
    filled = {**block["source"], "url": "postgresql://me:${PASSWORD}@db/x"}
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name(f"retrain-{uuid.uuid4().hex[:8]}")
        made = client.create_deployment(
            flow,
            "demo",
            parameter_openapi_schema=retrain.parameters.model_dump_for_openapi(),
            enforce_parameter_schema=True,
        )
        with pytest.raises(PrefectHTTPStatusError) as caught:
            client.create_flow_run_from_deployment(made, parameters={"spec": {**block, "source": literal}})
        run = client.create_flow_run_from_deployment(made, parameters={"spec": {**block, "source": filled}})
        assert run.parameters["spec"]["source"] == filled
        client.delete_flow_run(run.id)
    assert caught.value.response.status_code == 409
    assert canary.encode() not in everything_kept(database)


def test_a_literal_password_in_a_flows_parameters_is_not_in_what_the_flow_says(
    prefect_api: None, capfd: pytest.CaptureFixture[str]
) -> None:
    block = spec_block()
    block["source"] = {**block["source"], "url": f"postgresql://me:{TENANT}@db/x", "key": 3}
    state = retrain(block, return_state=True)
    assert state.is_failed()
    assert "a password stands in it" in str(state.message)
    assert TENANT not in str(state.message)
    printed = capfd.readouterr()
    assert TENANT not in printed.out + printed.err


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("${FILLED}", "http://127.0.0.1:9/canary-path-7/rows.csv?x=canary-query-7"),
        ("http://127.0.0.1:9/${FILLED}/rows.csv", "canary-path-7"),
        ("${FILLED}", "sqlite:///canary-folder-7/canary-file-7.db"),
        ("/nowhere/${FILLED}/rows.csv", "canary-folder-7"),
        ("${FILLED}", "postgresql://canary-user-7:canary-word-7@127.0.0.1:9/canary-base-7"),
    ],
)
def test_a_url_is_shown_as_it_is_written(
    url: str, value: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLED", value)
    monkeypatch.setattr("tasks.sources.web._wait", lambda seconds: None)
    table = {"table": "t"} if "sql" in value else {}
    spec = make_spec(source={"url": url, "key": "event_id", "timestamp": "event_time", **table})
    with pytest.raises(FetchError) as caught:
        fetch_training.fn(spec, datetime(2026, 2, 1, tzinfo=UTC), settings=settings)
    shown = "".join(traceback.format_exception(caught.value))
    assert "canary" not in shown
    assert "FILLED" in shown


def test_a_short_value_is_replaced_as_a_word_and_a_long_one_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secrets, "_filled", {"app": "${DATABASE}", "hunter2hunter2": "${PASSWORD}"})
    text = "application xhunter2hunter2x of app at app:5432"
    assert secrets.as_written(text) == "application x${PASSWORD}x of ${DATABASE} at ${DATABASE}:5432"
