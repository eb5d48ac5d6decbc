"""`make up`: everything stands on loopback, runs see one place, and nothing is left when it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.local.place import Place
from deployments.local.ports import is_free
from deployments.local.processes import Identity, identity, marked
from deployments.local.record import Record, read_record
from tests.live.live import ROOT, Live, live_place

pytestmark = [pytest.mark.engine]

FLOW = """
import json, os, subprocess, sys, time
from pathlib import Path
from prefect import flow
from tasks.core.spec import ModelSpec
from tasks.settings import Settings

def seen():
    here = Settings()
    return {"store": here.store_url, "mlflow": here.mlflow_uri, "artifacts": here.artifact_root,
            "root": str(here.root), "launch": here.launch, "api": os.environ["PREFECT_API_URL"]}

@flow(name="hello")
def hello(spec: ModelSpec, asleep: bool = False):
    Path("seen.json").write_text(json.dumps(seen()))
    if asleep:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
        Path("asleep.new").write_text(f"{os.getpid()} {child.pid}")
        Path("asleep.new").rename("asleep")
        time.sleep(900)
"""
DEPLOYMENT = """
deployments:
  - name: demo
    entrypoint: hello.hello
    work_pool:
      name: evergreen
      job_variables: {env: {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: "30"}}
    enforce_parameter_schema: true
    parameters: {spec: *demo}
    tags: [evergreen, "model:demo", "flow:hello"]
    schedules: []
"""
CANARY = "canary-5cd1e0"


@dataclass
class Up:
    """A place and what the command that started it said."""

    live: Live
    taken: int
    said: str

    @property
    def place(self) -> Place:
        return Place(self.live.folder, self.live.state)

    @property
    def record(self) -> Record:
        found = read_record(self.place)
        assert found is not None
        return found

    def command(self, *words: str, check: bool = True) -> tuple[int, str]:
        done = self.live.run(
            sys.executable, str(ROOT / "deployments" / "up.py"), *words, check=check, timeout=500
        )
        return done.returncode, done.stdout + done.stderr

    def ask(self, path: str, **body: Any) -> Any:  # Any: JSON
        def answered() -> Any:  # asked again while a server on SQLite is busy writing
            answer = httpx.post(f"{self.record.api}{path}", json=body, timeout=30, trust_env=False)
            if answer.status_code == 503:
                return None
            answer.raise_for_status()
            return [answer.json()]

        return self.live.wait(answered, 60, f"an answer to {path}")[0]

    def deployment(self) -> dict[str, Any]:  # Any: JSON
        found = httpx.get(f"{self.record.api}/deployments/name/hello/demo", timeout=30, trust_env=False)
        found.raise_for_status()
        return dict(found.json())

    def service(self, name: str) -> Any:  # Any: one of the record
        (found,) = [one for one in self.record.services if one.name == name]
        return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Everything started in the background, where the port kept for MLflow is somebody else's by now."""
    folder = tmp_path_factory.mktemp("up")
    secrets = {
        "EVERGREEN_DEPLOYER_KEY": CANARY,
        "PREFECT_API_KEY": CANARY,
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    with live_place(folder, PYTHONPATH=str(folder), **secrets) as live, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        (folder / "hello.py").write_text(FLOW)
        models = (ROOT / "prefect.yaml").read_text().split("\ndeployments:")[0]
        (folder / "prefect.yaml").write_text(models + DEPLOYMENT)
        started = Up(live, other.getsockname()[1], "")
        started.place.logs.mkdir(parents=True)
        (started.place.own / "ports.json").write_text(json.dumps({"mlflow": started.taken}))
        try:
            _, started.said = started.command("--detach")
            yield started
        finally:
            started.command("down", check=False)


def test_every_service_stands_where_the_table_says_and_nowhere_else(up: Up) -> None:
    rows = [line.split() for line in up.said.splitlines() if re.match(r"(server|mlflow|worker|app) ", line)]
    assert [(row[0], row[1]) for row in rows] == [
        (name, "well") for name in ("server", "mlflow", "worker", "app")
    ]
    page, mlflow = rows[0][-1], rows[1][-1]
    assert "<html" in httpx.get(page, trust_env=False, follow_redirects=True).text.lower()
    assert httpx.get(f"{mlflow}/health", trust_env=False).text == "OK"
    assert f"export PREFECT_API_URL={page}/api" in up.said
    assert "deployments: 1 of demo (prefect.yaml)" in up.said
    ports = json.loads((up.place.own / "ports.json").read_text())
    assert set(ports) == {"server", "mlflow", "worker", "app"}
    app = rows[3][-1].removesuffix("/dashboard")
    asked = httpx.post(f"{app}/predict/demo", json={"rows": [{}]}, trust_env=False)
    assert (asked.status_code, "no champion yet" in asked.text) == (503, True)
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):  # from outside nothing answers
        for port in ports.values():
            with socket.socket() as asked:
                assert asked.connect_ex((own, port)) != 0


def test_a_taken_port_gave_way_to_another(up: Up) -> None:
    chosen = json.loads((up.place.own / "ports.json").read_text())["mlflow"]
    assert chosen != up.taken
    assert up.service("mlflow").page == f"http://127.0.0.1:{chosen}"
    assert f"mlflow: port {up.taken} is taken by another process" in (up.place.logs / "up.log").read_text()


