"""An event counts as sent when a server has acknowledged it, and not before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tasks.core.errors import LaunchError
from tasks.launching import emit


class Api:
    """A server that takes events, or does what it is told instead."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 204
        self.delay = threading.Event()
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []


@pytest.fixture
def api() -> Iterator[Api]:
    state = Api()
    state.delay.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(404)  # a server without CSRF protection

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/api/events"
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.delay.wait(30)
            if state.status == 204:
                state.taken += body
            self._answer(state.status)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/api"
    with temporary_settings({PREFECT_API_URL: state.url}):
        yield state
    state.delay.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_event_says_which_decision_of_which_model_and_nothing_else(api: Api) -> None:
    emitted = emit.emit_decision("demo", "train-decay-1")
    (event,) = api.taken
    assert event["event"] == "evergreen.decision.train"
    assert event["resource"] == {
        "prefect.resource.id": "evergreen.model.demo",
        "prefect.resource.name": "demo",
        "evergreen.decision": "train-decay-1",
    }
    assert event["payload"] == {"model": "demo", "decision_id": "train-decay-1"}
    assert event["id"] == str(emitted.id) == str(uuid5(NAMESPACE_URL, "evergreen:demo:train-decay-1"))
    assert emitted.link
    assert emitted.link.endswith(f"/events/event/{event['occurred'][:10]}/{emitted.id}")


def test_a_decision_has_one_event_id_and_others_have_others(api: Api) -> None:
    for model, decision in (("a", "d"), ("a", "d"), ("b", "d"), ("a", "e")):
        emit.emit_decision(model, decision)
    ids = [event["id"] for event in api.taken]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_the_run_that_decided_is_named(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run = str(uuid4())
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run)
    emit.emit_decision("demo", "d")
    expected = {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}
    assert api.taken[0]["related"] == [expected]


def test_the_key_of_the_server_is_sent(api: Api) -> None:
    with temporary_settings({PREFECT_API_AUTH_STRING: "user:word"}):
        emit.emit_decision("demo", "d")
    assert api.headers[0]["authorization"] == "Basic dXNlcjp3b3Jk"


@pytest.mark.parametrize("status", [401, 422, 500])
def test_a_server_that_refuses_is_a_launch_error(api: Api, status: int) -> None:
    api.status = status
    with pytest.raises(LaunchError, match=f"decision d not taken by the Prefect API \\({status}\\)"):
        emit.emit_decision("demo", "d")
    assert api.taken == []


def test_a_server_that_does_not_answer_in_time_is_a_launch_error(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit, "SECONDS", 0.2)
    monkeypatch.setattr("prefect.client.base.time.sleep", lambda seconds: None)
    api.delay.clear()
    with pytest.raises(LaunchError, match=r"\(ReadTimeout\)"):
        emit.emit_decision("demo", "d")
    assert len(api.headers) == 2


def test_a_server_that_is_away_is_a_launch_error(api: Api) -> None:
    began = time.monotonic()
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(LaunchError, match=r"\(ConnectError\).*sent again by the next monitor run"),
    ):
        emit.emit_decision("demo", "d")
    assert time.monotonic() - began < emit.SECONDS


def test_without_a_server_no_event_vanishes_in_a_temporary_one() -> None:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(LaunchError, match=r"without PREFECT_API_URL.*EVERGREEN_LAUNCH=inline"),
    ):
        emit.emit_decision("demo", "d")
