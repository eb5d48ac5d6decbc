"""A source that is wrong or away is answered with one clear, typed error, and without secrets."""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from tasks.core.errors import ContractError, FetchError, SourceUnavailable, SpecError, WorkflowError
from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.sources.web import ATTEMPTS, WebSource
from tests.make import START, make_frame, make_spec, spec_block
from tests.services import WebServer, answer

AS_OF = START + timedelta(days=30)


def spec_for(url: str, **source):
    block = {**spec_block()["source"], "url": url, **source}
    if "://" not in url or url.startswith(("s3://", "http")):
        block.pop("table")
    return make_spec(source=block)


def error_of(spec, settings: Settings) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        fetch_training.fn(spec, AS_OF, settings=settings)
    assert "churn" in str(caught.value), "the message names the model"
    return caught.value


def sqlite_with(path: Path, frame: pd.DataFrame) -> str:
    url = f"sqlite:///{path}"
    frame.to_sql("customer_events", sa.create_engine(url, poolclass=sa.pool.NullPool), index=False)
    return url


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_a_database_that_is_away_is_worth_a_retry_and_its_password_is_not_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    spec = spec_for("postgresql+psycopg://me:${DB_PASSWORD}@127.0.0.1:9/shop?application_name=tok3n")
    error = error_of(spec, settings)
    assert isinstance(error, SourceUnavailable)
    assert "127.0.0.1" in str(error)
    assert "hunter2" not in everything_said(error)
    assert "tok3n" not in everything_said(error)


def test_a_url_whose_variable_is_not_set_names_it(settings: Settings) -> None:
    error = error_of(spec_for("postgresql://me:${NO_SUCH_NAME}@h/d"), settings)
    assert isinstance(error, SpecError)
    assert "NO_SUCH_NAME" in str(error)


@pytest.mark.parametrize("url", ["nosuch://host/db", "://broken", "postgresql://host:${PORT}/db"])
def test_a_url_that_no_driver_reads_is_a_spec_error(
    url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "no-number")
    error = error_of(spec_for(url), settings)
    assert isinstance(error, SpecError)
    assert "no-number" not in everything_said(error)


def test_a_password_with_every_sign_reaches_the_database_whole_and_the_message_not_at_all(
    postgres_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "p@ss/w:rd?%41#x")
    seen: list[str] = []
    monkeypatch.setattr(
        "tasks.sources.sql._engine", lambda url, spec: seen.append(url.password) or sa.create_engine(url)
    )
    spec = spec_for("postgresql+psycopg://me:${DB_PASSWORD}@127.0.0.1:9/shop")
    said = everything_said(error_of(spec, settings))
    assert seen == ["p@ss/w:rd?%41#x"]
    assert not [part for part in ("p@ss", "w:rd", "%41#x") if part in said]


