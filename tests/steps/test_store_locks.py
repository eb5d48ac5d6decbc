"""A file lock admits one process, and death frees it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import WorkflowError
from tasks.store.locks import file_lock

ROOT = Path(__file__).parents[2]
HOLDER = (
    "import sys; from pathlib import Path; from tasks.store.locks import file_lock\n"
    "with file_lock(Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.readline()\n"
)


def test_a_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "x.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout and holder.stdin
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(WorkflowError, match=r"x\.lock held by another process"),
        file_lock(path, timeout_seconds=0),
    ):
        pytest.fail("two hold the lock")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with file_lock(path, timeout_seconds=5):
        pass
    holder.stdin.close()
    holder.stdout.close()


def test_a_lock_is_free_again_after_a_failure_inside_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), file_lock(tmp_path / "x.lock"):
        _ = 1 / 0
    with file_lock(tmp_path / "x.lock", timeout_seconds=0):
        pass
