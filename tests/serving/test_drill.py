"""The rollback drill: from a person's command to the app answering with the version before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL

from serving.app import create_app
from tasks.settings import Settings
from tasks.versions.move import move
from tests.make import spec_block
from tests.serving.running import running
from tests.serving.test_app import ROW, asked
from tests.versions import LATER, SMALL, SPEC_, Made, a_version

ROOT = Path(__file__).parents[2]


@pytest.mark.engine
def test_from_the_command_to_the_old_version_answering_is_under_a_minute(
    made: Made, place: Settings, tmp_path: Path, prefect_api: None
) -> None:
    for attempt in ("a1", "a2"):
        version = a_version(made, place, attempt)
        move(SPEC_, version, actor="ann", reason="good", decision_id=attempt, as_of=LATER, settings=place)
    block = {"definitions": {"models": {"churn": spec_block(estimator=SMALL)}}}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(block))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}
    env = kept | {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()), "EVERGREEN_STATE_DIR": str(place.root),
        "EVERGREEN_THREADS": "1",
    }  # fmt: skip
    command = [
        sys.executable, str(ROOT / "flows" / "rollback.py"), "--model", "churn", "--config", "models.yaml",
        "--no-dry-run", "--actor", "ann", "--reason", "complaints",
    ]  # fmt: skip
    with running(create_app(["churn"], place)) as client:
        assert asked(client, ROW)["version"] == 2
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        while asked(client, ROW)["version"] != 1:
            assert time.monotonic() - began < 60, "the version before does not answer after a minute"
            time.sleep(0.05)
        print(f"rollback drill: {time.monotonic() - began:.1f} s from the command to the answer")  # noqa: T201
