"""Log files of the services: kept small while their writers go on."""

from __future__ import annotations

import shutil
from pathlib import Path

LIMIT = 5_000_000  # bytes; with one older file per service, ten megabytes each at most


def cap(log: Path, limit: int = LIMIT) -> bool:
    """Move a log that has grown beyond the limit to `<name>.1` and begin it anew; return whether it had.

    The file itself stays, because its writer holds it open for appending and would go on in a renamed one.
    """
    if not log.exists() or log.stat().st_size <= limit:
        return False
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    with log.open("r+b") as writer:
        writer.truncate(0)
    return True


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, indented; what is not text is replaced."""
    if not log.exists():
        return ""
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - 8_000))
        text = said.read().decode(errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
