"""Prefect, started in this folder, keeps its state here, starts on a slow machine and does not phone home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASK = """
import json
from prefect.settings import get_current_settings
now = get_current_settings()
print(json.dumps([str(now.home), now.server.analytics_enabled, now.server.ephemeral.startup_timeout_seconds]))
"""


def test_prefects_settings_here_are_the_projects_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    home, analytics, patience = json.loads(done.stdout)
    assert home == ".evergreen"
    assert analytics is False
    assert patience >= 120  # the first start was measured at up to 83 s
    assert {path.name for path in tmp_path.iterdir()} <= {"pyproject.toml", ".evergreen"}
