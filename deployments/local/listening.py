"""Whose process listens on a port of this machine: an answer alone does not say who gave it."""

from __future__ import annotations

import socket
import sys
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from deployments.local.ports import HOST
from deployments.local.processes import PROC, in_session

LISTENS = "0A"


class Owner(Enum):
    """Who listens on a port, as far as this system tells."""

    OURS = "ours"
    ANOTHER = "another"
    NOBODY = "nobody"
    UNKNOWN = "unknown"


def port_of(url: str) -> int:
    """Return the port of an address.

    Example:
        >>> port_of("http://127.0.0.1:4200/api/health")
        4200
    """
    return urlsplit(url).port or 80


def owner(port: int, leader: int) -> Owner:
    """Return who listens on the loopback port, seen from the session or group that `leader` leads.

    Unknown where the system has no /proc, or does not let us see what our own processes have open.
    """
    sockets = _listeners(port)
    if sockets is None:
        return Owner.UNKNOWN
    if not sockets:
        return Owner.NOBODY
    opened: set[str] = set()
    hidden = False
    for pid in in_session(leader):
        try:
            opened |= _sockets_of(pid)
        except PermissionError:
            hidden = True
    if sockets <= opened:  # all of them: a port can be shared, and then anybody answers
        return Owner.OURS
    return Owner.UNKNOWN if hidden else Owner.ANOTHER


def _listeners(port: int) -> set[str] | None:
    """Return the inodes of the sockets that listen on the port; None where they cannot be listed."""
    try:
        lines = PROC.joinpath("net", "tcp").read_text().splitlines()[1:]
    except OSError:
        return None
    address = int.from_bytes(socket.inet_aton(HOST), sys.byteorder)
    rows = [fields for line in lines if len(fields := line.split()) > 9 and fields[3] == LISTENS]
    by_address = {
        where: {row[9] for row in rows if row[1] == f"{where:08X}:{port:04X}"} for where in (address, 0)
    }
    return by_address[address] or by_address[0]  # the narrower address gets the connection


def _sockets_of(pid: int) -> set[str]:
    found = set()
    try:
        for one in PROC.joinpath(str(pid), "fd").iterdir():
            name = _target(one)
            if name.startswith("socket:["):
                found.add(name[8:-1])
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return found
    return found


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except (FileNotFoundError, ProcessLookupError):
        return ""
