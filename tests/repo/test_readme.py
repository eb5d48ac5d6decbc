"""Every command of the README is run, and every file and setting it names exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

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
SCRIPTS = sorted({part for command in COMMANDS for part in command if part.startswith("deployments/")})


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
def test_the_flows_run_one_after_the_other_as_the_readme_says(desk: Path, prefect_api: None) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}
    env |= {"PREFECT_API_URL": PREFECT_API_URL.value(), "EVERGREEN_THREADS": "1", "HOME": str(desk / "home")}
    said = {}
    for command in FLOWS:
        done = subprocess.run(
            [sys.executable, str(ROOT / command[1]), *command[2:]],
            cwd=desk, env=env, capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout[-500:]} {done.stderr[-3000:]}"
        aside = bool({"--infer-contract", "--gate-self-test"} & set(command))
        said.setdefault((Path(command[1]).stem, aside), done.stdout)
    assert "customer_age" in str(yaml.safe_load(said["retrain", True]))
    assert said["retrain", False].startswith("Promoted: promoted version 1")
    assert "served at 2025-05-20" in said["history", False] or "version 1" in said["history", False]
    assert said["promote", False].startswith("Nothing waits")
    assert said["rollback", False].startswith("Dry run: dry run, nothing was changed")
    assert said["scorecard", False].startswith("Scorecard")
    assert said["score", False].startswith("Scored: 2000 rows")
    assert said["detect_drift", False].startswith(("Ok: SKIP", "Drift: SKIP"))
    assert said["monitor", False].startswith("Ok: SKIP")
    assert "every 4 windows" in said["backtest", False]
    assert "never retrained, would have held" in said["replay", False]
    # Nothing was written outside the state folder.
    assert {path.name for path in desk.iterdir()} == {"prefect.yaml", "pyproject.toml", "home", ".evergreen"}
    assert list((desk / "home").iterdir()) == []


def test_every_setting_the_readme_names_exists() -> None:
    named = set(re.findall(r"EVERGREEN_(?!BLOCK_)([A-Z_]+)", README))
    assert named == {name.upper() for name in Settings.model_fields}


def test_the_model_block_of_the_readme_is_valid() -> None:
    (block,) = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", README, re.S)]
    assert parse_spec(block["definitions"]["models"]["churn"]).source.updated == "updated_at"


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) < 200
