"""Every command of the README is run, and every file and setting it names exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from prefect.settings import PREFECT_API_URL

from tasks.core.replay.simulate import demo_year
from tasks.core.spec import parse_spec
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINES = [
    line.split("   #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
]
COMMANDS = [shlex.split(line) for line in LINES if line]
FLOWS = [command for command in COMMANDS if len(command) > 1 and command[1].startswith("flows/")]
SCRIPTS = sorted(set(re.findall(r"deployments/\w+\.py", README)))
SERVING = [command for command in COMMANDS if command[1:2] == ["-m"]]


# Runs commands one after the other as `python` does, in one process, whose imports cost as much as the work.
ONE_BY_ONE = """
import contextlib, io, json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv, printed, code = command, io.StringIO(), 0
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
    print(json.dumps([code, printed.getvalue()]), flush=True)
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder like a clone in which the demo has run: prefect.yaml and the files of a third of the year."""
    folder = tmp_path / "desk"
    folder.mkdir()
    for name in ("prefect.yaml", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    (folder / "home").mkdir()
    inbox = folder / ".evergreen" / "demo" / "inbox"
    inbox.mkdir(parents=True)
    for arrival in demo_year(windows=10).arrivals:
        arrival.frame.to_parquet(inbox / arrival.name, index=False)
    return folder


def test_the_readme_has_the_commands_it_promises() -> None:
    assert ["make", "demo"] in COMMANDS
    assert ["make", "test"] in COMMANDS
    assert {Path(command[1]).stem for command in FLOWS} == {
        path.stem for path in (ROOT / "flows").glob("[a-z]*.py")
    }


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c[0] == "make"] + [["make", "check"]], ids=" ".join
)
def test_make_knows_the_target(command: list[str]) -> None:
    done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_of_the_readme_explains_itself(script: str) -> None:
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    options = {part for command in COMMANDS if script in command for part in command if part[:2] == "--"}
    assert all(option in done.stdout for option in options)


@pytest.mark.engine
@pytest.mark.timeout(1200)  # fifteen commands and an app
def test_the_flows_run_one_after_the_other_as_the_readme_says(desk: Path, prefect_api: None) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}
    env |= {"PREFECT_API_URL": PREFECT_API_URL.value(), "EVERGREEN_THREADS": "1", "HOME": str(desk / "home")}
    said = {}
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, json.dumps([[str(ROOT / c[1]), *c[2:]] for c in FLOWS])],
        cwd=desk, env=env, capture_output=True, text=True, check=False, timeout=1000,
    )  # fmt: skip
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    for command, (code, text) in zip(FLOWS, printed, strict=True):
        assert code == 0, f"{command}: {text[-500:]} {done.stderr[-3000:]}"
        aside = bool({"--infer-contract", "--gate-self-test"} & set(command))
        said.setdefault((Path(command[1]).stem, aside), text)
    assert "customer_age" in str(yaml.safe_load(said["retrain", True]))
    assert said["retrain", False].startswith("Promoted: promoted version 1")
    assert "served at 2025-05-20" in said["history", False] or "version 1" in said["history", False]
    assert said["promote", False].startswith("Nothing waits")
    assert said["rollback", False].startswith("Dry run: dry run, nothing was changed")
    assert said["scorecard", False].startswith("Scorecard")
    assert said["score", False].startswith("Scored: 2000 rows")
    assert said["detect_drift", False].startswith(("Ok: SKIP", "Warn: SKIP", "Drift: SKIP"))
    assert said["monitor", False].startswith("Ok: SKIP")
    assert "every 4 windows" in said["backtest", False]
    assert "never retrained, would have held" in said["replay", False]
    the_app_answers_as_the_readme_says(desk, env)
    # Nothing was written outside the state folder.
    assert {path.name for path in desk.iterdir()} == {"prefect.yaml", "pyproject.toml", "home", ".evergreen"}
    assert list((desk / "home").iterdir()) == []


def the_app_answers_as_the_readme_says(desk: Path, env: dict[str, str]) -> None:
    """Run the commands of "Serve and watch" on what the flows left."""
    modules = {command[2]: command[3:] for command in SERVING}
    assert set(modules) == {"serving.keys", "serving", "serving.explain", "tasks.heartbeat"}
    env = env | {"PYTHONPATH": str(ROOT)}

    def run(module: str, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=desk, env=env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, f"{module}: {done.stdout[-500:]} {done.stderr[-3000:]}"
        return done.stdout.strip()

    key = {"X-API-Key": run("serving.keys", *modules["serving.keys"])}
    admin = run("serving.keys", "add", "ann", "--role", "admin")
    port = str(free_port())
    arguments = [port if one == "8000" else one for one in modules["serving"]]
    app = subprocess.Popen([sys.executable, "-m", "serving", *arguments], cwd=desk, env=env)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            until = time.monotonic() + 120
            while not ready(client, key):
                assert app.poll() is None, "the app ended"
                assert time.monotonic() < until, "the app is not ready"
                time.sleep(0.1)
            shown = client.get("/openapi.json", headers=key).json()["paths"]["/predict/demo"]["post"]
            examples = shown["requestBody"]["content"]["application/json"]["examples"]
            asked = next(iter(examples.values()))["value"]
            given = client.post("/predict/demo", json=asked, headers=key)
            assert (given.status_code, given.json()["version"]) == (200, 1), given.text
            renamed = {
                ("plans" if name == "plan" else name): value for name, value in asked["rows"][0].items()
            }
            refused = client.post("/predict/demo", json={"rows": [renamed]}, headers=key)
            assert (refused.status_code, "plans" in refused.text) == (422, True)
            labels = {"labels": [{"request_id": given.json()["request_id"], "index": 0, "label": 1}]}
            assert client.post("/labels/demo", json=labels, headers=key).status_code == 403
            told = client.post("/labels/demo", json=labels, headers={"X-API-Key": admin})
            assert told.status_code == 200, told.text
            board = client.get("/dashboard/demo", auth=("ann", admin), follow_redirects=True)
            assert (board.status_code, "<html" in board.text.lower()) == (200, True)
    finally:
        app.terminate()
        app.wait(60)
    explained = [
        given.json()["request_id"] if one == "REQUEST_ID" else one for one in modules["serving.explain"]
    ]
    assert "plan" in run("serving.explain", *explained)
    # Its runs acted in the past, which is no sign of life.
    assert "demo: monitor has been silent" in run("tasks.heartbeat", *modules["tasks.heartbeat"], code=1)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ready(client: httpx.Client, key: dict[str, str]) -> bool:
    try:
        return client.get("/ready", headers=key).status_code == 200
    except httpx.TransportError:
        return False


def test_every_setting_the_readme_names_exists() -> None:
    named = set(re.findall(r"EVERGREEN_(?!BLOCK_)([A-Z_]+)", README))
    assert named == {name.upper() for name in Settings.model_fields}


def test_the_model_block_of_the_readme_is_valid() -> None:
    (block,) = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", README, re.S)]
    assert parse_spec(block["definitions"]["models"]["churn"]).source.updated == "updated_at"


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) < 200
