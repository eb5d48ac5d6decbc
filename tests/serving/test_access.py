"""Every route needs a key of the right role, also a route that somebody adds tomorrow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
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
        for name, role in (("shop", "predict"), ("ann", "admin"), ("old", "admin"))
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


def paths_of(app: FastAPI) -> list[str]:
    return [route.path.replace("{model}", "churn") for route in app.routes if isinstance(route, APIRoute)]


@pytest.mark.parametrize("way", ["nothing", "stranger", "old", "empty", "garbage"])
def test_every_route_but_health_is_closed_to_those_without_a_good_key(
    app: FastAPI, client: httpx.Client, given: dict[str, str], way: str
) -> None:
    values = {"empty": "", "garbage": "é\xff" * 3, **given}
    headers = {} if way == "nothing" else {"X-API-Key": values[way].encode("latin-1")}
    found = {path: client.get(path, headers=headers).status_code for path in [*paths_of(app), "/docs", "/no"]}
    assert found.pop("/health") == 200
    assert set(found.values()) == {401}, found
    assert "/tomorrow" in found


def test_a_key_may_do_what_its_role_may_and_no_more(client: httpx.Client, given: dict[str, str]) -> None:
    def status(path: str, name: str) -> int:
        return client.get(path, headers={"Authorization": f"Bearer {given[name]}"}).status_code

    assert status("/models", "shop") == 200
    assert status("/tomorrow", "shop") == 403
    assert status("/no-such-page", "shop") == 403
    assert status("/models", "ann") == 200
    assert status("/tomorrow", "ann") == 200
    assert status("/no-such-page", "ann") == 404


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
