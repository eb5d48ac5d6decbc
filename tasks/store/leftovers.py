"""Copies that a process which died never finished: swept by the next one that writes beside them."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

AGE = 24 * 3600.0  # our choice, in seconds: no copy takes that long


def sweep(folder: Path) -> int:
    """Return how many unfinished copies in the folder were older than a day and are gone."""
    swept = 0
    with suppress(OSError):  # somebody else sweeps too, or the folder is not there yet
        for path in folder.iterdir():
            is_draft = path.name.startswith(".part-") or (path.name[0] == "." and path.name.endswith(".part"))
            if is_draft and time.time() - path.stat().st_mtime > AGE:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
                swept += 1
    return swept
