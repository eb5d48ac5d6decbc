"""What runs here, on disk: written by the one `make up` of a place, read by `make status` and `make down`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deployments.local.place import Place
from deployments.local.processes import Identity


@dataclass
class Running:
    """One service as it was last seen.

    Attributes:
        name: which one.
        pid: its process.
        started: when that started, in the system's words.
        health: address that answers 200 while it is well.
        page: what a person opens.
        log: file of what it says.
        state: `starting`, `well`, `silent` or `died`.
        since: when it was last started, as Unix seconds.
        restarts: how often it had to be started again.
    """

    name: str
    pid: int
    started: str
    health: str
    page: str
    log: str
    state: str
    since: float
    restarts: int = 0

    @property
    def identity(self) -> Identity:
        """The process itself."""
        return Identity(self.pid, self.started)


@dataclass
class Record:
    """One `make up`: who keeps it running, what it started, and whether it is complete.

    Attributes:
        token: the mark of its processes.
        pid: the process that keeps the others running.
        started: when that started, in the system's words.
        api: address of the Prefect API.
        ready: whether everything stands and is deployed.
        deployed: what became of the deployments, as a sentence.
        failed: whether deploying failed.
        files: the files whose deployments were asked for.
        services: what it started.
    """

    token: str
    pid: int
    started: str
    api: str
    ready: bool = False
    deployed: str = ""
    failed: bool = False
    files: list[str] = field(default_factory=list)
    services: list[Running] = field(default_factory=list)

    @property
    def keeper(self) -> Identity:
        """The process that keeps the others running."""
        return Identity(self.pid, self.started)


def read_record(place: Place) -> Record | None:
    """Return what was last written, or None where nothing was or it cannot be read."""
    try:
        found = json.loads(_path(place).read_text())
        found["services"] = [Running(**one) for one in found["services"]]
        return Record(**found)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def write_record(place: Place, record: Record) -> None:
    """Write what runs now; a reader sees the old or the new, whole."""
    path = _path(place)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    made.touch(mode=0o600)
    made.write_text(json.dumps(asdict(record), indent=1) + "\n")
    made.replace(path)


def forget_record(place: Place) -> None:
    """Remove the record, when nothing of it runs any more."""
    _path(place).unlink(missing_ok=True)


@contextmanager
def only_one(place: Place) -> Iterator[bool]:
    """Give whether this process may keep the place running; the system takes it back however it ends."""
    with (place.own / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _path(place: Place) -> Path:
    return place.own / "processes.json"
