"""A lock between processes of one machine, as a file."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import WorkflowError


@contextmanager
def file_lock(path: Path, *, timeout_seconds: float = 300.0) -> Iterator[None]:
    """Hold the lock named by `path` for the block; it is freed by the system if the process dies.

    Raises:
        WorkflowError: when another process holds it for longer than `timeout_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with path.open("a") as handle:
        while not _taken(handle.fileno()):
            if time.monotonic() > deadline:
                raise WorkflowError(
                    f"{path.name} held by another process for {timeout_seconds:.0f} s",
                    "a free lock",
                    "end the process that hangs, then run again",
                )
            time.sleep(0.02)
        yield  # closing the file frees the lock


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