def test_what_a_database_says_about_a_value_is_in_neither_message_nor_traceback(
    postgres_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_frame(3).to_sql(
        "customer_events", sa.create_engine(postgres_url, poolclass=sa.pool.NullPool), index=False
    )
    monkeypatch.setenv("TENANT", "canary-tenant")
    query = "SELECT *, CAST(CAST(:tenant AS text) AS integer) AS number FROM customer_events"
    source = {**spec_block()["source"], "url": postgres_url, "table": None, "query": query}
    error = error_of(make_spec(source={**source, "parameters": {"tenant": "${TENANT}"}}), settings)
    assert type(error) is FetchError
    assert "canary" not in everything_said(error)


def test_an_error_nobody_foresaw_names_its_kind_and_place_but_never_its_text(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("could not read canary-row") from KeyError("canary-cause")

    make_frame(5).to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setattr("tasks.sources.files.FileSource._rows", broken)
    error = error_of(spec_for(str(tmp_path / "rows.parquet")), settings)
    assert type(error) is FetchError
    assert "ValueError in test_fetch_errors.py, line" in str(error)
    assert "canary" not in everything_said(error)


def test_a_missing_table_is_not_retried(postgres_url: str, tmp_path: Path, settings: Settings) -> None:
    url = sqlite_with(tmp_path / "a.db", make_frame(3))
    for source in (postgres_url, url):
        error = error_of(spec_for(source, table="nowhere"), settings)
        assert type(error) is FetchError
        assert "nowhere" in str(error)


def test_a_missing_sqlite_file_is_not_created(tmp_path: Path, settings: Settings) -> None:
    error = error_of(spec_for(f"sqlite:///{tmp_path / 'none.db'}"), settings)
    assert type(error) is FetchError
    assert not (tmp_path / "none.db").exists()


def test_a_broken_query_shows_no_values(postgres_url: str, settings: Settings) -> None:
    make_frame(3).to_sql(
        "customer_events", sa.create_engine(postgres_url, poolclass=sa.pool.NullPool), index=False
    )
    source = {**spec_block()["source"], "url": postgres_url, "table": None}
    source |= {
        "query": "SELECT * FROM customer_events WHERE tenure > :plan",
        "parameters": {"plan": "s3cret"},
    }
    error = error_of(make_spec(source=source), settings)
    assert type(error) is FetchError
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("column", ["event_id", "event_time"])
@pytest.mark.parametrize("kind", ["sqlite", "parquet"])
def test_a_renamed_key_or_time_column_blocks_and_names_the_likely_rename(
    column: str, kind: str, tmp_path: Path, settings: Settings
) -> None:
    frame = make_frame(5).rename(columns={column: column.replace("event", "evt")})
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path)
    url = str(path) if kind == "parquet" else sqlite_with(tmp_path / "a.db", frame)
    error = error_of(spec_for(url), settings)
    assert isinstance(error, ContractError)
    assert f"{column.replace('event', 'evt')} → {column}" in str(error)


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "parquet", "csv"])
def test_naive_timestamps_are_refused_until_the_spec_names_their_zone(
    kind: str, tmp_path: Path, postgres_url: str, settings: Settings
) -> None:
    frame = make_frame(50)
    naive = frame.assign(event_time=frame["event_time"].dt.tz_localize(None))
    url = str(tmp_path / f"rows.{kind}")
    if kind == "sqlite":
        url = sqlite_with(tmp_path / "a.db", naive)
    elif kind == "postgres":
        url = postgres_url
        naive.to_sql("customer_events", sa.create_engine(url, poolclass=sa.pool.NullPool), index=False)
    else:
        naive.to_parquet(url) if kind == "parquet" else naive.to_csv(url, index=False)
    error = error_of(spec_for(url), settings)
    assert type(error) is FetchError
    assert "source.timezone" in str(error)
    placed = fetch_training.fn(spec_for(url, timezone="UTC"), AS_OF, settings=settings).dataset
    rows = pd.read_parquet(placed.path)
    assert rows["event_time"].tolist() == frame["event_time"].tolist()


def test_a_zone_that_does_not_exist_is_a_spec_error(tmp_path: Path, settings: Settings) -> None:
    naive = make_frame(5).assign(event_time="2026-01-06 00:00:00")
    naive.to_csv(tmp_path / "a.csv", index=False)
    error = error_of(spec_for(str(tmp_path / "a.csv"), timezone="Mars/Olympus"), settings)
    assert isinstance(error, SpecError)
    assert "Mars/Olympus" in str(error)


@pytest.mark.parametrize("kind", ["sqlite", "parquet"])
@pytest.mark.parametrize("value", [1767600000, "yesterday", True])
def test_times_of_the_wrong_type_are_refused_without_showing_them(
    kind: str, value: object, tmp_path: Path, settings: Settings
) -> None:
    frame = make_frame(5).assign(event_time=value)
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path)
    url = str(path) if kind == "parquet" else sqlite_with(tmp_path / "a.db", frame)
    error = error_of(spec_for(url), settings)
    assert type(error) is FetchError
    assert "event_time" in str(error)
    assert "yesterday" not in str(error)


