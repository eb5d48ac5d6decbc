"""No secret stands in a spec, and what is filled in cannot be misread as another part of the URL."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from tasks.core.errors import SpecError
from tasks.core.model.bundle import safe_url
from tasks.core.placeholders import NO_LITERAL_PASSWORD, fill, fill_url, literal_secret, placeholders
from tests.make import make_spec, spec_block

LITERAL = {
    "postgresql://me:hunter2@db/x": "a password",
    "postgresql://me:p@ss@db/x": "a password",
    "postgresql://me:pa/ss@db/x": "a password",
    "mysql://me:${A}hunter2@db/x": "a password",
    "https://me:hunter2@host/rows.csv": "a password",
    "https://hunter2@host/rows.csv": "a token",
    "s3://key:hunter2@bucket/rows.csv": "a password",
    "https://host/rows.csv?token=hunter2": "a value of 'token'",
    "https://host/rows.csv?page=1&X-Amz-Signature=hunter2": "a value of 'X-Amz-Signature'",
    "https://host/rows.csv#sig=hunter2": "a value of 'sig'",
    "postgresql://me@db/x?password=hunter2": "a value of 'password'",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BUID%3Dme%3BPWD%3Dhunter2": "a value of 'PWD'",
}
HARMLESS = [
    "rows.parquet",
    "/data/2026:01@site/*.csv",
    "sqlite:////data/a:b@c.db",
    "s3://bucket/a@b:c/rows.csv?versionId=3",
    "postgresql://me@db:5432/x?sslkey=/keys/me&application_name=a@b",
    "postgresql://me:@/x?host=/tmp/socket",
    "postgresql://${USER}:${block:aws-secret/crm#password}@db/x",
    "https://host:8443/design/rows@v2.csv?design=3&monkey=4",
    "https://host/rows.csv?token=${TOKEN}",
    "${URL}",
    safe_url("postgresql://me:${PASSWORD}@db/x?password=${PASSWORD}"),  # as a version's bundle keeps it
    safe_url("https://${TOKEN}@host/rows.csv"),
]


@pytest.mark.parametrize(("url", "what"), LITERAL.items())
def test_a_literal_secret_is_found_and_the_spec_refused_without_showing_it(url: str, what: str) -> None:
    assert literal_secret(url) == what
    block = spec_block()
    block["source"] = {**block["source"], "url": url, "table": "t" if "sql" in url else None}
    with pytest.raises(SpecError, match=r"source\.url: .* stands in it; write \$\{NAME\}") as caught:
        make_spec(source=block["source"])
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


@pytest.mark.parametrize("url", HARMLESS)
def test_what_is_no_secret_is_let_through_by_the_rule_and_by_the_forms_schema(url: str) -> None:
    assert literal_secret(url) is None
    assert re.search(NO_LITERAL_PASSWORD, url) or "***" in url


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@db/x", "https://me:hunter2@h/x", "mysql://me:${A}x@db/x"]
)
def test_the_forms_schema_refuses_a_plain_literal_password(url: str) -> None:
    assert not re.search(NO_LITERAL_PASSWORD, url)


@pytest.mark.parametrize("text", ["${}", "${A B}", "${block:slack/x}", "${block:secret/}", "${secret/crm}"])
def test_an_unknown_form_is_refused_where_the_spec_is_read(text: str) -> None:
    with pytest.raises(SpecError, match="source with"):
        placeholders(f"postgresql://me:{text}@db/x")
    for source in ({"url": f"postgresql://me:{text}@db/x"}, {"parameters": {"a": text}}):
        with pytest.raises(SpecError, match=r"write \$\{NAME\}, \$\{block:secret/name\}"):
            make_spec(source={**spec_block()["source"], **source})


@given(user=st.text(min_size=1, max_size=20), password=st.text(min_size=1, max_size=20))
def test_any_user_and_password_arrive_whole_and_the_host_stays_the_host(user: str, password: str) -> None:
    values = {"U": user, "P": password}
    filled = make_url(fill_url("postgresql://${U}:${P}@db:5432/x", lambda one: values[one.name]))
    assert (filled.username, filled.password) == (user, password)
    assert (filled.host, filled.port, filled.database) == ("db", 5432, "x")


@given(value=st.text(min_size=1, max_size=20))
def test_any_query_value_stays_one_value(value: str) -> None:
    filled = make_url(fill_url("postgresql://db/x?a=${A}&b=2", lambda one: value))
    assert dict(filled.query) == {"a": value, "b": "2"}


def test_a_path_a_whole_url_and_a_parameter_stand_as_they_are() -> None:
    assert fill_url("sqlite:///${FOLDER}/a.db", lambda one: "/data/x y") == "sqlite:////data/x y/a.db"
    assert fill_url("${URL}", lambda one: "postgresql://a:b%40@c/d") == "postgresql://a:b%40@c/d"
    assert fill("x ${A} y", lambda one: "a@b/c%") == "x a@b/c% y"


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
RANDOM = "Zk3vQ9xT1mB7cR5wL2yH8nD4sG6pJ0fA"


@pytest.mark.parametrize(
    "over",
    [
        {"url": "https://host/rows.csv?code=hunter2"},
        {"url": "https://host/rows.csv?jwt=hunter2"},
        {"url": f"https://host/rows.csv?q={JWT}"},
        {"url": f"https://host/{RANDOM}/rows.csv"},
        {"url": f"s3://bucket/{JWT}/rows.csv"},
        {"parameters": {"api_key": "hunter2"}},
        {"parameters": {"who": JWT}},
        {"parameters": {"where": "postgresql://me:hunter2@db/x"}},
        {"url": "sqlite:///x.db", "query": "select * from t where password = 'hunter2'"},
        {"url": "sqlite:///x.db", "query": f"select * from t where x = '{RANDOM}'"},
        {"url": "sqlite:///x.db", "query": "select * from read('https://me:hunter2@host/a.csv')"},
    ],
)
def test_a_literal_secret_is_refused_wherever_a_source_takes_text(over: dict[str, object]) -> None:
    source = {**spec_block()["source"], "table": None, **over}
    with pytest.raises(SpecError) as caught:
        make_spec(source=source)
    for secret in ("hunter2", JWT, RANDOM):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("into", ["s3://key:hunter2@bucket/scores", f"s3://bucket/{JWT}/scores"])
def test_a_literal_secret_is_refused_where_scores_go(into: str) -> None:
    with pytest.raises(SpecError):
        make_spec(scoring={"into": into})


@pytest.mark.parametrize(
    "over",
    [
        {
            "url": "sqlite:///x.db",
            "query": "select :region",
            "parameters": {"api_key": "${KEY}", "key": "customer-1", "region": "north"},
        },
        {
            "url": "sqlite:///x.db",
            "query": "select * from t where country_code = 'DE' and business_key = 'a'",
        },
        {"url": "sqlite:///x.db", "query": "select * from t where password_changed = 'no' and k = :api_key"},
        {"url": "https://host/exports/3f2a9c1e-8d47-4b6a-9f10-0a1b2c3d4e5f/rows.csv?zip-code=1"},
        {"url": "s3://bucket/customer_transactions_of_the_northern_region_2026/rows.parquet"},
        {"url": "https://host/${TOKEN}/rows.csv?code=${CODE}"},
    ],
)
def test_names_ids_and_codes_are_no_secrets(over: dict[str, object]) -> None:
    assert make_spec(source={**spec_block()["source"], "table": None, **over})
