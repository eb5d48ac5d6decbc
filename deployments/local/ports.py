"""Ports of this place on 127.0.0.1: the usual one where it is free, else any free one; the same next time."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

HOST = "127.0.0.1"


def choose_ports(kept: Path, usual: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
    """Return a free port for each name, and a sentence for each port that had to change.

    Args:
        kept: file the choice is read from and written to.
        usual: the port each service is known for; taken first.
    """
    before = _read(kept)
    chosen: dict[str, int] = {}
    changed = []
    for name, port in usual.items():
        wanted = before.get(name, port)
        fits = wanted not in chosen.values() and is_free(wanted)
        chosen[name] = wanted if fits else _any_free(set(chosen.values()))
        if not fits:
            changed.append(f"{name}: port {wanted} is taken by another process, now {chosen[name]}")
    kept.write_text(json.dumps({**before, **chosen}, indent=1) + "\n")
    return chosen, changed


def is_free(port: int) -> bool:
    """Return whether nobody listens on the port, and we may."""
    with socket.socket() as asked:
        asked.settimeout(1)
        if asked.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # just closed connections do not count
        try:
            own.bind((HOST, port))
        except OSError:
            return False
    return True


def _any_free(besides: set[int]) -> int:
    while True:
        with socket.socket() as own:
            own.bind((HOST, 0))
            port = int(own.getsockname()[1])
        if port not in besides:
            return port


def _read(kept: Path) -> dict[str, int]:
    try:
        found = json.loads(kept.read_text())
    except (FileNotFoundError, ValueError):  # a file cut short: choose anew
        return {}
    fits = isinstance(found, dict)
    return (
        {name: port for name, port in found.items() if type(port) is int and 0 < port < 65_536}
        if fits
        else {}
    )