def test_a_number_among_sqlite_texts_is_refused_not_lost(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(5)
    times = frame["event_time"].map(lambda moment: moment.isoformat()).astype(object)
    times.iloc[3] = 1767600000
    url = sqlite_with(tmp_path / "a.db", frame.assign(event_time=times))
    error = error_of(spec_for(url), settings)
    assert "1 values of 'event_time'" in str(error)


def test_no_file_at_a_path_or_glob_says_so(tmp_path: Path, settings: Settings) -> None:
    for url in (
        f"{tmp_path}/none.parquet",
        f"{tmp_path}/*.csv",
        f"{tmp_path}/no/folder/*.csv",
        str(tmp_path),
    ):
        error = error_of(spec_for(url), settings)
        assert type(error) is FetchError
        assert "no " in str(error)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv.gz"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / name
    frame = make_frame(500)
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    error = error_of(spec_for(str(path)), settings)
    assert type(error) is FetchError
    assert name in str(error)


def test_an_empty_csv_file_and_an_unknown_kind_are_named(tmp_path: Path, settings: Settings) -> None:
    for name in ("rows.csv", "rows.xlsx"):
        (tmp_path / name).write_bytes(b"")
        error = error_of(spec_for(str(tmp_path / name)), settings)
        assert type(error) is FetchError
        assert name in str(error)


def test_a_missing_s3_key_and_bucket_are_not_retried(s3_bucket: str, settings: Settings) -> None:
    for url in (
        f"s3://{s3_bucket}/none.parquet",
        f"s3://{s3_bucket}/none/*.parquet",
        "s3://no-such-bucket/rows.parquet",
        "s3://no-such-bucket/*.parquet",
    ):
        error = error_of(spec_for(url), settings)
        assert type(error) is FetchError, url
        assert "s3://" in str(error)


def test_an_s3_that_is_away_is_worth_a_retry(
    s3_endpoint: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert isinstance(error_of(spec_for("s3://bucket/rows.parquet"), settings), SourceUnavailable)


class _Ended:
    """The state of a task run that raised, as Prefect hands it to a retry condition."""

    def __init__(self, error: Exception):
        self._error = error

    def result(self, *, raise_on_failure: bool) -> Exception:
        assert not raise_on_failure
        return self._error


def test_only_an_absent_source_is_tried_again() -> None:
    condition = fetch_training.retry_condition_fn
    assert fetch_training.retries == 2
    assert condition(None, None, _Ended(SourceUnavailable("a", "b", "c")))
    for error in (FetchError("a"), ContractError("a"), SpecError("a"), ValueError("a")):
        assert not condition(None, None, _Ended(error))


# --- the web -------------------------------------------------------------------------------------------


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr("tasks.sources.web._wait", pauses.append)
    return pauses


def test_http_500_is_asked_again_with_growing_pauses_and_then_reported(
    web_server: WebServer, settings: Settings, no_pause: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_PASSWORD", "hunter2")
    monkeypatch.setenv("WEB_TOKEN", "tok3n")
    web_server.serve(answer(b"oops", status=500))
    login = web_server.url.replace("//", "//user:${WEB_PASSWORD}@")
    spec = spec_for(f"{login}/rows.parquet?token=${{WEB_TOKEN}}")
    error = error_of(spec, settings)
    assert isinstance(error, SourceUnavailable)
    assert "HTTP 500" in str(error)
    assert len(web_server.asked) == ATTEMPTS
    assert no_pause == sorted(no_pause)
    assert len(set(no_pause)) == ATTEMPTS - 1
    assert "hunter2" not in everything_said(error)
    assert "tok3n" not in everything_said(error)


def test_a_server_that_recovers_is_not_an_error(
    web_server: WebServer, tmp_path: Path, settings: Settings, no_pause: list[float]
) -> None:
    make_frame(50).to_parquet(tmp_path / "rows.parquet")
    body = (tmp_path / "rows.parquet").read_bytes()
    web_server.serve(answer(b"", status=503), answer(body[:900], announced=len(body)), answer(body))
    fetched = fetch_training.fn(spec_for(f"{web_server.url}/rows.parquet"), AS_OF, settings=settings)
    assert fetched.dataset.rows == 50
    assert len(web_server.asked) == 3


def test_http_404_is_not_asked_again(web_server: WebServer, settings: Settings) -> None:
    web_server.serve(answer(b"", status=404))
    error = error_of(spec_for(f"{web_server.url}/rows.parquet"), settings)
    assert type(error) is FetchError
    assert len(web_server.asked) == 1


def test_a_truncated_body_is_noticed_even_when_its_rows_would_parse(
    web_server: WebServer, settings: Settings, no_pause: list[float]
) -> None:
    body = make_frame(50).to_csv(index=False).encode()
    half = body[: body.index(b"\n", len(body) // 2) + 1]
    web_server.serve(answer(half, announced=len(body)))
    error = error_of(spec_for(f"{web_server.url}/rows.csv"), settings)
    assert isinstance(error, SourceUnavailable)
    assert "broke off" in str(error)


def test_a_body_beyond_the_limit_is_refused_whether_announced_or_not(
    web_server: WebServer, tmp_path: Path
) -> None:
    def unannounced(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"x" * 2000)
        handler.close_connection = True

    for respond in (answer(b"x" * 2000), unannounced):
        web_server.serve(respond)
        spec = spec_for(f"{web_server.url}/rows.csv")
        source = WebSource(spec, spec.source.url, tmp_path, max_bytes=1000)
        with pytest.raises(FetchError, match="1,000 bytes") as caught:
            source.schema()
        assert type(caught.value) is FetchError
        source.close()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_is_worth_a_retry(settings: Settings, no_pause: list[float]) -> None:
    error = error_of(spec_for("http://127.0.0.1:9/rows.csv"), settings)
    assert isinstance(error, SourceUnavailable)
    assert len(no_pause) == ATTEMPTS - 1
