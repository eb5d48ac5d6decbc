"""Whatever is sent: an answer of the 4xx kind, at once, and an app that goes on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import body
from serving.app import create_app
from serving.body import MOST_BYTES
from tasks.core.errors import StoreError
from tasks.settings import Settings
from tests.serving.asgi import JSON, Driver, driven
from tests.serving.running import running
from tests.serving.test_app import ROW, promoted
from tests.versions import Made, set_up

ONE = json.dumps({"rows": [ROW]}).encode()
PATH = "/predict/churn"


@pytest.fixture(scope="module")
def guest(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A place with one promoted version."""
    folder = tmp_path_factory.mktemp("hostile") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    promoted(made, place)
    return place


@pytest.fixture(scope="module")
def driver(guest: Settings) -> Iterator[Driver]:
    """An app that looks for another version once an hour."""
    with driven(create_app(["churn"], guest, poll_seconds=3600)) as driver:
        yield driver


def a_row(**over: str) -> bytes:
    """Return a request of one row whose values are written as given, JSON or not."""
    texts = {name: json.dumps(value) for name, value in ROW.items()} | over
    return ('{"rows": [{' + ", ".join(f'"{name}": {text}' for name, text in texts.items()) + "}]}").encode()


WIDE = "{" + ",".join(f'"f{at}": 1' for at in range(190_000)) + "}"
HOSTILE: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 422),
    "no JSON": (b"rows=1", 422),
    "half": (ONE[:-3], 422),
    "two documents": (ONE + ONE, 422),
    "a byte order mark": (b"\xef\xbb\xbf" + ONE, 422),
    "UTF-16": (ONE.decode().encode("utf-16"), 422),
    "latin-1": (a_row(region='"é"').decode().encode("latin-1"), 422),
    "overlong UTF-8": (a_row(region='"x"').replace(b"x", b"\xc0\xaf"), 422),
    "NaN": (a_row(spend="NaN"), 422),
    "Infinity": (a_row(spend="-Infinity"), 422),
    "1e400": (a_row(spend="1e400"), 422),
    "a category of 1e400": (a_row(region="1e400"), 422),
    "a huge integer": (a_row(spend="9" * 400), 422),
    "an integer of 5,000 digits": (a_row(spend="9" * 5000), 422),
    "a category of 70 bits": (a_row(region=str(2**70)), 422),
    "a duplicate key": (a_row(tenure='1, "tenure": 2'), 422),
    "a duplicate key by escape": (a_row(tenure='1, "tenur\\u0065": 2'), 422),
    "duplicate rows": (b'{"rows": [], "rows": [' + json.dumps(ROW).encode() + b"]}", 422),
    "half a pair": (a_row(region='"\\ud800"'), 422),
    "half a pair in a name": (a_row(**{"\\ud800": "1"}), 422),
    "NUL": (a_row(region='"a\\u0000b"'), 422),
    "a raw NUL": (a_row(region='"a\0b"'), 422),
    "long text": (a_row(region=f'"{"x" * 1001}"'), 422),
    "an object as value": (a_row(region='{"$gt": ""}'), 422),
    "a list as value": (a_row(tenure="[1]"), 422),
    "deep lists": (b'{"rows": ' + b"[" * 19_000 + b"]" * 19_000 + b"}", 422),
    "very deep lists": (b"[" * 4_000_000, 422),
    "deep objects": (b'{"a":' * 150_000, 422),
    "many objects": (b'{"rows": [' + b"{}," * 1_300_000 + b"{}]}", 422),
    "many lists": (b'{"rows": [' + b"[]," * 1_300_000 + b"[]]}", 422),
    "many numbers": (b'{"rows": [' + b"1," * 2_000_000 + b"1]}", 422),
    "many fields": (('{"rows": [' + WIDE + "]}").encode(), 422),
    "one too many rows": (json.dumps({"rows": [ROW] * 1001}).encode(), 422),
    "a thousand bad rows": (json.dumps({"rows": [{f"no_{at}": 1 for at in range(60)}] * 1000}).encode(), 422),
    "one byte too many": (b" " * (MOST_BYTES + 1), 413),
    "an odd time": (a_row(event_time='"0001-01-01T00:00:00+14:00"'), 422),
    "a path as key": (a_row(**{"__proto__": "{}"}), 422),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_in_a_tenth_of_a_second(driver: Driver, name: str) -> None:
    sent, status = HOSTILE[name]
    took = []
    for _ in range(3):  # of this thread's own time, because others share the machine
        began = time.thread_time()
        answer = driver.ask(PATH, sent)
        took.append(time.thread_time() - began)
        assert answer.status == status, answer.body[:300]
        assert answer.json["detail"]
    assert min(took) < 0.1
    assert driver.ask(PATH, ONE).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json;charset=UTF-8"}, 200),
        ({"content-type": "APPLICATION/JSON"}, 200),
        ({**JSON, "content-encoding": "gzip"}, 415),
        ({**JSON, "content-encoding": "identity"}, 200),
        ({**JSON, "content-length": "abc"}, 400),
        ({**JSON, "content-length": "-5"}, 400),
        ({**JSON, "content-length": "٣"}, 400),
        ({**JSON, "content-length": "9" * 5000}, 413),
        ({**JSON, "content-length": str(MOST_BYTES + 1)}, 413),
        ({**JSON, "x-request-id": "a b"}, 422),
        ({**JSON, "x-request-id": "x" * 5000}, 422),
    ],
)  # fmt: skip
def test_a_header_that_promises_something_else_is_refused(
    driver: Driver, headers: dict[str, str], status: int
) -> None:
    raw = {name: value.encode() for name, value in headers.items()}
    assert driver.ask(PATH, ONE, headers=raw).status == status


