"""Deployments of this place: brought to its server, counted, and looked at again after a failure."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from deployments.local.logs import tail
from deployments.local.place import Place, service_environment, shared_environment
from deployments.local.record import Record
from deployments.local.supervise import Supervisor

SYNC = Path(__file__).resolve().parents[1] / "sync.py"
DEPLOY_SECONDS = 900.0
CHECK_SECONDS = 120.0


def deploy(supervisor: Supervisor, files: Sequence[str]) -> None:
    """Deploy what the files declare, and write into the record what became of it."""
    record, log = supervisor.record, supervisor.place.logs / "deploy.log"
    log.unlink(missing_ok=True)
    record.files = list(files)
    record.failed = supervisor.run("deploy", _command(files), DEPLOY_SECONDS) != 0
    record.deployed = f"FAILED, see {log}\n{tail(log)}" if record.failed else counted(files)


def counted(files: Sequence[str]) -> str:
    """Return how many deployments of which models the files declare, as in `7 of demo (prefect.yaml)`."""
    names = ", ".join(files)
    try:
        declared = [
            one for name in files for one in yaml.safe_load(Path(name).read_text("utf-8"))["deployments"]
        ]
        counts = Counter(str(one["name"]) for one in declared)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        yaml.YAMLError,
    ):  # changed since: the file's name will do
        return f"those of {names}"
    return f"{', '.join(f'{count} of {model}' for model, count in counts.items()) or 'none'} ({names})"


def models_of(files: Sequence[str]) -> list[str]:
    """Return the names of the models that the files describe; what cannot be read is told by the deploy."""
    found: list[str] = []
    for name in files:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            blocks = yaml.safe_load(Path(name).read_text("utf-8"))["definitions"]["models"]
            found += [str(block["name"]) for block in blocks.values()]
    return list(dict.fromkeys(found))


def look_again(place: Place, record: Record, given: Mapping[str, str] = os.environ) -> None:
    """Correct what a record says of a deploy that failed, where its files have been deployed since."""
    environment = service_environment(given, shared_environment(place, record.api, given), "")
    try:
        done = subprocess.run(  # noqa: S603 -- ours
            [*_command(record.files), "--check"], cwd=place.folder, env=environment,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return
    if done.returncode == 0:
        record.failed, record.deployed = False, f"{counted(record.files)}, after a first try that failed"


def _command(files: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, str(SYNC), *(part for name in files for part in ("--file", name)))
