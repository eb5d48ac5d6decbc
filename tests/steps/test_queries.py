"""Queries as people write them, and what a database says when it cannot run one."""

from __future__ import annotations

import uuid
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tasks.core.errors import FetchError, SourceUnavailable
from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.sources.query_text import bare_query
from tasks.validate import validate
from tests.make import START, make_frame, make_spec, spec_block

AS_OF = START + pd.Timedelta(days=30)


def spec_for(url: str, query: str | None = None, **over):
    source = {**spec_block()["source"], "url": url}
    source |= {"table": None, "query": query} if query else {}
    return make_spec(source=source | over)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path: Path, postgres_url: str) -> str:
    url = f"sqlite:///{tmp_path / 'a.db'}" if request.param == "sqlite" else postgres_url
    frame = make_frame(60)
    if request.param == "sqlite":
        frame["event_time"] = frame["event_time"].map(lambda moment: moment.isoformat())
    frame.to_sql("customer_events", sa.create_engine(url, poolclass=NullPool), index=False)
    return url


def engine(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM customer_events -- all customers",
        "SELECT * FROM customer_events; -- all: customers of :tenant",
        "/* :x */ SELECT * FROM customer_events /* the\nend */ ;\n",
        "SELECT * FROM customer_events WHERE plan <> 'a :b -- c' AND plan <> '{\"k\":true}'",
        "SELECT customer_events.*, 'it''s; -- :x' AS note FROM customer_events --",
        "SELECT * FROM customer_events WHERE plan LIKE '%' AND region NOT LIKE '100%% sure:%'",
        "WITH e AS (SELECT * FROM customer_events -- here\n) SELECT * FROM e",
    ],
)
def test_comments_and_literals_of_a_query_do_no_harm(url: str, query: str, settings: Settings) -> None:
    assert fetch_training.fn(spec_for(url, query), AS_OF, settings=settings).dataset.rows == 60


def test_parameters_beside_literals_are_still_bound(url: str, settings: Settings) -> None:
    query = "SELECT * FROM customer_events WHERE plan = :plan AND plan <> ':plan'"
    spec = spec_for(url, query, parameters={"plan": "pro"})
    rows = pd.read_parquet(fetch_training.fn(spec, AS_OF, settings=settings).dataset.path)
    assert set(rows["plan"]) == {"pro"}


def test_a_query_keeps_hints_and_loses_its_comments() -> None:
    assert bare_query("SELECT /*+ INDEX(t) */ a FROM t -- x ; y\n;") == "SELECT /*+ INDEX(t) */ a FROM t"


def test_doubled_columns_of_a_query_are_named(url: str, settings: Settings) -> None:
    query = "SELECT a.*, b.* FROM customer_events a JOIN customer_events b ON a.event_id = b.event_id"
    with pytest.raises(FetchError, match=r"(?s)more than once.*'event_id'") as caught:
        fetch_training.fn(spec_for(url, query), AS_OF, settings=settings)
    assert not isinstance(caught.value, SourceUnavailable)
    harmless = "SELECT a.*, 1 AS extra, 2 AS extra FROM customer_events a"
    assert fetch_training.fn(spec_for(url, harmless), AS_OF, settings=settings).dataset.rows == 60


@pytest.mark.parametrize("query", ["SELECT * FORM customer_events", "SELECT * FROM (customer_events"])
def test_a_syntax_error_is_told_as_one_and_not_tried_again(url: str, query: str, settings: Settings) -> None:
    with pytest.raises(FetchError, match="syntax error") as caught:
        fetch_training.fn(spec_for(url, query), AS_OF, settings=settings)
    assert not isinstance(caught.value, SourceUnavailable)


def test_a_statement_time_out_is_told_as_one_and_not_tried_again(
    postgres_url: str, settings: Settings
) -> None:
    make_frame(5).to_sql("customer_events", engine(postgres_url), index=False)
    slow = "SELECT e.*, pg_sleep(1) AS nap FROM customer_events e"
    spec = spec_for(
        f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-c%20statement_timeout%3D50", slow
    )
    with pytest.raises(FetchError, match="statement time-out") as caught:
        fetch_training.fn(spec, AS_OF, settings=settings)
    assert not isinstance(caught.value, SourceUnavailable)


def test_a_missing_permission_is_told_as_one_and_not_tried_again(
    postgres_url: str, settings: Settings
) -> None:
    make_frame(5).to_sql("customer_events", engine(postgres_url), index=False)
    role = f"reader_{uuid.uuid4().hex[:8]}"
    with engine(postgres_url).connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role}")
    sign = "&" if "?" in postgres_url else "?"
    spec = spec_for(f"{postgres_url}{sign}options=-c%20role%3D{role}")
    with pytest.raises(FetchError, match="missing permission") as caught:
        fetch_training.fn(spec, AS_OF, settings=settings)
    assert not isinstance(caught.value, SourceUnavailable)


def test_infinite_numerics_of_postgres_are_bad_rows(postgres_url: str, settings: Settings) -> None:
    make_frame(1000).to_sql("customer_events", engine(postgres_url), index=False)
    with engine(postgres_url).connect() as connection:
        connection.exec_driver_sql("ALTER TABLE customer_events ALTER spend TYPE numeric")
        for place, text in enumerate(["Infinity", "-Infinity", "NaN"]):
            connection.exec_driver_sql(
                f"UPDATE customer_events SET spend = '{text}' WHERE event_id = "
                f"(SELECT event_id FROM customer_events ORDER BY event_id OFFSET {place} LIMIT 1)"
            )
    spec = spec_for(postgres_url)
    fetched = fetch_training.fn(spec, AS_OF, settings=settings)
    assert fetched.dataset.rows == 1000
    assert validate.fn(spec, fetched.dataset, settings=settings).report.reasons == {"spend:infinite": 2}


@pytest.mark.parametrize("kind", ["uuid", "numeric(38,0)", "numeric(50,0)", "char(40)", "bytea", "bigint"])
def test_keys_of_every_type_of_postgres_stay_exact(kind: str, postgres_url: str, settings: Settings) -> None:
    frame = make_frame(50)
    digits = [str(1234567890123456789 + place) for place in range(50)]
    texts = {
        "uuid": [str(uuid.UUID(int=place * 7919)) for place in range(50)],
        "numeric(50,0)": [f"{text}{text}1234567890"[:45] for text in digits],
    }.get(kind, digits)
    frame.assign(event_id=texts).to_sql("customer_events", engine(postgres_url), index=False)
    with engine(postgres_url).connect() as connection:
        using = "convert_to(event_id, 'UTF8')" if kind == "bytea" else f"event_id::{kind}"
        connection.exec_driver_sql(f"ALTER TABLE customer_events ALTER event_id TYPE {kind} USING {using}")
    fetched = fetch_training.fn(spec_for(postgres_url), AS_OF, settings=settings)
    rows = pd.read_parquet(fetched.dataset.path)
    assert sorted(map(str, rows["event_id"])) == sorted(texts)
    assert not any(isinstance(key, float | Decimal) for key in rows["event_id"])
    assert validate.fn(spec_for(postgres_url), fetched.dataset, settings=settings).report.outcome == "ok"