def test_a_body_counts_as_it_comes_and_not_as_it_says(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [b" " * 65_536] * (MOST_BYTES // 65_536 + 1)
    assert driver.ask(PATH, pieces, headers={**JSON, "content-length": "10"}).status == 413
    assert driver.ask(PATH, [ONE[:5], ONE[5:]]).status == 200
    assert driver.ask(PATH, [ONE[at : at + 1] for at in range(len(ONE))]).status == 200
    assert driver.ask(PATH, [ONE[:5]], ends="early").status == 400
    monkeypatch.setattr(body, "MOST_SECONDS", 0.02)
    assert driver.ask(PATH, [ONE[:5]], ends="never").status == 408


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH, 405), ("PUT", PATH, 405), ("DELETE", PATH, 405), ("TRACE", PATH, 405),
        ("BREW", PATH, 405), ("", PATH, 405), ("POST", "/health", 405), ("POST", "/metrics", 405),
        ("POST", "/predict/", 404), ("POST", "/predict", 404), ("POST", "/predict/churn/", 404),
        ("POST", "/predict/churn/x", 404), ("POST", "/predict/../models", 404),
        ("POST", "/predict/nobody", 404),
        ("POST", "/predict/\x00", 404), ("POST", "/predict/\udcff", 404), ("POST", "//predict/churn", 404),
        ("POST", "/predict/" + "x" * 100_000, 404), ("GET", "", 404), ("GET", "*", 404),
        ("GET", "/redoc", 404),
        ("GET", "/docs/oauth2-redirect", 404), ("GET", "/models/", 404),
        ("GET", "/explain/churn/nothing", 404),
        ("GET", "/explain/nobody/x", 404), ("GET", "/explain/churn/" + "../" * 50, 404),
        ("GET", "/explain/churn/a\x00b", 404), ("GET", "/explain/churn/\udcff", 404),
        ("GET", "/explain/churn/", 404),
    ],
)  # fmt: skip
def test_a_path_or_a_method_that_is_none(driver: Driver, method: str, path: str, status: int) -> None:
    answer = driver.ask(path, ONE, method=method)
    assert answer.status == status
    assert "location" not in answer.headers


def test_a_store_that_does_not_answer_is_said_and_is_no_crash(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> object:
        raise StoreError("a store that does not answer", "one that does")

    monkeypatch.setattr("serving.explain.find_asked", silent)
    assert driver.ask("/explain/churn/x", method="GET").status == 503


def test_lies_about_the_length_leave_the_app_serving(guest: Settings) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    lies = [
        head + "Content-Length: 1000\r\n\r\n" + '{"rows"',
        head + f"Content-Length: 3\r\n\r\n{ONE.decode()}",
        head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        head + "Content-Length: 5\r\nContent-Length: 50\r\n\r\n{}{}{",
        "POST /predict/%ff%00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        "GET /health HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00",
    ]
    with running(create_app(["churn"], guest)) as client:
        port = client.base_url.port
        for lie in lies:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
                caller.sendall(lie.encode("latin-1"))
                caller.shutdown(socket.SHUT_WR)
                got = caller.recv(65_536)
            assert not got or got.split()[1][:1] == b"4", got
        assert client.post(PATH, json={"rows": [ROW]}).status_code == 200
