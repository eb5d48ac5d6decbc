"""How soon a drift check is at work in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.drift.profile import build_reference
from tests.make import make_frame, make_spec
from tests.steps.test_drift import WINDOW

ROOT = Path(__file__).parents[2]
HEAVY = ("mlflow", "alibi_detect", "sklearn", "scipy.stats", "numba", "torch", "skops", "sqlalchemy")

# Says which packages are loaded once the check reads its first rows, and the processor time until then.
PROBE = """
import json, sys, time
began = time.process_time()
import prefect
there = time.process_time()
from tasks import drift
from tasks.core.dataset import Dataset
from tasks.core.spec import parse_spec
from tasks.core.window import Window
from datetime import datetime
block, path, rows, start, end = json.loads(sys.argv[1])
def reached(*_args, **_more):
    spent = time.process_time()
    heavy = [name for name in {heavy!r} if name in sys.modules]
    print(json.dumps([there - began, spent - there, heavy]))
    sys.exit(0)
drift._profile = reached
imported = time.process_time()
window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
drift.check_drift.fn(parse_spec(block), Dataset(rows, 500, "", window), path)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[float, float, list[str]]:
    """Return what the probe says: seconds of prefect's import, seconds after it, heavy packages loaded."""
    folder, spec = tmp_path_factory.mktemp("start"), make_spec()
    reference = build_reference(make_frame(2000), spec, deep=False)
    (folder / "reference.json").write_text(reference.to_json())
    make_frame(500).to_parquet(folder / "rows.parquet")
    given = [
        spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        str(folder / "reference.json"),
        str(folder / "rows.parquet"),
        WINDOW.start.isoformat(),
        WINDOW.end.isoformat(),
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROBE.replace("{heavy!r}", repr(HEAVY)), json.dumps(given)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    before, after, heavy = json.loads(done.stdout.strip().splitlines()[-1])
    return before, after, heavy


def test_a_check_reads_its_first_rows_before_any_heavy_package_is_loaded(started):
    assert started[2] == []


def test_a_check_needs_little_more_than_prefect_itself_to_start(started):
    before, after, _ = started
    assert after < max(
        1.0, before
    )  # measured: 0.5 s beside prefect's 1.4 s; of a busy machine no more than twice
