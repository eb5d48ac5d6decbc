"""When the code was written that a version was made by."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from functools import lru_cache

from tasks.store.provenance import PROJECT

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@lru_cache(maxsize=512)
def commit_time(commit: str) -> datetime | None:
    """Return when this commit was made; None where the project's history is not here or does not know it."""
    if not _COMMIT.fullmatch(commit):
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed words and a checked hash, no shell
            ["git", "-C", str(PROJECT), "show", "-s", "--format=%ct", f"{commit}^{{commit}}"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    told = done.stdout.strip()
    return datetime.fromtimestamp(int(told), UTC) if done.returncode == 0 and told.isdigit() else None
