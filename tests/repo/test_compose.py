"""The containers: nothing open that need not be, nothing secret in a file, every service asked how it is."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.local.services import LEASE_FILES

ROOT = Path(__file__).parents[2]
WHERE = ROOT / "deployments"
TEXT = (WHERE / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if name != "postgres"}
LASTING = {name: one for name, one in SERVICES.items() if name != "deploy"}
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(:?[-?][^}]*)?\}")


def filled(text: str, given: dict[str, str]) -> str:
    """Fill in `${NAME:-default}` as compose does."""
    return VARIABLE.sub(lambda found: given.get(found[1]) or (found[2] or "").removeprefix(":-"), text)


# compose.yaml


def test_the_services_are_those_that_are_wanted() -> None:
    assert list(SERVICES) == ["postgres", "prefect", "mlflow", "worker", "deploy", "app"]
    for kind in ("volumes", "networks"):
        used = {
            entry.split(":")[0]
            for one in SERVICES.values()
            for entry in one.get(kind, [])
            if entry[0] not in "./$"
        }
        assert used == set(COMPOSE[kind]), kind


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_root_or_can_become_it(name: str) -> None:
    one = SERVICES[name]
    user, group = one["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(one)
    assert not [entry for entry in one.get("volumes", []) if "docker.sock" in entry]


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_cannot_change_its_code(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    places = [volume.rsplit(":ro", 1)[0].rsplit(":", 1)[1] for volume in SERVICES[name].get("volumes", [])]
    written = [
        place for place, volume in zip(places, SERVICES[name].get("volumes", []), strict=True)
        if not volume.endswith(":ro")
    ]  # fmt: skip
    assert set(written) <= {"/app/.evergreen"}


def test_no_port_is_open_to_the_network_unless_somebody_says_so() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert set(published) == {"prefect", "mlflow", "app"}
    for entry in (entry for entries in published.values() for entry in entries):
        assert filled(entry, {}).startswith("127.0.0.1:")
    # Only what asks for a password may be opened further.
    assert "EVERGREEN_BIND" not in str(published["mlflow"])


def test_the_database_can_be_reached_by_the_services_only() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["data"]
    assert {name for name, one in OURS.items() if "data" in one["networks"]} == {
        "prefect",
        "mlflow",
        "worker",
        "app",
    }


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_is_asked_how_it_is_and_started_again(name: str) -> None:
    one = SERVICES[name]
    assert one["healthcheck"]["test"][0] == "CMD"
    assert one["healthcheck"]["retries"] >= 3
    assert one["restart"] == "unless-stopped"
    assert int(one["logging"]["options"]["max-file"]) * int(one["logging"]["options"]["max-size"][:-1]) <= 100


def test_a_service_waits_until_those_it_needs_are_well() -> None:
    waits = {name: one.get("depends_on", {}) for name, one in SERVICES.items()}
    assert {name: set(of) for name, of in waits.items()} == {
        "postgres": set(),
        "prefect": {"postgres"},
        "mlflow": {"postgres"},
        "worker": {"postgres", "prefect", "mlflow"},
        "deploy": {"prefect", "worker"},
        "app": {"postgres", "mlflow"},
    }
    assert {one["condition"] for of in waits.values() for one in of.values()} == {"service_healthy"}


def test_deploying_happens_once_and_is_not_repeated_for_ever() -> None:
    assert SERVICES["deploy"]["restart"] == "no"
    assert SERVICES["deploy"]["command"] == ["python", "deployments/sync.py"]
    assert (WHERE / "sync.py").is_file()


def test_the_api_asks_for_a_password_and_all_clients_know_it() -> None:
    server = SERVICES["prefect"]["environment"]
    secret = "/run/secrets/prefect_auth"  # noqa: S105 -- a path
    assert server["PREFECT_SERVER_API_AUTH_STRING_FILE"] == secret
    assert server["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "*" not in server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    for name in ("worker", "deploy"):
        assert SERVICES[name]["environment"]["PREFECT_API_AUTH_STRING_FILE"] == secret
        assert SERVICES[name]["environment"]["PREFECT_API_URL"] == "http://prefect:4200/api"


def test_leases_of_concurrency_limits_lie_on_a_volume_and_so_outlive_the_server() -> None:
    server = SERVICES["prefect"]
    assert server["environment"]["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == LEASE_FILES
    (volume,) = server["volumes"]
    folder = volume.partition(":")[2]
    assert server["environment"]["PREFECT_HOME"].startswith(f"{folder}/")


def test_no_value_is_a_secret_and_every_secret_used_is_handed_to_the_service() -> None:
    for name, one in SERVICES.items():
        handed = set(one.get("secrets", []))
        for variable, value in one.get("environment", {}).items():
            named = set(re.findall(r"\{secret:(\w+)\}", str(value)))
            if str(value).startswith("/run/secrets/"):
                assert variable.endswith("_FILE")
                named.add(str(value).removeprefix("/run/secrets/"))
            elif re.search(r"PASSWORD|AUTH|SECRET|_KEY", variable):
                raise AssertionError(f"{name}: {variable} is written out")
            assert named <= handed, f"{name}: {variable}"
            assert not re.search(r"://[^@{]*:[^@{]+@", str(value)), f"{name}: {variable} has a password"
        assert handed <= set(COMPOSE["secrets"])


def test_each_service_has_the_secrets_it_needs_and_no_others() -> None:
    assert {name: set(one["secrets"]) for name, one in OURS.items()} == {
        "prefect": {"db_prefect", "prefect_auth"},
        "mlflow": {"db_mlflow"},
        "worker": {"prefect_auth", "db_evergreen", "mask_key"},
        "deploy": {"prefect_auth"},
        "app": {"db_evergreen", "mask_key"},
    }


def test_what_must_be_given_fails_when_it_is_not() -> None:
    found: dict[str, set[str]] = {}
    for name, rest in VARIABLE.findall(re.sub(r"^\s*#.*$", "", TEXT, flags=re.M)):
        found.setdefault(name, set()).add(rest[:2])
    assert {name for name, rests in found.items() if rests == {":?"}} == {"EVERGREEN_SECRETS", "GIT_COMMIT"}
    assert {rest for rests in found.values() for rest in rests} == {":?", ":-"}  # never silently empty


def test_the_secrets_the_script_makes_are_those_compose_hands_out(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["sh", str(WHERE / "secrets.sh"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    made = {path.name: path.read_text().strip() for path in folder.iterdir()}
    named = {
        filled(entry["file"], {"EVERGREEN_SECRETS": str(folder)}).removeprefix(f"{folder}/"): secret
        for secret, entry in COMPOSE["secrets"].items()
    }
    assert set(named) == set(made)
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"(evergreen:)?[0-9a-f]{64}", value) for value in made.values())
    assert made["prefect_auth"].startswith("evergreen:")
    assert folder.stat().st_mode & 0o777 == 0o700
    subprocess.run(command, check=True, capture_output=True)
    assert {path.name: path.read_text().strip() for path in folder.iterdir()} == made


def test_every_image_is_pinned_to_a_version() -> None:
    images = [SERVICES["postgres"]["image"]]
    bases = re.findall(r"^ARG PYTHON=(\S+)$", (WHERE / "Dockerfile").read_text(), flags=re.M)
    images += [f"python:{base}" for base in bases]
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?-[a-z-]+", image), image
    assert {one["image"] for one in OURS.values()} == {"${EVERGREEN_IMAGE:-evergreen:local}"}


def test_every_file_compose_names_exists() -> None:
    build = SERVICES["worker"]["build"]
    assert (WHERE / build["context"] / build["dockerfile"]).is_file()
    for one in SERVICES.values():
        for volume in one.get("volumes", []):
            source = filled(volume, {}).split(":")[0]
            if source.startswith("."):
                assert (WHERE / source).is_file(), source
        for part in one["healthcheck"].get("test", []):
            if part.startswith("/app/"):
                assert (ROOT / part.removeprefix("/app/")).is_file()
    assert os.access(
        WHERE / "postgres" / "databases.sh", os.X_OK
    )  # else the image sources it into its own shell
