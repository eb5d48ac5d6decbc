"""A peer's answers to a list of jobs, within a time limit; what it had answered by then is kept."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.peers.environments import HERE, OURS, PEERS, READ, quiet_environment
from bench.peers.protocol import Columns

KILLED = -9  # by the system, when memory ran out


@dataclass(frozen=True)
class Answers:
    """Lines of a runner.

    Attributes:
        peer: The line on the peer itself; empty when it did not even start.
        references: By job, the line on its reference.
        windows: By job, the lines on its windows, in order.
        fault: Why there are not all of them; None when there are.
        too_slow: Whether it is that time ran out, or memory.
    """

    peer: dict[str, Any]
    references: dict[str, dict[str, Any]]
    windows: dict[str, list[dict[str, Any]]]
    fault: str | None
    too_slow: bool = False


def ask(
    name: str, python: Path, columns: Columns, jobs: Sequence[dict[str, Any]], *, seconds: float
) -> Answers:
    """Return what the peer of this name answers within so many seconds of wall time."""
    peer = {OURS.name: OURS, READ.name: READ, **PEERS}[name]
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as place:
        job = Path(place) / "job.json"
        asked = {"numeric": columns.numeric, "categorical": columns.categorical, "jobs": list(jobs)}
        job.write_text(json.dumps(asked))
        out, err = Path(place) / "out", Path(place) / "err"
        # -P: this folder's file names are not to stand before anybody's packages.
        command = [str(python), "-P", str(HERE / peer.runner), "--job", str(job)]
        fault, too_slow = None, False
        with out.open("w") as to_out, err.open("w") as to_err:
            # Started in an empty folder: some peers read .env files or leave caches where they stand.
            child = subprocess.Popen(
                command, stdout=to_out, stderr=to_err, cwd=place, env=quiet_environment()
            )
            try:
                code = child.wait(timeout=seconds)
                if code:
                    fault, too_slow = f"it ended with {code}", code == KILLED
            except subprocess.TimeoutExpired:
                fault, too_slow = f"not done in {seconds:.0f} s", True
            finally:
                child.kill()
                child.wait()
        if fault and (said := err.read_text(errors="replace").strip()):
            fault = f"{fault}: {said.splitlines()[-1][:200]}"
        return replace(_sort(out.read_text(), fault), too_slow=too_slow)


def _sort(text: str, fault: str | None) -> Answers:
    peer: dict[str, Any] = {}
    references: dict[str, dict[str, Any]] = {}
    windows: dict[str, list[dict[str, Any]]] = {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue  # a peer that prints
        try:
            facts = json.loads(line)
        except ValueError:
            continue  # cut short by the time limit
        if "peer" in facts:
            peer = facts
        elif "window" in facts:
            windows.setdefault(facts["job"], []).append(facts)
        else:
            references[facts["job"]] = facts
    return Answers(peer, references, windows, fault)
