"""A lock admits one process, of one machine or of several with one Postgres, and death frees it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import WorkflowError
from tasks.store.locks import file_lock, model_lock
from tests.stores import BOTH, fresh_url, place

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


MODEL_HOLDER = (
    "import sys; from pathlib import Path; from pydantic import SecretStr\n"
    "from tasks.settings import Settings; from tasks.store.locks import model_lock\n"
    "there = Settings(state_dir=Path(sys.argv[1]), store=SecretStr(sys.stdin.readline().strip()))\n"
    "with model_lock('churn.move', there):\n"
    "    print('held', flush=True); sys.stdin.readline()\n"
)


def test_machines_that_share_a_postgres_share_its_locks(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with fresh_url("postgres", request, tmp_path) as url:
        here = place(url, tmp_path)
        holder = subprocess.Popen(
            [sys.executable, "-c", MODEL_HOLDER, str(tmp_path / "another machine")],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdin and holder.stdout
        holder.stdin.write(f"{url}\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(WorkflowError, match=r"churn\.move held by another process"),
            model_lock("churn.move", here, timeout_seconds=0),
        ):
            pytest.fail("two machines hold the lock")
        with model_lock("other.move", here, timeout_seconds=0):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with model_lock("churn.move", here, timeout_seconds=20):
            pass
        with model_lock("churn.move", here, timeout_seconds=0):  # and it was given back
            pass
        holder.stdin.close()
        holder.stdout.close()


@pytest.mark.parametrize("kind", BOTH)
def test_a_models_lock_is_free_again_after_a_failure_inside_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with fresh_url(kind, request, tmp_path) as url:
        here = place(url, tmp_path)
        with pytest.raises(ZeroDivisionError), model_lock("x", here):
            _ = 1 / 0
        with model_lock("x", here, timeout_seconds=0):
            pass
