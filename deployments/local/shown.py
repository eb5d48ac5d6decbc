"""What runs, as a person sees it: a table with addresses, and what to do next."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from deployments.local.place import Place
from deployments.local.record import Record


def table(record: Record) -> str:
    """Return what runs as a table with addresses."""
    now = datetime.now(UTC).timestamp()
    rows: list[tuple[str, ...]] = [("service", "state", "pid", "up for", "restarts", "address")]
    for one in record.services:
        minutes = f"{(now - one.since) / 60:.0f} min"
        where = one.page or "-"
        rows.append((one.name, one.state, str(one.pid), minutes, str(one.restarts), where))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in [*lines, "", f"deployments: {record.deployed or 'not yet'}"])


def hint(place: Place, record: Record) -> str:
    """Return how another terminal gets to these services, and where their logs are."""
    return (
        f"\nin another terminal: . {_short(place.env_file)}      "
        f"(or: export PREFECT_API_URL={record.api})\nlogs: {_short(place.logs)}"
    )


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
