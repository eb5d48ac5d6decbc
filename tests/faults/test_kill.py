"""Kill -9 between any two steps of a retraining and run it again: the end is the same as without the kill."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import Task

import flows.retrain
from tasks.core.spec import ModelSpec
from tasks.store import catalog, runs
from tests.faults.retraining import in_child, retrain_in

STEPS = (
    "begin_attempt",
    "champion",
    "find_registered",
    "fetch_training",
    "validate",
    "set_suspects_aside",
    "save_snapshot",
    "current_anchor",
    "train_challenger",
    "evaluate_pair",
    "signal",
    "profile_reference",
    "refit_challenger",
    "register_version",
    "fix_anchor",
    "settle",
    "move_champion",
    "conclude",
    "file_version",
    "announce_promotion",
    "commit_watermark",
)
# Steps that only read, or write into the run's own scratch folder; killed after in `make bench`.
READING = frozenset(
    {"champion", "find_registered", "fetch_training", "validate", "set_suspects_aside", "current_anchor"}
    | {"train_challenger", "evaluate_pair", "profile_reference", "refit_challenger"}
)
# Steps of a run that ends what another left behind.
RESUMED = ("note_registered", "unseen_rows")
# Inside `register_version`, by the module and function it dies after: bundle held but no version of it yet;
# version there but nothing noted of it; noted but without a stage.
INSIDE: dict[str, tuple[Any, str]] = {
    "held": (catalog, "note_bundle"),
    "uploaded": (runs, "upload_version"),
    "noted": (catalog, "note_version"),
}

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def killed_after(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return the step, after which the process dies."""

    def dying(*args: Any, **kwargs: Any) -> Any:
        step(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return dying


def retrain_dying_inside(folder: Path, spec: ModelSpec, point: str) -> None:
    """Retrain with all state in `folder`; die by SIGKILL at this point inside the registration."""
    module, name = INSIDE[point]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, killed_after(getattr(module, name)))
        retrain_in(folder, spec, None)


def check_one_of_everything(folder: Path) -> None:
    with sqlite3.connect(folder / "state" / "store.db") as store:
        assert store.execute("select action, to_version from promotions").fetchall() == [("promoted", 1)]
        assert store.execute("select attempt from watermarks").fetchall() == [("train-decay-0001",)]
        assert store.execute("select state, outcome from claims").fetchall() == [("done", "promoted")]
        noted = store.execute("select number, attempt, digest, anchor_sha256 from versions").fetchall()
        anchors = store.execute("select revision, version, sha256, rows from anchors").fetchall()
        assert [row[:2] for row in noted] == [(1, "train-decay-0001")]
        assert [row[:2] for row in anchors] == [(1, 1)]
        assert noted[0][3] == anchors[0][2], "what the version scores on the anchor is noted with it"
        assert (noted[0][2],) in store.execute("select digest from bundles").fetchall()
        stages = store.execute("select to_stage from lifecycle where version = 1 order by seq").fetchall()
        assert stages == [("CANDIDATE",), ("STAGING",), ("PRODUCTION",)]
    with sqlite3.connect(folder / "state" / "mlflow.db") as registry:
        assert registry.execute("select version from model_versions").fetchall() == [(1,)]
        aliases = registry.execute("select alias, version from registered_model_aliases").fetchall()
        assert ("champion", 1) in aliases


def test_every_step_of_the_flow_that_leaves_something_behind_is_killed_after() -> None:
    called = {name for name, value in vars(flows.retrain).items() if isinstance(value, Task)}
    known = {*STEPS, *RESUMED}
    assert {name for name in called if not name.startswith("publish_")} - {
        "tell",
        "tell_decided",
        "check_declared",
    } == known


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[pytest.mark.slow] if step in READING else []) for step in STEPS]
)
def test_killed_after_a_step_and_run_again_leaves_one_of_everything(
    tmp_path: Path, rows_spec: ModelSpec, step: str
) -> None:
    assert in_child(retrain_in, tmp_path, rows_spec, step) == -signal.SIGKILL
    assert in_child(retrain_in, tmp_path, rows_spec, None) == 0
    check_one_of_everything(tmp_path)


@pytest.mark.parametrize("point", INSIDE)
def test_killed_inside_the_registration_and_run_again_leaves_one_of_everything(
    tmp_path: Path, rows_spec: ModelSpec, point: str
) -> None:
    assert in_child(retrain_dying_inside, tmp_path, rows_spec, point) == -signal.SIGKILL
    assert in_child(retrain_in, tmp_path, rows_spec, None) == 0
    check_one_of_everything(tmp_path)


def test_killed_again_at_every_step_of_ending_what_was_left_behind(
    tmp_path: Path, rows_spec: ModelSpec
) -> None:
    assert in_child(retrain_dying_inside, tmp_path, rows_spec, "uploaded") == -signal.SIGKILL
    for step in (*RESUMED, "fix_anchor"):
        assert in_child(retrain_in, tmp_path, rows_spec, step) == -signal.SIGKILL
    assert in_child(retrain_in, tmp_path, rows_spec, None) == 0
    check_one_of_everything(tmp_path)
