"""Who may run a retraining: one process per decision, and one decision per model at a time."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import utc
from tasks.store.engine import reading, writing
from tasks.store.schema import claims

LEASE = timedelta(minutes=30)
State = Literal["new", "taken_over", "busy", "done"]


@dataclass(frozen=True)
class Claim:
    """The answer to "may I run this?".

    `state` is new, taken_over (an earlier holder died or gave up: its work may be half done), busy (`holder`
    runs this decision, or `decision_id` of the same model) or done (`outcome` says how it ended).
    """

    acquired: bool
    state: State
    holder: str
    decision_id: str
    outcome: str | None = None


def this_process(run: str | None = None) -> str:
    """Return an owner's name: `host:pid:process start:run`.

    Without `run` each call names another owner, so that two threads never take each other for themselves;
    with a run's id, the same run of the same process may claim again what it holds.
    """
    pid = os.getpid()
    return f"{_host()}:{pid}:{_started(pid) or 'unknown'}:{run or uuid4().hex[:12]}"


def claim(
    engine: Engine,
    decision_id: str,
    model: str,
    owner: str,
    now: datetime,
    *,
    lease: timedelta = LEASE,
) -> Claim:
    """Return whether the owner may run this decision; of any number that ask at once, one may.

    A holder loses its claim when its process on this host is gone or its lease is over (`renew` prolongs it).
    """
    now = utc(now)
    with writing(engine, lock=f"claim:{model}") as connection:
        answer, others = _judge(connection, decision_id, model, owner, now)
        if not answer.acquired:
            return answer
        for other in others:  # the dead holder of another decision: that one can be taken up again later
            _set(connection, model, other, state="abandoned")
        held = {"owner": owner, "state": "running", "outcome": None, "lease_until": now + lease}
        if answer.state == "taken_over":
            _set(connection, model, decision_id, **held, takeovers=claims.c.takeovers + 1)
        else:
            ids = {"model": model, "decision_id": decision_id}
            connection.execute(claims.insert(), {**ids, **held, "claimed_at": now, "takeovers": 0})
    return answer


def look(engine: Engine, decision_id: str, model: str, now: datetime) -> Claim:
    """Return what `claim` would answer a newcomer now, without claiming."""
    with reading(engine) as connection:
        return _judge(connection, decision_id, model, "", utc(now))[0]


def renew(engine: Engine, decision_id: str, owner: str, now: datetime, *, lease: timedelta = LEASE) -> bool:
    """Return True while the owner still holds the decision, now for another lease; False: it must stop."""
    return _mine(engine, decision_id, owner, lease_until=utc(now) + lease)


def finish(engine: Engine, decision_id: str, owner: str, outcome: str) -> bool:
    """Return True when the decision is done by this owner; False when another took it over meanwhile."""
    return _mine(engine, decision_id, owner, state="done", outcome=outcome)


def release(engine: Engine, decision_id: str, owner: str) -> bool:
    """Give the decision up unfinished, so that it can be claimed again; True when the owner held it."""
    return _mine(engine, decision_id, owner, state="abandoned")


def _judge(
    connection: Connection, decision_id: str, model: str, owner: str, now: datetime
) -> tuple[Claim, list[str]]:
    """Return the answer, and the decisions of dead holders that stand in the way of it."""
    relevant = sa.or_(claims.c.decision_id == decision_id, claims.c.state == "running")
    rows = connection.execute(sa.select(claims).where(claims.c.model == model, relevant)).all()
    own = next((row for row in rows if row.decision_id == decision_id), None)
    if own is not None and own.state == "done":
        return Claim(False, "done", own.owner, decision_id, own.outcome), []
    running = [row for row in rows if row.state == "running"]
    for row in running:
        mine = row.decision_id == decision_id and row.owner == owner
        if not mine and _holds(row.owner, row.lease_until, now):
            return Claim(False, "busy", row.owner, row.decision_id), []
    state: State = "new" if own is None else "taken_over"
    return Claim(True, state, owner, decision_id), [
        row.decision_id for row in running if row.decision_id != decision_id
    ]


def _holds(owner: str, lease_until: datetime, now: datetime) -> bool:
    return lease_until > now and not is_gone(owner)


def is_gone(owner: str) -> bool:
    """Return True only when the owner's process ran on this host and is there no more."""
    host, _, rest = owner.partition(":")
    pid, _, rest = rest.partition(":")
    started = rest.partition(":")[0]
    if host != _host() or not pid.isdigit() or started == "unknown":
        return False  # cannot tell: the lease decides
    return _started(int(pid)) != started


def _host() -> str:
    # Containers can share a host name but not a process namespace: a foreign one's pids say nothing here.
    namespace = Path("/proc/self/ns/pid")
    try:
        suffix = f"-{namespace.readlink().name.strip('pid:[]')}"
    except OSError:
        suffix = ""
    return (socket.gethostname() or "localhost").replace(":", "_") + suffix


def _started(pid: int) -> str | None:
    """Return a mark of when this process began, None when there is none: pids are used again, both never."""
    try:
        # The fields after the command's name, which may itself hold spaces and brackets.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    return None if fields[0] in {"Z", "X"} else fields[19]  # a zombie has ended


def _started_by_ps(pid: int) -> str | None:
    shown = subprocess.run(  # noqa: S603 - a number is the only variable part
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "".join(shown.stdout.split()).replace(":", "") or None


def _set(connection: Connection, model: str, decision_id: str, **values: Any) -> None:  # Any: column values
    row = (claims.c.model == model, claims.c.decision_id == decision_id)
    connection.execute(claims.update().where(*row).values(**values))


def _mine(engine: Engine, decision_id: str, owner: str, **values: Any) -> bool:  # Any: column values
    held = (claims.c.decision_id == decision_id, claims.c.owner == owner, claims.c.state == "running")
    with writing(engine) as connection:
        return connection.execute(claims.update().where(*held).values(**values)).rowcount > 0
