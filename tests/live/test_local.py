"""Ports, environment and logs of what runs on one machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local import logs
from deployments.local.deploying import models_of
from deployments.local.place import Place, service_environment, shared_environment, write_env_file
from deployments.local.ports import HOST, choose_ports, is_free
from deployments.local.services import services
from tasks.settings import Settings


def _place(folder: Path) -> Place:
    place = Place(folder, folder / "state")
    place.logs.mkdir(parents=True)
    return place


def _free() -> int:
    with socket.socket() as own:
        own.bind((HOST, 0))
        return int(own.getsockname()[1])


# Ports.


def test_a_port_is_the_usual_one_then_the_same_again(tmp_path: Path) -> None:
    kept, usual = tmp_path / "ports.json", {"a": _free()}
    assert choose_ports(kept, usual) == (usual, [])
    assert choose_ports(kept, {"a": _free()}) == (usual, [])


def test_a_taken_port_gives_way_to_another_that_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "ports.json"
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104 -- whoever listens on every address holds ours too
        other.listen()
        taken = other.getsockname()[1]
        chosen, changed = choose_ports(kept, {"a": taken})
        assert chosen["a"] != taken
        assert changed == [f"a: port {taken} is taken by another process, now {chosen['a']}"]
    assert choose_ports(kept, {"a": taken}) == (chosen, [])


def test_two_services_never_get_the_same_port(tmp_path: Path) -> None:
    port = _free()
    chosen, _ = choose_ports(tmp_path / "ports.json", {"a": port, "b": port})
    assert chosen["a"] == port
    assert chosen["b"] != port


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": "x"}', '{"a": 70000}', '{"a": true}'])
def test_a_spoilt_file_of_ports_is_chosen_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    port = _free()
    assert choose_ports(tmp_path / "ports.json", {"a": port})[0] == {"a": port}
    assert json.loads((tmp_path / "ports.json").read_text()) == {"a": port}


def test_a_port_that_was_just_closed_is_free() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server of ours does
        server.bind((HOST, 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port)):
            accepted, _ = server.accept()
            accepted.close()  # ends first, so its port stays in TIME_WAIT
    assert is_free(port)


# Environment.


def settings(tmp_path: Path, **more: object) -> Settings:
    return Settings(state_dir=tmp_path / "state", threads=1, **more)  # type: ignore[arg-type]


def test_every_path_a_service_gets_is_absolute(tmp_path: Path) -> None:
    place = _place(tmp_path)
    shared = shared_environment(place, "http://api", {}, settings(tmp_path, store="sqlite:///mine.db"))
    assert shared["EVERGREEN_STORE"] == f"sqlite:///{tmp_path}/mine.db"
    assert shared["EVERGREEN_MLFLOW"] == f"sqlite:///{tmp_path}/state/mlflow.db"
    assert shared["EVERGREEN_ARTIFACTS"] == f"{tmp_path}/state/artifacts"
    assert shared["EVERGREEN_LAUNCH"] == "event"
    assert shared["PREFECT_HOME"] == str(tmp_path / "state")


def test_a_postgres_store_stays_as_it_was_given_and_never_gets_into_a_file(tmp_path: Path) -> None:
    place = _place(tmp_path)
    url, key = "postgresql+psycopg://me:canary-one@db/evergreen", "canary-two"
    given = {
        "EVERGREEN_STORE": url,
        "EVERGREEN_MASK_KEY": key,
        "PREFECT_SERVER_API_AUTH_STRING": "a:canary-three",
    }
    shared = shared_environment(place, "http://api", given, settings(tmp_path, store=url, mask_key=key))
    assert shared["EVERGREEN_STORE"] == url
    assert shared["PREFECT_API_AUTH_STRING"] == "a:canary-three"
    write_env_file(place, shared)
    text = place.env_file.read_text()
    assert "canary" not in text
    for name in ("EVERGREEN_STORE", "EVERGREEN_MASK_KEY", "PREFECT_API_AUTH_STRING"):
        assert f"# {name} holds a password" in text
    assert place.env_file.stat().st_mode & 0o777 == 0o600


def test_a_terminal_that_reads_the_file_has_what_the_services_have(tmp_path: Path) -> None:
    folder = tmp_path / "with a blank and a ' quote"
    folder.mkdir()
    place = _place(folder)
    shared = shared_environment(place, "http://api", {"NO_PROXY": "intern"}, settings(folder))
    write_env_file(place, shared)
    done = subprocess.run(
        ["sh", "-c", '. "$0" && env', str(place.env_file)],
        capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name: seen.get(name) for name in shared} == shared
    assert shared["NO_PROXY"] == "intern,127.0.0.1,localhost"


def test_a_terminal_that_reads_the_file_finds_prefect_first_and_once(tmp_path: Path) -> None:
    place = _place(tmp_path)
    write_env_file(place, {})
    done = subprocess.run(
        ["sh", "-c", '. "$0" && . "$0" && command -v prefect && echo "$PATH"', str(place.env_file)],
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    tools = Path(sys.executable).parent
    assert done.stdout.splitlines() == [f"{tools}/prefect", f"{tools}:/usr/bin:/bin"]


def test_a_service_gets_no_key_of_another_prefect(tmp_path: Path) -> None:
    given = {
        "PREFECT_API_KEY": "pnu_x",
        "PREFECT_PROFILE": "cloud",
        "PREFECT_API_URL": "https://cloud",
        "A": "b",
    }
    environment = service_environment(given, {"PREFECT_API_URL": "http://here"}, "t")
    assert environment["PREFECT_API_URL"] == "http://here"
    assert environment["A"] == "b"
    assert not {"PREFECT_API_KEY", "PREFECT_PROFILE"} & set(environment)


def test_no_password_of_a_database_is_on_a_command_line(tmp_path: Path) -> None:
    url = "postgresql+psycopg://me:canary@db/mlflow"
    shared = shared_environment(_place(tmp_path), "http://api", {}, settings(tmp_path, mlflow=url))
    found = services({"server": 1, "mlflow": 2, "worker": 3}, shared)
    assert [one.name for one in found] == ["server", "mlflow", "worker"]
    assert not [part for one in found for part in one.command if "canary" in part]
    assert found[1].env["MLFLOW_BACKEND_STORE_URI"] == url


def test_the_app_serves_the_models_of_the_files_and_is_not_started_without_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("definitions: {models: {x: {name: churn}, y: {name: price}}}")
    (tmp_path / "b.yaml").write_text("definitions: {models: {x: {name: churn}}}")
    (tmp_path / "c.yaml").write_text("deployments: []")
    assert models_of([str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c.yaml", "none.yaml")]) == [
        "churn",
        "price",
    ]
    ports = {"server": 1, "mlflow": 2, "worker": 3, "app": 4}
    shared = shared_environment(_place(tmp_path), "http://api", {}, settings(tmp_path))
    app = services(ports, shared, ["churn", "price"])[-1]
    assert (app.name, app.needs, app.command[-3:]) == ("app", ("mlflow",), ("--models", "churn", "price"))
    assert "app" not in [one.name for one in services(ports, shared)]


def test_no_mlflow_is_started_where_one_is_named(tmp_path: Path) -> None:
    shared = shared_environment(
        _place(tmp_path), "http://api", {}, settings(tmp_path, mlflow="https://mlflow.example")
    )
    assert [one.name for one in services({"server": 1, "mlflow": 2, "worker": 3}, shared)] == [
        "server",
        "worker",
    ]


# Logs.


def test_a_long_log_is_cut_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 2000)
        assert logs.cap(log, limit=1000)
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "one.log.1").read_bytes() == b"x" * 2000
    assert not logs.cap(log, limit=1000)


def test_the_end_of_a_log_is_shown_even_if_it_is_not_text(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(50)) + b"\xff end")
    assert logs.tail(log, lines=2) == "    line 49\n    \ufffd end"
    assert logs.tail(tmp_path / "none.log") == ""
