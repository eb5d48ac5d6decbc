"""This place as its services see it: folders, and the environment that all of them and a terminal share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from deployments.local.processes import TOKEN
from tasks.settings import Settings

# Of another place: a cloud account's key and profile have no business with a server of our own.
FOREIGN = ("PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_UI_URL")
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Place:
    """Where `make up` runs: the folder with prefect.yaml, and the state folder."""

    folder: Path
    root: Path

    @property
    def own(self) -> Path:
        """Folder of what `make up` keeps: ports, processes, logs."""
        return self.root / "up"

    @property
    def logs(self) -> Path:
        """Folder of the services' logs."""
        return self.own / "logs"

    @property
    def env_file(self) -> Path:
        """File that another terminal reads to talk to these services."""
        return self.root / "env"


def this_place() -> Place:
    """Return the place of the working directory; nothing is made there."""
    return Place(Path.cwd().resolve(), Settings().state_dir.expanduser().resolve())


def make_folders(place: Place) -> None:
    """Make the folders that `make up` writes to, closed to everyone else.

    Raises:
        OSError: when one cannot be made or written.
    """
    for made in (place.root, place.own, place.logs):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(made, os.W_OK | os.X_OK):
            raise PermissionError(made)


def shared_environment(
    place: Place, api: str, given: Mapping[str, str], settings: Settings | None = None
) -> dict[str, str]:
    """Return what a service, a flow run and a terminal must agree on, every path absolute.

    Args:
        place: the folders.
        api: address of the Prefect API.
        given: the environment of the one who started; what it sets of stores, keys and modes stays.
        settings: the settings of this place.
    """
    settings = settings or Settings()
    names = [f"EVERGREEN_{field.upper()}" for field in Settings.model_fields]
    environment = {
        **{name: given[name] for name in names if name in given},
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(Path(given.get("PREFECT_HOME", place.root)).expanduser().resolve()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": given.get("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30"),
        "EVERGREEN_STATE_DIR": str(place.root),
        "EVERGREEN_STORE": _absolute(settings.store_url, place.folder),
        "EVERGREEN_MLFLOW": _absolute(settings.mlflow_uri, place.folder),
        "EVERGREEN_ARTIFACTS": settings.artifact_root,
        "EVERGREEN_LAUNCH": given.get("EVERGREEN_LAUNCH", "event"),
        "OMP_NUM_THREADS": given.get("OMP_NUM_THREADS", str(settings.threads)),  # of every flow run
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _no_proxy(given)),  # a proxy has no way to this machine
    }
    if auth := given.get("PREFECT_SERVER_API_AUTH_STRING"):  # a server with a password: its clients know it
        environment["PREFECT_API_AUTH_STRING"] = auth
    return environment


def service_environment(given: Mapping[str, str], shared: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the environment of a service: the given one, without what belongs to another place."""
    kept = {name: value for name, value in given.items() if name not in FOREIGN}
    path = os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", os.defpath)])
    return {**kept, **shared, "PATH": path, TOKEN: token}


def write_env_file(place: Place, shared: Mapping[str, str]) -> None:
    """Write what another terminal needs, readable by its owner only and without a secret.

    A value that holds a password is named but not written: it would stay there in clear.
    """
    lines = ["# Made by `make up`. In another terminal: . " + shlex.quote(str(place.env_file))]
    for name, value in shared.items():
        if _is_secret(name, value):
            lines.append(f"# {name} holds a password and is not kept here: set it as you did for `make up`")
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    tools = shlex.quote(str(Path(sys.executable).parent))  # where `prefect` is; first, and only once
    lines.append(f'case "$PATH" in {tools}:*) ;; *) export PATH={tools}:"$PATH" ;; esac')
    place.env_file.unlink(missing_ok=True)
    place.env_file.touch(mode=0o600)
    place.env_file.write_text("\n".join(lines) + "\n")


def _is_secret(name: str, value: str) -> bool:
    if name.endswith(("_KEY", "_STRING", "_PASSWORD", "_TOKEN")):
        return True
    return "://" in value and ("@" in value or "password=" in value)


def _absolute(url: str, folder: Path) -> str:
    """Return a URL whose SQLite file is named by its whole path; any other URL as it is."""
    if not url.startswith("sqlite"):
        return url
    parsed = make_url(url)
    if not parsed.database or parsed.database == ":memory:" or Path(parsed.database).is_absolute():
        return url
    return parsed.set(database=str(folder / parsed.database)).render_as_string(hide_password=False)


def _no_proxy(given: Mapping[str, str]) -> str:
    before = given.get("NO_PROXY") or given.get("no_proxy") or ""
    names = [name for name in before.split(",") if name]
    return ",".join([*names, *(name for name in LOOPBACK if name not in names)])