def test_a_page_from_elsewhere_may_not_use_the_api(up: Up) -> None:
    asks = {"Access-Control-Request-Method": "POST"}
    url, own = f"{up.record.api}/flows/", up.service("server").page
    assert httpx.options(url, headers={**asks, "Origin": own}, trust_env=False).status_code == 200
    foreign = httpx.options(url, headers={**asks, "Origin": "http://evil.example"}, trust_env=False)
    assert foreign.status_code == 400


def test_a_run_of_the_worker_and_a_terminal_see_the_same_place(up: Up) -> None:
    prefect = Path(sys.executable).with_name("prefect")
    script = '. "$0" && "$1" deployment run hello/demo'
    up.live.run(
        "sh", "-c", script, str(up.place.env_file), str(prefect), PREFECT_API_URL="http://127.0.0.1:9/api"
    )
    written = up.live.folder / "seen.json"
    up.live.wait(lambda: written.exists() and written.read_text(), 120, "the run")
    seen = json.loads(written.read_text())
    state = up.live.state
    assert seen == {
        "store": f"sqlite:///{state}/store.db", "mlflow": f"sqlite:///{state}/mlflow.db",
        "artifacts": f"{state}/artifacts", "root": str(state), "launch": "event", "api": up.record.api,
    }  # fmt: skip
    terminal = '. "$0" && cd / && exec "$1" -c "import hello, json; print(json.dumps(hello.seen()))"'
    told = up.live.run("sh", "-c", terminal, str(up.place.env_file), sys.executable)
    assert json.loads(told.stdout) == seen


def test_what_a_run_registers_is_shown_by_mlflow(up: Up) -> None:
    script = (
        "from tasks.settings import Settings;"
        "from tasks.store.mlflow_client import experiment_id, open_client;"
        "print(experiment_id(open_client(), 'shown', Settings()))"
    )
    made = up.live.run(
        "sh", "-c", '. "$0" && exec "$1" -c "$2"', str(up.place.env_file), sys.executable, script
    )
    url = f"{up.service('mlflow').page}/api/2.0/mlflow/experiments/get-by-name"
    found = httpx.get(url, params={"experiment_name": "shown"}, trust_env=False).json()["experiment"]
    assert found["experiment_id"] == made.stdout.strip()
    assert found["artifact_location"] == f"{up.live.state}/artifacts/mlflow/shown"


def test_a_second_up_is_refused_and_harms_nothing(up: Up) -> None:
    before = up.record
    code, said = up.command(check=False)
    assert code == 2
    assert "up already" in said
    assert up.record == before
    code, said = up.command("status")
    assert code == 0
    assert len(re.findall(r"^(?:server|mlflow|worker|app) +well ", said, flags=re.M)) == 4


def test_no_secret_is_in_a_file_of_make_up(up: Up) -> None:
    files = [path for path in [up.place.env_file, *up.place.own.rglob("*")] if path.is_file()]
    assert len(files) > 5
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []
    assert "# EVERGREEN_DEPLOYER_KEY holds a password" in up.place.env_file.read_text()


def test_a_killed_worker_is_started_again_and_works(up: Up) -> None:
    before = up.service("worker")
    server = up.service("server").pid
    assert before.identity.is_alive()
    os.kill(before.pid, signal.SIGKILL)
    up.live.wait(
        lambda: up.service("worker").state == "well" and up.service("worker").restarts == 1, 120, "it"
    )
    assert up.service("worker").pid != before.pid
    assert up.service("server").pid == server
    (up.live.folder / "seen.json").unlink(missing_ok=True)
    up.ask(f"/deployments/{up.deployment()['id']}/create_flow_run", state={"type": "SCHEDULED"})
    up.live.wait((up.live.folder / "seen.json").exists, 120, "a run")


def test_down_leaves_nothing_even_with_a_run_in_the_middle_and_the_next_up_goes_on(up: Up) -> None:
    identity_of = up.deployment()["id"]
    body = {"state": {"type": "SCHEDULED"}, "parameters": {"asleep": True}}
    run = up.ask(f"/deployments/{identity_of}/create_flow_run", **body)["id"]
    asleep = up.live.folder / "asleep"
    up.live.wait(asleep.exists, 120, "the run")
    processes = [identity(int(pid)) for pid in asleep.read_text().split()]
    assert all(one.is_alive() for one in processes)
    record, ports = up.record, json.loads((up.place.own / "ports.json").read_text())
    assert {one.pid for one in processes} < {one.pid for one in marked(record.token)}

    assert up.command("down") == (0, "everything has ended\n")
    assert [one for one in processes if one.is_alive()] == []
    assert marked(record.token) == []
    assert not Identity(record.pid, record.started).is_alive()
    assert all(is_free(port) for port in ports.values())
    assert up.command("status", check=False)[0] == 3
    assert up.command("down") == (0, "nothing runs here\n")

    command = (sys.executable, str(ROOT / "deployments" / "up.py"), "--no-deploy")
    again = up.live.start("again", *command)
    up.live.wait(lambda: (found := read_record(up.place)) and found.ready, 300, "the second up")
    assert json.loads((up.place.own / "ports.json").read_text()) == ports
    assert up.deployment()["id"] == identity_of
    found = httpx.get(f"{up.record.api}/flow_runs/{run}", trust_env=False).json()
    assert found["state_type"] == "CRASHED"  # said by its worker, which ended after it
    token = up.record.token
    again.send_signal(signal.SIGINT)
    assert again.wait(90) == 0
    assert marked(token) == []
    assert read_record(up.place) is None
