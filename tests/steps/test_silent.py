"""Servers that hang, drip bytes or answer 503: each call has one end, and the error says that it may pass."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from pydantic import SecretStr

from tasks.anchor import current_anchor
from tasks.core.errors import FetchError, RegistryError, RegistryUnavailable, SourceUnavailable
from tasks.evaluate import evaluate_pair
from tasks.evaluating import seen
from tasks.messages.webhook import post_signed
from tasks.settings import Settings
from tasks.sources import web
from tasks.sources.web import WebSource
from tasks.store import deadline, mlflow_client, registry
from tasks.store.passing import may_pass
from tests.make import make_spec
from tests.services import WebServer, answer
from tests.versions import CUT, SMALL, Made, a_version, moved

SOON = 0.4
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def drip(connection: socket.socket, begin: bytes) -> None:
    connection.sendall(begin)
    for _ in range(600):
        connection.sendall(b"a")
        time.sleep(0.02)


WAYS: dict[str, Callable[[socket.socket], None]] = {
    "hangs": lambda connection: time.sleep(5),
    "drips its head": lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "drips its body": lambda connection: drip(
        connection, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    ),
    "is busy": lambda connection: connection.sendall(BUSY),
}


@pytest.fixture(params=WAYS)
def silent_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that never gives a whole answer, in one of several ways."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            WAYS[request.param](connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    import tasks.messages.webhook

    for module in (web, mlflow_client, tasks.messages.webhook):
        monkeypatch.setattr(module, "SECONDS", SOON)
    monkeypatch.setattr(deadline, "_abandoned", set())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


@pytest.fixture
def clock() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 5 * SOON


def test_a_silent_source_ends_soon_and_may_pass(silent_server: str, tmp_path: Path, clock: None) -> None:
    source = WebSource(make_spec(), f"{silent_server}/rows.csv", tmp_path)
    with pytest.raises(SourceUnavailable):
        source.schema()


def test_a_silent_registry_ends_soon_and_may_pass(
    silent_server: str, settings: Settings, clock: None
) -> None:
    place = settings.model_copy(update={"mlflow": SecretStr(silent_server)})
    with pytest.raises(RegistryUnavailable):
        registry.find_champion("churn", settings=place)


def test_a_silent_deployer_ends_soon(
    silent_server: str, settings: Settings, clock: None, request: pytest.FixtureRequest
) -> None:
    place = settings.model_copy(update={"deployer": silent_server, "deployer_key": SecretStr("k" * 32)})
    if request.node.callspec.params["silent_server"] == "drips its body":
        post_signed({}, place)  # it was taken, and what the body says is not read
        return
    with pytest.raises((httpx.HTTPError, deadline.NoAnswer)):
        post_signed({}, place)


def test_a_large_file_may_take_its_time_as_long_as_it_comes(web_server: WebServer, tmp_path: Path) -> None:
    def come(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(4 * 70_000 + 2))
        handler.end_headers()
        handler.wfile.write(b"a\n")
        for _ in range(4):
            handler.wfile.write(b"1\n" * 35_000)
            handler.wfile.flush()
            time.sleep(SOON * 0.6)

    web_server.serve(come)
    source = WebSource(make_spec(), f"{web_server.url}/rows.csv", tmp_path)
    assert source._downloaded().stat().st_size == 4 * 70_000 + 2


def test_calls_that_were_given_up_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "MOST_ABANDONED", 2)
    wait = threading.Event()
    for _ in range(2):
        with pytest.raises(deadline.NoAnswer):
            deadline.within(0.01, lambda: wait.wait(10))
    begun: list[int] = []
    with pytest.raises(deadline.NoAnswer):
        deadline.within(1, lambda: begun.append(1))
    assert begun == []
    wait.set()


def test_an_error_of_the_call_arrives_as_it_is() -> None:
    with pytest.raises(KeyError):
        deadline.within(1, lambda: {}["a"])
    assert deadline.within(1, lambda: 7) == 7


# --- redirects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "there", "is_refused"),
    [
        ("https://203.0.113.1/a.csv", "http://203.0.113.1/a.csv", True),
        ("https://8.8.8.8/a.csv", "https://169.254.169.254/latest/meta-data", True),
        ("http://8.8.8.8/a.csv", "http://127.0.0.1/a.csv", True),
        ("http://8.8.8.8/a.csv", "http://[::1]/a.csv", True),
        ("https://8.8.8.8/a.csv", "https://8.8.4.4/a.csv", False),
        ("http://127.0.0.1/a.csv", "http://127.0.0.1/b.csv", False),
    ],
)
def test_a_redirect_keeps_to_https_and_does_not_lead_inside(
    start: str, there: str, is_refused: bool, tmp_path: Path
) -> None:
    source = WebSource(make_spec(), start, tmp_path)
    request = httpx.Request("GET", there)
    if is_refused:
        with pytest.raises(FetchError):
            source._refuse_detour(request)
    else:
        source._refuse_detour(request)


def test_each_redirect_is_looked_at(web_server: WebServer, tmp_path: Path) -> None:
    web_server.serve(answer(b"", status=302, Location="/b.csv"), answer(b"a\n1\n"))
    asked: list[str] = []
    source = WebSource(make_spec(), f"{web_server.url}/a.csv", tmp_path)
    source._refuse_detour = lambda request: asked.append(request.url.path)  # type: ignore[method-assign]
    source._downloaded()
    assert asked == ["/a.csv", "/b.csv"]


# --- verdicts ---------------------------------------------------------------------------------------------

SPEC_ = make_spec(estimator=SMALL, gate={"min_rows": 20, "anchor": {"rows": 50}})


def busy(*args: object, **kwargs: object) -> None:
    raise MlflowException("temporarily unavailable", error_code=TEMPORARILY_UNAVAILABLE)


def test_a_busy_registry_is_no_fault_of_the_anchor(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.steps.test_anchor import fixed

    moved(a_version(made, place, "a1"), place, "a1")
    assert fixed(SPEC_, made, place)
    whole = current_anchor.fn(SPEC_, settings=place)
    assert whole is not None
    assert not whole.trouble
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "get_model_version_by_alias", busy)
        patch.setattr(MlflowClient, "get_model_version", busy)
        with pytest.raises(RegistryUnavailable):
            current_anchor.fn(SPEC_, settings=place)
    Path(whole.path).chmod(0o600)
    Path(whole.path).write_bytes(b"other bytes")  # damage is a verdict
    found = current_anchor.fn(SPEC_, settings=place)
    assert found is not None
    assert found.trouble


def test_a_champions_rows_out_of_reach_are_not_taken_for_unknown(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved(a_version(made, place, "a1"), place, "a1")
    from tasks.register import champion

    serving = champion.fn("churn", settings=place)
    assert serving is not None
    ref = serving.ref.__class__(**{**vars(serving.ref), "train_end": CUT})

    def away(*args: object) -> None:
        raise OSError(None, "When reading: AWS Error NETWORK_CONNECTION during GetObject")

    monkeypatch.setattr(seen, "_learnt", away)
    with pytest.raises(RegistryUnavailable):
        evaluate_pair.fn(SPEC_, made.trained, ref, champion_snapshot={"path": "s3://b/c"}, settings=place)

    def gone(*args: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(seen, "_learnt", gone)
    assert evaluate_pair.fn(SPEC_, made.trained, ref, settings=place).decision.outcome


@pytest.mark.parametrize(
    ("err", "passes"),
    [
        (MlflowException("x", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("x", error_code=RESOURCE_DOES_NOT_EXIST), False),
        (RegistryUnavailable("x"), True),
        (RegistryError("another digest"), False),
        (ConnectionResetError(), True),
        (PermissionError(13, "no"), True),
        (FileNotFoundError(2, "no"), False),
        (OSError("Corrupt snappy compressed data."), False),
        (OSError("When reading: AWS Error SLOW_DOWN"), True),
        (KeyError("column"), False),
    ],
)
def test_what_may_pass(err: Exception, passes: bool) -> None:
    assert may_pass(err) is passes


def test_a_wrong_address_that_answers_404_does_not_say_that_a_version_is_gone(
    web_server: WebServer, settings: Settings
) -> None:
    web_server.serve(answer(b"", status=404))
    place = settings.model_copy(update={"mlflow": SecretStr(web_server.url)})
    with pytest.raises(RegistryUnavailable):
        registry.find_version("churn", 1, settings=place)
