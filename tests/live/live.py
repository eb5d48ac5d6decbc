"""A real Prefect server and process worker on loopback, in a folder like a user's clone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deployments.local.services import LEASE_FILES

ROOT = Path(__file__).parents[2]
POOL = "evergreen"
# A server on SQLite with many writers on a small machine is slow, not broken: both sides wait for it.
PATIENT = {
    "PREFECT_CLIENT_MAX_RETRIES": "7",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
}


@dataclass
class Live:
    """A place where things really run: `folder` is the clone, `api` the server's address."""

    folder: Path
    port: int
    env: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def api(self) -> str:
        """Address of the server's API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def state(self) -> Path:
        """The state folder of the clone."""
        return self.folder / ".evergreen"

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of every process of this place."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "EVERGREEN_", "AWS_"))
        }
        own = {
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASE_FILES,
            **PATIENT,
            "EVERGREEN_STATE_DIR": str(self.state),
            "EVERGREEN_THREADS": "1",
            "EVERGREEN_LAUNCH": "event",
            "EVERGREEN_PROBE": "here",  # a clean process for every version costs seconds each time
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return {**kept, **own, **self.env, **more}

    def start(self, name: str, *command: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[bytes]:
        """Return a process of this place; what it says goes to `<name>.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                command, cwd=cwd or self.folder, env=self.environment(**env),
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes[name] = started
        return started

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a process that this place started, and those it started in turn."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)

    def start_server(self) -> None:
        """Start the server and wait until it answers."""
        self.start(
            "server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--no-ui"
        )
        self.wait(lambda: httpx.get(f"{self.api}/health").status_code == 200, 180, "the server")

    def start_worker(self, name: str = "worker", *, cwd: Path | None = None, **env: str) -> None:
        """Start a process worker and wait until it is online; it makes the pool if need be."""
        self.start(
            name, "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name,
            cwd=cwd, **env,
        )  # fmt: skip

        def online() -> bool:
            found = httpx.post(f"{self.api}/work_pools/{POOL}/workers/filter", json={})
            return found.status_code == 200 and any(one["name"] == name for one in found.json())

        self.wait(online, 120, "the worker")

    def run(
        self, *command: str, timeout: float = 300, check: bool = True, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Return a command that ran to its end in this place."""
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=self.environment(**env), timeout=timeout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stdout[-3000:]} {done.stderr[-3000:]}")
        return done

    def wait(
        self, true: Callable[[], Any], seconds: float, what: str, every: float = 0.1
    ) -> Any:  # Any: whatever is waited for
        """Return what `true` gives as soon as it gives something; asked again after `every` seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if found := true():
                    return found
            time.sleep(every)
        logs = "".join(
            f"\n--- {log.name}\n{log.read_text(errors='replace')[-2000:]}"
            for log in self.folder.glob("*.log")
        )
        raise AssertionError(f"{what} did not come in {seconds:g} s{logs}")

    def post(self, path: str, **body: Any) -> Any:  # Any: JSON
        """Return what the API answers to a POST."""
        return self._asked("POST", path, json=body)

    def get(self, path: str) -> Any:  # Any: JSON
        """Return what the API answers to a GET."""
        return self._asked("GET", path)

    def patch(self, path: str, **body: Any) -> Any:  # Any: JSON
        """Return what the API answers to a PATCH."""
        return self._asked("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """Delete what is there, and whatever an answer that got lost had deleted already."""
        self._asked("DELETE", path, gone=True)

    def _asked(self, method: str, path: str, *, gone: bool = False, **more: Any) -> Any:  # Any: JSON
        """Return an answer; asked again while a server on SQLite is busy writing and says 503."""

        def answered() -> list[Any] | None:
            answer = httpx.request(method, f"{self.api}{path}", timeout=60, **more)
            if answer.status_code == 503:
                return None
            if not (gone and answer.status_code == 404):
                answer.raise_for_status()
            return [answer.json() if answer.content else None]

        return self.wait(answered, 240, f"an answer to {method} {path}", every=0.5)[0]

    def deployment(self, name: str) -> dict[str, Any]:  # Any: JSON
        """Return a deployment by `flow/name`."""
        found: dict[str, Any] = self.get(f"/deployments/name/{name}")
        return found

    def runs(self, deployment: str) -> list[dict[str, Any]]:  # Any: JSON
        """Return the runs of a deployment that were not made by its schedule, oldest first."""
        identity = self.deployment(deployment)["id"]
        found = self.post("/flow_runs/filter", deployments={"id": {"any_": [identity]}}, limit=200)
        return sorted((run for run in found if not run["auto_scheduled"]), key=lambda run: run["created"])


@contextmanager
def live_place(folder: Path, **env: str) -> Iterator[Live]:
    """Give a place without a process yet; whatever it started is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("prefect.yaml", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    place = Live(folder, port, env)
    try:
        yield place
    finally:
        for name in list(place.processes)[::-1]:
            place.stop(name)


def outcome(state: dict[str, Any]) -> str:  # Any: JSON
    """Return what a run came to: the first words of a completed state's message, else the state's name."""
    first, between, _ = str(state.get("message") or "").partition(" · ")
    return first if state["type"] == "COMPLETED" and between else str(state["name"])
