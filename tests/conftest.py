"""Fixtures every room shares."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tests.faults.retraining import in_child, registered
from tests.make import make_frame, make_spec

# Modules that tests write and name in a model block; processes that tests start get it too.
os.environ["EVERGREEN_CODE"] = (
    "models,tests,tasks,my_rules,no_such_module,own_features,near_features,slow_features,features_of_a_user"
)

pytest_plugins = ["tests.services", "tests.versions"]

# Files that take over a minute, longest first: begun last, one would run on beside an idle worker.
LONGEST = (
    *("live/test_deploy.py", "repo/test_readme.py", "live/test_events.py", "live/test_crash.py"),
    *("loop/test_year.py", "live/test_night.py", "live/test_up.py", "live/test_sync.py"),
    *("faults/test_kill.py",),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; the order within a file stays."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get("/".join(item.path.parts[-2:]), len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Let no fit use more than one thread, in fixtures of a module too: the workers share two cores."""
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def _probed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load versions in the test's own process, where a clean one costs seconds each time; on one thread."""
    monkeypatch.setenv("EVERGREEN_PROBE", "here")
    monkeypatch.setenv("EVERGREEN_THREADS", "1")


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect API for this session, started once; engine tests ask for it."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose whole state lives in this test's folder."""
    return Settings(state_dir=tmp_path / "state", threads=1)


@pytest.fixture(scope="session")
def registry_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose tables stand, made once: that takes longer than a retraining."""
    import mlflow.sklearn  # noqa: F401 -- once, here, instead of in every child

    folder = tmp_path_factory.mktemp("registry")
    make_frame(1500).to_parquet(folder / "rows.parquet")
    assert in_child(registered, folder) == 0
    return folder / "state" / "mlflow.db"


@pytest.fixture
def rows_spec(tmp_path: Path, registry_file: Path) -> ModelSpec:
    """A model whose rows lie in a file of this test's folder, with a registry that stands."""
    (tmp_path / "state").mkdir()
    shutil.copy(registry_file, tmp_path / "state" / "mlflow.db")
    make_frame(1500).to_parquet(tmp_path / "rows.parquet")
    source = {"url": str(tmp_path / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
    return make_spec(source=source, gate={"anchor": {"rows": 1000}})
