"""Every route needs a key of the right role, also a route that somebody adds tomorrow."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import SQLAlchemyError

from serving import __main__ as command
from serving import access, keys
from serving.app import create_app
from tasks.core.errors import SpecError
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.keys import all_keys, make_key, revoke_key
from tests.serving.running import running
from tests.versions import set_up

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def guarded(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A place with a store and no key yet."""
    folder = tmp_path_factory.mktemp("guarded") / "state"
    return set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)


@pytest.fixture(scope="module")
def given(guarded: Settings) -> dict[str, str]:
    """Keys of both roles, one that was revoked, and one that never was."""
    engine = open_store(guarded)
    made = {
        name: make_key(engine, name, role, at=NOW)
        for name, role in (("shop", "predict"), ("lab", "label"), ("ann", "admin"), ("old", "admin"))
    }
    revoke_key(engine, "old", at=NOW)
    return {**made, "stranger": "evergreen_" + "x" * 43}


@pytest.fixture(scope="module")
def app(guarded: Settings, given: dict[str, str]) -> FastAPI:
    del given
    app = create_app(["churn"], guarded)

    @app.get("/tomorrow")
    def tomorrow() -> str:
        return "new"

    return app


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[httpx.Client]:
    with running(app) as client:
        yield client


ALLOWED = {
    "shop": {
        ("POST", "/predict/{model}"),
        *(("GET", path) for path in ("/models", "/ready", "/docs", "/openapi.json")),
    },
    "lab": {("POST", "/labels/{model}")},
}
"""What keys that are no admin's may ask for; a route that is not here is closed to them by default."""


def ways_of(app: FastAPI) -> list[tuple[str, str]]:
    """Return method and path of every route, those of included routers as well."""
    found = []
    for route in iter_route_contexts(app.routes):
        assert route.path, "a route without a path: is it asked for a key?"
        found += [(method, route.path) for method in sorted(route.methods or {"GET"}) if method != "HEAD"]
    return found


