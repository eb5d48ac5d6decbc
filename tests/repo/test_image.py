"""The image: built from the lock, without tools or rights, and given its secrets by its first process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.settings import Settings
from pydantic import BaseModel

from deployments.image.healthy import is_healthy
from deployments.image.start import NoSecret, environment
from tests.repo.test_compose import OURS
from tests.services import WebServer, answer

ROOT = Path(__file__).parents[2]
WHERE = ROOT / "deployments"
DOCKERFILE = (WHERE / "Dockerfile").read_text()
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M)).splitlines()
    if line.strip()
]


# Dockerfile


def _index(word: str, part: str) -> int:
    (found,) = [number for number, (step, rest) in enumerate(STEPS) if step == word and part in rest]
    return found


def test_the_image_is_built_in_two_stages_and_holds_no_tool_to_build_with() -> None:
    assert [rest for word, rest in STEPS if word == "FROM"] == [
        "python:${PYTHON} AS libraries",
        "python:${PYTHON}",
    ]
    assert not re.search(r"apt-get|curl|wget|build-essential|gcc", DOCKERFILE)
    assert _index("RUN", "uninstall --yes") > _index("FROM", "python:${PYTHON} AS libraries")


def test_libraries_come_from_the_lock_by_hash_as_wheels_and_compiled() -> None:
    install = STEPS[_index("RUN", "--require-hashes")][1]
    assert "-r /tmp/requirements.lock" in install
    assert "--only-binary :all:" in install
    assert "--compile" in install
    lock = (ROOT / "requirements.lock").read_text()
    pins = [block for block in re.split(r"\n(?=\S)", lock) if "==" in block]
    assert len(pins) > 100
    assert all("--hash=sha256:" in pin for pin in pins)


def test_what_changes_with_a_commit_comes_after_what_does_not() -> None:
    assert (
        _index("COPY", "--from=libraries") < _index("COPY", "pyproject.toml") < _index("COPY", "flows flows")
    )
    before = [rest for word, rest in STEPS[: _index("COPY", "--from=libraries")] if word == "COPY"]
    assert before == ["requirements.lock /tmp/requirements.lock"]


def test_the_image_runs_as_nobody_in_particular_and_is_asked_how_it_is() -> None:
    words = [word for word, _ in STEPS]
    user = STEPS[words.index("USER")][1]
    assert user == "10001:10001"
    assert words.index("USER") > max(number for number, word in enumerate(words) if word in ("RUN", "COPY"))
    assert {one["user"] for one in OURS.values()} == {user}
    assert (ROOT / "deployments/image/healthy.py").is_file()
    assert "/app/deployments/image/healthy.py" in STEPS[words.index("HEALTHCHECK")][1]
    assert '["python", "/app/deployments/image/start.py"]' in STEPS[words.index("ENTRYPOINT")][1]


def test_an_image_without_a_commit_is_not_built() -> None:
    assert _index("RUN", 'test -n "$GIT_COMMIT"') > _index("ARG", "GIT_COMMIT")
    assert "EVERGREEN_GIT_COMMIT=$GIT_COMMIT" in [rest for word, rest in STEPS if word == "ENV"]


def test_only_what_is_copied_gets_into_the_build_and_all_of_it() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for word, rest in STEPS:
        if word == "COPY" and "--from" not in rest:
            copied |= set(rest.split()[:-1])
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    assert not let_in & {".git", ".env", ".evergreen", ".venv", "tests", "secrets"}


def test_no_file_of_passwords_gets_into_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    last_in = max(number for number, line in enumerate(lines) if line.startswith("!"))
    kept_out = [line.removeprefix("**/") for line in lines[last_in:] if line.startswith("**/")]
    for name in (".env", "my.env", ".env.local", "secrets"):  # as in deployments/my.env
        assert any(fnmatch(name, pattern) for pattern in kept_out), name


# The first process of a container.


def test_secrets_take_their_places_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("p@ss/w:rd%1\n")
    (tmp_path / "auth").write_text("me:you\n")
    url = "postgresql+psycopg://evergreen:{secret:db}@postgres:5432/evergreen"
    made = environment(
        {"EVERGREEN_STORE": url, "PREFECT_API_AUTH_STRING_FILE": str(tmp_path / "auth"), "HOME": "/home"},
        tmp_path,
    )
    assert set(made) == {"EVERGREEN_STORE", "PREFECT_API_AUTH_STRING", "HOME"}
    assert made["PREFECT_API_AUTH_STRING"] == "me:you"
    parsed = sa.make_url(made["EVERGREEN_STORE"])
    assert (parsed.username, parsed.password, parsed.host) == ("evergreen", "p@ss/w:rd%1", "postgres")


def test_files_that_are_meant_for_others_stay_theirs(tmp_path: Path) -> None:
    given = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "SSL_CERT_FILE": "/ca", "EVERGREEN_MASK_KEY_FILE": ""}
    assert environment(given, tmp_path) == given


def test_no_setting_of_prefect_that_is_a_path_is_read_as_a_secret(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----")

    def paths(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from paths(field.annotation)
            elif name.endswith("_file"):
                aliases = getattr(field.validation_alias, "choices", [])
                yield from (one.upper() for one in aliases if isinstance(one, str) and one != name)
                yield f"{model.model_config.get('env_prefix', '')}{name}".upper()

    found = set(paths(Settings))
    assert "PREFECT_API_SSL_CERT_FILE" in found
    given = dict.fromkeys(found, str(pem))
    assert environment(given, tmp_path) == given


@pytest.mark.parametrize("content", [None, "", " \n", b"\xff\xfe"])
def test_a_secret_that_cannot_be_had_is_named_and_nothing_starts(
    tmp_path: Path, content: str | bytes | None
) -> None:
    if content is not None:
        (tmp_path / "db").write_bytes(content if isinstance(content, bytes) else content.encode())
    for given in ({"EVERGREEN_STORE": "x{secret:db}"}, {"EVERGREEN_STORE_FILE": str(tmp_path / "db")}):
        with pytest.raises(NoSecret, match=f"secret for EVERGREEN_STORE(_FILE)? at {tmp_path / 'db'}"):
            environment(given, tmp_path)


def test_a_variable_given_both_ways_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("canary")
    with pytest.raises(NoSecret, match="found both EVERGREEN_MASK_KEY and") as refused:
        environment({"EVERGREEN_MASK_KEY": "a", "EVERGREEN_MASK_KEY_FILE": str(tmp_path / "key")}, tmp_path)
    assert "canary" not in str(refused.value)


def test_the_command_gets_the_secret_and_its_exit_code_is_the_containers(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("canary\n")
    command = [sys.executable, str(WHERE / "image" / "start.py"), sys.executable, "-c"]
    script = "import os, sys; sys.exit(7 if os.environ['EVERGREEN_MASK_KEY'] == 'canary' else 1)"
    env = {"EVERGREEN_MASK_KEY_FILE": str(tmp_path / "key"), "PATH": os.environ["PATH"]}
    assert subprocess.run([*command, script], env=env, check=False).returncode == 7
    env["EVERGREEN_MASK_KEY_FILE"] = str(tmp_path / "none")
    done = subprocess.run([*command, script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "EVERGREEN_MASK_KEY_FILE" in done.stderr


def test_a_container_is_well_only_if_its_address_answers_200(web_server: WebServer) -> None:
    web_server.serve(answer(b"ok"), answer(b"no", status=503))
    assert is_healthy(f"{web_server.url}/health")
    assert not is_healthy(f"{web_server.url}/health")
    assert web_server.asked == ["/health", "/health"]
    assert not is_healthy("http://127.0.0.1:9/")
    assert not is_healthy("file:///etc/passwd")
    assert not is_healthy("")
