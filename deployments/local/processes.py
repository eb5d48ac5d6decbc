"""Processes of one `make up`: recognised, listed and ended by id together with start time, never by name.

Every process that a `make up` starts carries that up's token in its environment and hands it on to what it
starts in turn. So a flow run that outlived its worker is still found, and nobody else's process ever is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TOKEN = "_EVERGREEN_UP"  # noqa: S105 -- name of the variable that marks a process, no secret
PROC = Path("/proc")


@dataclass(frozen=True)
class Identity:
    """One process: its id, and when it started, since ids are used again."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Return whether this very process still runs."""
        return started_at(self.pid) == self.started != ""

    def send(self, sent: signal.Signals) -> None:
        """Send a signal to this very process; one that has ended gets none."""
        if self.is_alive():
            try:
                os.kill(self.pid, sent)
            except ProcessLookupError:
                return


@dataclass(frozen=True)
class Row:
    """One line of the process table; the session is known on Linux only."""

    pid: int
    parent: int
    group: int
    session: int = 0


def identity(pid: int) -> Identity:
    """Return the identity of a process that runs now."""
    return Identity(pid, started_at(pid))


def started_at(pid: int) -> str:
    """Return when a process started, in the system's own words; empty when it has ended.

    Linux tells it in clock ticks since boot, exactly; elsewhere `ps` does, to the second.
    """
    if PROC.joinpath("self", "stat").exists():
        fields = _stat(pid)
        return "" if not fields or fields[0] in "ZX" else fields[19]
    asked = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    state, _, when = _output(asked).strip().partition(" ")
    return "" if state.startswith("Z") else when.strip()


def marked(token: str) -> list[Identity]:
    """Return the living processes that carry a token, except this one, newest first."""
    if PROC.joinpath("self", "environ").exists():
        mark = f"{TOKEN}={token}".encode()
        found = [row.pid for row in table() if mark in _environment(row.pid)]
    else:  # elsewhere another's environment may be closed to us: follow the parents down
        found = sorted(_below(os.getpid()))
    living = [identity(pid) for pid in found if pid != os.getpid()]
    return sorted((one for one in living if one.started), key=lambda one: one.pid, reverse=True)


def group_of(pid: int, token: str) -> list[Identity]:
    """Return the living members of the process group that `pid` leads or led, if they carry the token."""
    members = {row.pid for row in table() if row.group == pid}
    return [one for one in marked(token) if one.pid in members]


def in_session(leader: int) -> list[int]:
    """Return the ids of the processes in the session or the group that `leader` leads or led."""
    return [row.pid for row in table() if leader in (row.session, row.group)]


def end(ones: Iterable[Identity], *, grace: float) -> int:
    """End these processes: asked to first, forced after `grace` seconds. Return how many had to be forced."""
    waiting = [one for one in ones if one.is_alive()]
    for one in waiting:
        one.send(signal.SIGTERM)
    left = wait_gone(waiting, grace)
    for one in left:
        one.send(signal.SIGKILL)
    wait_gone(left, 10)
    return len(left)


def wait_gone(ones: Iterable[Identity], seconds: float) -> list[Identity]:
    """Return those of the processes that still run after at most `seconds`."""
    left, deadline = list(ones), time.monotonic() + seconds
    while (left := [one for one in left if one.is_alive()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def start(command: Iterable[str], env: Mapping[str, str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that a Ctrl-C reaches only who may stop it in order.

    What it says is appended to `log`, which can be cut while the process writes.
    """
    with log.open("ab") as said:
        return subprocess.Popen(  # noqa: S603 -- the command is one of ours
            list(command), cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def table() -> list[Row]:
    """Return every process that can be seen."""
    if not PROC.joinpath("self", "stat").exists():
        lines = _output(["ps", "-A", "-o", "pid=,ppid=,pgid="]).splitlines()
        return [Row(*map(int, line.split())) for line in lines]
    rows = []
    for path in PROC.iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))):
            rows.append(Row(int(path.name), *map(int, fields[1:4])))
    return rows


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may hold blanks and brackets."""
    try:
        return PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        return PROC.joinpath(str(pid), "environ").read_bytes().split(b"\0")
    except OSError:  # ended, or another user's
        return []


def _below(pid: int) -> set[int]:
    rows, found = table(), {pid}
    while more := {row.pid for row in rows if row.parent in found} - found:
        found |= more
    return found - {pid}


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout
