"""Kill -9 between any two steps of a retraining and run it again: the end is the same as without the kill."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest
from prefect import Task

import flows.retrain
from tasks.core.spec import ModelSpec
from tests.faults.retraining import in_child, retrain_in

STEPS = (
    "begin_attempt",
    "champion",
    "find_registered",
    "fetch_training",
    "validate",
    "save_snapshot",
    "current_anchor",
    "train_challenger",
    "evaluate_pair",
    "profile_reference",
    "register_version",
    "fix_anchor",
    "settle",
    "move_champion",
    "conclude",
    "file_version",
    "announce_promotion",
    "commit_watermark",
)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_every_step_of_the_flow_that_leaves_something_behind_is_killed_after() -> None:
    called = {name for name, value in vars(flows.retrain).items() if isinstance(value, Task)}
    assert {name for name in called if not name.startswith("publish_")} - {"tell"} == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_and_run_again_leaves_one_of_everything(
    tmp_path: Path, rows_spec: ModelSpec, step: str
) -> None:
    assert in_child(retrain_in, tmp_path, rows_spec, step) == -signal.SIGKILL
    assert in_child(retrain_in, tmp_path, rows_spec, None) == 0

    with sqlite3.connect(tmp_path / "state" / "store.db") as store:
        assert store.execute("select action, to_version from promotions").fetchall() == [("promoted", 1)]
        assert store.execute("select attempt from watermarks").fetchall() == [("train-decay-0001",)]
        assert store.execute("select state, outcome from claims").fetchall() == [("done", "promoted")]
    with sqlite3.connect(tmp_path / "state" / "mlflow.db") as registry:
        assert registry.execute("select version from model_versions").fetchall() == [(1,)]
        aliases = registry.execute("select alias, version from registered_model_aliases").fetchall()
        assert ("champion", 1) in aliases
