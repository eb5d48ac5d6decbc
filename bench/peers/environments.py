"""The Python of each peer: an environment of its own, made once from a lock and kept in a cache folder.

The peers' requirements contradict each other and ours, so each is installed apart and run as a process.
Nothing is written into the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LOCKS = HERE / "locks"
# What phones home is told not to, in every way the peers know.
QUIET = {
    "DO_NOT_TRACK": "true",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Peer:
    """A tool to be measured beside ours.

    Attributes:
        name: As in the figures.
        runner: Script that runs it, beside this file.
        lock: Requirements of its environment; None: it runs in the environment of this project.
        all_rows: Whether its check looks at every row it is given.
    """

    name: str
    runner: str
    lock: str | None
    all_rows: bool = True


OURS = Peer("ours", "run_ours.py", None)
READ = Peer("pyarrow", "run_read.py", None)  # no check, only the reading
PEERS = {
    peer.name: peer
    for peer in (
        Peer("alibi", "run_alibi.py", "alibi.txt"),
        Peer("evidently", "run_evidently.py", "evidently.txt"),
        Peer("nannyml", "run_nannyml.py", "nannyml.txt"),
        Peer("article-psi", "run_article.py", None),
    )
}


class SetUpError(RuntimeError):
    """An environment could not be made; the text says what the installer said."""


def default_folder() -> Path:
    """Return where environments are kept when nothing is said: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "evergreen-bench"


def environment_of(peer: Peer, folder: Path) -> Path:
    """Return the Python that runs this peer; its environment is made first when it is not there.

    Raises:
        SetUpError: when it cannot be installed.
    """
    if peer.lock is None:
        return Path(sys.executable)
    lock = LOCKS / peer.lock
    tag = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:8]
    home = folder / f"{peer.name}-{tag}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (home / "ready").exists():
        say(f"{peer.name}: installing {lock.name} into {home} (once)")
        start = time.monotonic()
        shutil.rmtree(home, ignore_errors=True)
        _install(home, python, lock)
        (home / "ready").touch()
        say(f"{peer.name}: installed in {time.monotonic() - start:.0f} s")
    return python


def available(names: Sequence[str], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the Python of each peer that could be set up, and why the others could not."""
    found, failed = {}, {}
    for name in names:
        try:
            found[name] = environment_of(PEERS[name], folder)
        except SetUpError as err:
            failed[name] = str(err)
            say(f"{name}: left out: {err}")
    return found, failed


def quiet_environment() -> dict[str, str]:
    """Return the variables of a peer's process: ours, nothing that phones home, and this folder's modules."""
    return {**os.environ, **QUIET, "PYTHONPATH": str(HERE.parents[1]), "PYTHONWARNINGS": "ignore"}


def say(text: str) -> None:
    """Write a line of progress; figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def _install(home: Path, python: Path, lock: Path) -> None:
    base = getattr(sys, "_base_executable", None) or sys.executable
    uv = shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))
    if uv and _run([uv, "venv", "--quiet", "--python", base, str(home)]) is None:
        fault = _run(
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "-r", str(lock)]
        )
        if fault is None:
            return
        say(f"uv could not ({fault}); trying pip")
        shutil.rmtree(home, ignore_errors=True)
    fault = _run([base, "-m", "venv", str(home)]) or _run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(lock)]
    )
    if fault is not None:
        raise SetUpError(fault)


def _run(command: list[str]) -> str | None:
    """Return what went wrong, in its last line; None when nothing did."""
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=inherited)
    except OSError as err:
        return str(err)
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1][:300] if lines else f"it ended with {done.returncode}"


def main(argv: Sequence[str] | None = None) -> int:
    """Make the environments that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    locked = [name for name, peer in PEERS.items() if peer.lock]
    parser.add_argument("--peers", nargs="*", choices=locked, default=locked, help="which (default: all)")
    parser.add_argument("--environments", type=Path, default=default_folder(), help="folder to keep them in")
    given = parser.parse_args(argv)
    found, failed = available(given.peers, given.environments)
    print(json.dumps({"ready": sorted(found), "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