def test_all_routes_are_found_however_they_were_added(app: FastAPI) -> None:
    found = set(ways_of(app))
    assert {
        ("GET", "/tomorrow"),
        ("POST", "/predict/{model}"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
    } <= found
    assert {("GET", "/explain/{model}/{prediction_id:path}"), ("GET", "/openapi.json")} <= found


def asked(client: httpx.Client, way: tuple[str, str], headers: dict[str, str | bytes]) -> int:
    path = re.sub(r"\{[^}]*\}", "churn", way[1])
    return client.request(way[0], path, headers=headers, content=b"").status_code


@pytest.mark.parametrize("way", ["nothing", "stranger", "old", "empty", "garbage", "half", "twice"])
def test_every_route_but_health_is_closed_to_those_without_a_good_key(
    app: FastAPI, client: httpx.Client, given: dict[str, str], way: str
) -> None:
    half = given["ann"][:-1]
    values = {"empty": "", "garbage": "é\xff" * 3, "half": half, "twice": f"{given['ann']},{half}", **given}
    headers: dict[str, str | bytes] = {} if way == "nothing" else {"X-API-Key": values[way].encode("latin-1")}
    found = {one: asked(client, one, headers) for one in [*ways_of(app), ("GET", "/docs"), ("GET", "/no")]}
    assert found.pop(("GET", "/health")) == 200
    assert set(found.values()) == {401}, found


@pytest.mark.parametrize("name", ["shop", "lab"])
def test_every_route_is_closed_to_a_role_that_it_is_not_for(
    app: FastAPI, client: httpx.Client, given: dict[str, str], name: str
) -> None:
    headers: dict[str, str | bytes] = {"X-API-Key": given[name]}
    for way in ways_of(app):
        status = asked(client, way, headers)
        if way == ("GET", "/health"):
            assert status == 200
        elif way in ALLOWED[name]:
            assert status not in (401, 403), (way, status)
        else:
            assert status == 403, (way, status)
    for way in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert asked(client, (way, "/models"), headers) in (403, 405)
        assert asked(client, (way, "/metrics"), headers) == 403


def test_a_key_may_do_what_its_role_may_and_no_more(client: httpx.Client, given: dict[str, str]) -> None:
    def status(path: str, name: str, method: str = "GET") -> int:
        headers = {"Authorization": f"Bearer {given[name]}"}
        return client.request(method, path, headers=headers).status_code

    assert status("/models", "shop") == 200
    assert status("/tomorrow", "shop") == 403
    assert status("/no-such-page", "shop") == 403
    assert status("/models", "ann") == 200
    assert status("/tomorrow", "ann") == 200
    assert status("/no-such-page", "ann") == 404
    assert status("/models", "lab") == 403
    assert status("/predict/churn", "lab", "POST") == 403


def test_below_its_own_pages_a_key_hears_that_there_are_none(
    client: httpx.Client, given: dict[str, str]
) -> None:
    def status(method: str, path: str, name: str) -> int:
        return client.request(method, path, headers={"X-API-Key": given[name]}).status_code

    assert status("POST", "/predict/nobody", "shop") == 404
    assert status("POST", "/predict/churn/x", "shop") == 404
    assert status("POST", "/predict/", "shop") == 404
    assert status("POST", "/labels/churn/x", "lab") == 404
    assert status("POST", "/labels/churn/x", "shop") == 403
    told = client.get("/predict/churn", headers={"X-API-Key": given["shop"]})
    assert (told.status_code, told.headers["allow"]) == (405, "POST")
    assert status("GET", "/predict/..%2fmetrics", "shop") in (404, 405)
    assert status("GET", "/models%0a", "shop") == 403


def test_a_revoked_key_ends_within_the_look(
    client: httpx.Client, guarded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.0)
    headers = {"X-API-Key": make_key(open_store(guarded), "brief", "admin", at=NOW)}
    assert client.get("/models", headers=headers).status_code == 200
    assert revoke_key(open_store(guarded), "brief", at=NOW)
    assert client.get("/models", headers=headers).status_code == 401


def test_a_store_that_does_not_answer_lets_nobody_new_in_and_stops_nobody_known(
    guarded: Settings, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(engine: object) -> list[object]:
        raise SQLAlchemyError("no answer")

    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.0)
    headers = {"X-API-Key": given["ann"]}
    with running(create_app(["churn"], guarded)) as client:
        assert client.get("/models", headers=headers).status_code == 200
        monkeypatch.setattr(access, "all_keys", silent)
        assert client.get("/models", headers=headers).status_code == 200
        assert client.get("/models").status_code == 401
    with running(create_app(["churn"], guarded)) as client:
        assert client.get("/models", headers=headers).status_code == 503
        assert client.get("/health").status_code == 200


def test_no_key_stands_anywhere_in_the_store(guarded: Settings, given: dict[str, str]) -> None:
    data = b"".join(path.read_bytes() for path in guarded.root.glob("store.db*"))
    assert given["shop"].encode() not in data
    assert {key.name: key.role for key in all_keys(open_store(guarded))}["shop"] == "predict"


def test_without_any_key_an_app_on_loopback_is_open_and_one_beyond_it_does_not_start(
    place: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(create_app(["churn"], place)) as client:
        assert client.get("/models").status_code == 200
    with running(create_app(["churn"], place, open_without_keys=False)) as client:
        assert client.get("/models").status_code == 401
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(place.root))
    assert command.main(["--models", "churn", "--host", "0.0.0.0"]) == 2  # noqa: S104 -- refused is the point
    assert "no key of the serving app" in capsys.readouterr().err


def test_a_caller_above_the_rate_waits_and_another_does_not(guarded: Settings, given: dict[str, str]) -> None:
    with running(create_app(["churn"], guarded, per_minute=5)) as client:

        def statuses(name: str, times: int) -> list[int]:
            return [
                client.get("/models", headers={"X-API-Key": given[name]}).status_code for _ in range(times)
            ]

        assert statuses("shop", 7) == [200] * 5 + [429] * 2
        assert statuses("ann", 5) == [200] * 5
        told = client.get("/models", headers={"X-API-Key": given["shop"]})
        assert 1 <= int(told.headers["Retry-After"]) <= 13
        assert client.get("/health").status_code == 200


def test_the_command_makes_lists_and_revokes_keys(
    place: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(place.root))
    assert keys.main(["add", "shop"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("evergreen_")
    assert keys.main(["add", "shop"]) == 2
    assert "a key named 'shop' already" in capsys.readouterr().err
    assert keys.main(["revoke", "shop"]) == 0
    assert keys.main(["revoke", "nobody"]) == 2
    capsys.readouterr()
    assert keys.main(["list"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].split() == ["name", "role", "made", "revoked"]
    assert said.splitlines()[1].split()[:2] == ["shop", "predict"]
    assert key not in said


@pytest.mark.parametrize(
    ("name", "role"), [("", "admin"), ("a b", "admin"), ("x" * 65, "admin"), ("a", "root")]
)
def test_a_key_without_a_proper_name_or_role_is_not_made(place: Settings, name: str, role: str) -> None:
    with pytest.raises(SpecError):
        make_key(open_store(place), name, role, at=NOW)
    assert all_keys(open_store(place)) == []


def test_a_person_gives_the_key_as_a_password_for_pages_and_for_nothing_else(
    client: httpx.Client, given: dict[str, str]
) -> None:
    assert "role label or admin" in client.post("/labels/churn", headers={"X-API-Key": given["shop"]}).text
    assert "role predict or admin" in client.post("/predict/churn", headers={"X-API-Key": given["lab"]}).text
    assert "was revoked" in client.get("/models", headers={"X-API-Key": given["old"]}).text
    asks = client.get("/dashboard", follow_redirects=False)
    assert (asks.status_code, asks.headers["WWW-Authenticate"].partition(" ")[0]) == (401, "Basic")
    for name, status in (("ann", 200), ("shop", 403), ("old", 401), ("stranger", 401)):
        told = client.get("/dashboard", auth=("anybody", given[name]), follow_redirects=True)
        assert told.status_code in ({200, 404} if status == 200 else {status}), (name, told.text)
    # A browser sends a password it knows with any request that some page makes: only pages take it.
    assert client.get("/metrics", auth=("ann", given["ann"])).status_code == 401
    assert client.get("/models").headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/docs", auth=("anybody", given["shop"])).status_code == 200
    for garbage in ("Basic", "Basic x", "Basic " + "A" * 9, "Basic é"):
        headers: dict[str, str | bytes] = {"Authorization": garbage.encode("latin-1")}
        assert client.get("/dashboard", headers=headers).status_code == 401


def test_the_models_of_a_file_are_served_and_a_file_without_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("definitions: {models: {a: {name: churn}, b: {name: price}}}")
    assert command._models_in(file) == ["churn", "price"]
    for text in ("definitions: {}", "a: [", "- 1"):
        file.write_text(text)
        assert command.main(["--config", str(file)]) == 2
    assert "definitions.models" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert command.main(["--models", "churn", "--port", port]) == 2
    assert f"port {port} of 127.0.0.1" in capsys.readouterr().err
