"""Kill -9 between any two steps of a retraining and run it again: the end is the same as without the kill."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import Task

import flows.retrain
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store.registry import find_champion
from tests.loop.plainly import plainly
from tests.make import START, make_frame, make_spec

STEPS = (
    "begin_attempt",
    "champion",
    "fetch_training",
    "validate",
    "save_snapshot",
    "train_challenger",
    "evaluate_pair",
    "profile_reference",
    "register_version",
    "move_champion",
    "conclude",
    "commit_watermark",
)
AS_OF = START + timedelta(days=30)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_every_step_of_the_flow_that_leaves_something_behind_is_killed_after() -> None:
    called = {name for name, value in vars(flows.retrain).items() if isinstance(value, Task)}
    assert {name for name in called if not name.startswith("publish_")} == set(STEPS)


def in_child(work: Any, *args: Any) -> int:
    """Run in a forked process, so that a kill is a real one; return its exit code (negative: the signal)."""
    child = multiprocessing.get_context("fork").Process(target=work, args=args)
    child.start()
    child.join(300)
    assert child.exitcode is not None
    return child.exitcode


def retrain_in(folder: Path, spec: ModelSpec, die_after: str | None) -> None:
    """Retrain with all state in `folder`; die by SIGKILL right after the named step."""
    with pytest.MonkeyPatch.context() as patch:
        plainly(patch)
        patch.setenv("EVERGREEN_STATE_DIR", str(folder / "state"))
        patch.setenv("EVERGREEN_THREADS", "1")
        if die_after:
            step = getattr(flows.retrain, die_after)

            def dying(*args: Any, **kwargs: Any) -> Any:
                step(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)

            patch.setattr(flows.retrain, die_after, dying)
        flows.retrain.retrain(spec, as_of=AS_OF, reason="test", decision_id="train-decay-0001")


@pytest.fixture(scope="module")
def registry_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose tables stand, made once: that takes longer than a retraining."""
    import mlflow.sklearn  # noqa: F401 -- once, here, instead of in every child
    import skops.io  # noqa: F401

    folder = tmp_path_factory.mktemp("registry")
    make_frame(1500).to_parquet(folder / "rows.parquet")
    assert in_child(registered, folder) == 0
    return folder / "state" / "mlflow.db"


def registered(folder: Path) -> None:
    """Let the registry be made by its first look-up."""
    assert find_champion("churn", settings=Settings(state_dir=folder / "state")) is None


@pytest.fixture
def spec(tmp_path: Path, registry_file: Path) -> ModelSpec:
    (tmp_path / "state").mkdir()
    shutil.copy(registry_file, tmp_path / "state" / "mlflow.db")
    make_frame(1500).to_parquet(tmp_path / "rows.parquet")
    source = {"url": str(tmp_path / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
    return make_spec(source=source)


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_and_run_again_leaves_one_of_everything(
    tmp_path: Path, spec: ModelSpec, step: str
) -> None:
    assert in_child(retrain_in, tmp_path, spec, step) == -signal.SIGKILL
    assert in_child(retrain_in, tmp_path, spec, None) == 0

    with sqlite3.connect(tmp_path / "state" / "store.db") as store:
        assert store.execute("select action, to_version from promotions").fetchall() == [("promoted", 1)]
        assert store.execute("select attempt from watermarks").fetchall() == [("train-decay-0001",)]
        assert store.execute("select state, outcome from claims").fetchall() == [("done", "promoted")]
    with sqlite3.connect(tmp_path / "state" / "mlflow.db") as registry:
        assert registry.execute("select version from model_versions").fetchall() == [(1,)]
        aliases = registry.execute("select alias, version from registered_model_aliases").fetchall()
        assert ("champion", 1) in aliases
