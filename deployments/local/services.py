"""The services of `make up`, as a table: adding one is one entry here and its usual port."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deployments.local.place import LOOPBACK
from deployments.local.ports import HOST

POOL = "evergreen"
# The port each is known for; another one is chosen where it is taken.
USUAL_PORTS = {"server": 4200, "mlflow": 5000, "worker": 4210, "app": 8000}
# Before the first MLflow server: two processes that set the same database up destroy each other's migration,
# so it is done under the lock that the flows take too.
SET_UP_MLFLOW = "from tasks.store.mlflow_client import open_client; open_client()"
LEASE_FILES = "prefect.server.concurrency.lease_storage.filesystem"


@dataclass(frozen=True)
class Service:
    """One process that is kept running.

    Attributes:
        name: what it is called in tables, logs and ports.
        command: what is run.
        health: address that answers 200 while it is well.
        page: what a person opens; empty where there is nothing to see.
        env: variables of its own.
        ready: another address that must answer 200 once before those that need it start.
        needs: services that must be ready before it starts; it is stopped before them.
        first: a command that has to succeed before it starts.
        has_runs: whether it starts processes of their own, which end before it, so that it can report them.
    """

    name: str
    command: tuple[str, ...]
    health: str
    page: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str = ""
    needs: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    has_runs: bool = False


def services(
    ports: Mapping[str, int], shared: Mapping[str, str], models: Sequence[str] = ()
) -> list[Service]:
    """Return the services of a place in the order they start; they stop in the opposite one.

    Args:
        ports: a port of each, by name.
        shared: the environment all agree on.
        models: names of the models that the serving app answers for; without any there is no app.
    """
    own_mlflow = not shared["EVERGREEN_MLFLOW"].startswith(("http://", "https://"))  # else somebody runs one
    return [
        _server(ports["server"], shared),
        *([_mlflow(ports["mlflow"], shared)] if own_mlflow else []),
        _worker(ports["worker"], shared["PREFECT_API_URL"]),
        *([_app(ports["app"], models, ("mlflow",) if own_mlflow else ())] if models else []),
    ]


def _server(port: int, shared: Mapping[str, str]) -> Service:
    return Service(
        "server",
        (_tool("prefect"), "server", "start", "--host", HOST, "--port", str(port), "--ui"),
        health=f"http://{HOST}:{port}/api/health",
        page=f"http://{HOST}:{port}",
        # By default a page from anywhere, open in a browser here, may use the API, which starts processes.
        env={
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}:{port}" for name in LOOPBACK),
            # The pages with their address filled in: here, since by default they are written where Prefect is
            # installed, and two servers of one environment would overwrite each other's.
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": f"{shared['EVERGREEN_STATE_DIR']}/up/ui",
            # By default leases of concurrency limits live in the server's memory, and a restart under a run
            # ends the run with "410 Gone". Files below PREFECT_HOME outlive the server.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASE_FILES,
        },
    )


def _mlflow(port: int, shared: Mapping[str, str]) -> Service:
    """Return MLflow's pages and API over the database that the flows write to themselves.

    Flows and terminals use the database directly, so a run does not depend on this service; an experiment
    made through it puts its files where theirs lie.
    """
    database = shared["EVERGREEN_MLFLOW"]
    is_new = database.startswith("sqlite:///") and not Path(database.removeprefix("sqlite:///")).exists()
    return Service(
        "mlflow",
        (
            _tool("mlflow"),
            "server",
            "--host",
            HOST,
            "--port",
            str(port),
            "--workers",
            "1",
            "--no-serve-artifacts",
        ),
        health=f"http://{HOST}:{port}/health",
        page=f"http://{HOST}:{port}",
        # In the environment, where no process list shows the password of a database.
        env={
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{shared['EVERGREEN_ARTIFACTS']}/mlflow",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes and 0.5 GB instead of 13 and 2.2
        },
        first=(sys.executable, "-c", SET_UP_MLFLOW) if is_new else (),
    )


def _worker(port: int, api: str) -> Service:
    at_once = max(4, 2 * (os.cpu_count() or 1))  # a laptop's memory, when a day's checks are all late
    return Service(
        "worker",
        (
            *(_tool("prefect"), "worker", "start", "--pool", POOL, "--type", "process", "--name", "make-up"),
            *("--limit", str(at_once), "--with-healthcheck", "--install-policy", "never"),
        ),
        health=f"http://{HOST}:{port}/health",
        env={
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_WEBSERVER_HOST": HOST,
            "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        },
        ready=f"{api}/work_pools/{POOL}",
        needs=("server",),
        has_runs=True,
    )


def _app(port: int, models: Sequence[str], needs: tuple[str, ...]) -> Service:
    return Service(
        "app",
        (sys.executable, "-m", "serving", "--port", str(port), "--models", *models),
        health=f"http://{HOST}:{port}/health",  # well also while no model has a champion yet
        page=f"http://{HOST}:{port}/dashboard",
        needs=needs,
    )


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)
