"""Bring a Prefect server to what the files declare, and show the difference first.

    python deployments/sync.py --dry-run

Deployments that differ are deployed with `prefect deploy`; schedules, triggers, automations and deployments
of a declared model that are not declared any more are removed. Nothing else is touched: not what lacks the
tag `evergreen` or the name `evergreen: …`, and what a person paused or switched off stays so where
the files do not say `paused` or `active`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file: imports start at the repository, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import yaml
from prefect.workers.process import ProcessWorker
from rich.console import Console
from rich.table import Table

from deployments.api import Api, DeployError, connected
from deployments.compare import SIGNS, pull_steps
from deployments.declared import Deployment, read_files
from deployments.state import Difference, Found, compare, far_pools, read_server
from tasks.core.errors import WorkflowError

DIFFERENT = 3
_SECONDS = 900.0


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 done or equal, 2 refused with a reason, 3 different (with --check)."""
    args = _parser().parse_args(argv)
    code = args.code or str(Path.cwd())
    try:
        deployments = read_files([Path(file) for file in args.file or ["prefect.yaml"]])
        with connected() as api:
            found = read_server(api, deployments)
            todo = compare(deployments, found, code=code, prune=args.prune)
            todo.notes += [] if args.code else far_pools(deployments, found, code)
            show(todo, done=not (args.dry_run or args.check))
            if args.check:
                return DIFFERENT if todo.changes else 0
            if not args.dry_run and todo.changes:
                apply(api, deployments, found, todo, code=code)
                _confirm(api, deployments, code=code, prune=args.prune)
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 2
    return 0


def apply(api: Api, deployments: Sequence[Deployment], found: Found, todo: Difference, *, code: str) -> None:
    """Do what the difference asks for: add and change first, remove last."""
    for pool in todo.pools:
        template = ProcessWorker.get_default_base_job_template()
        api.post("/work_pools/", name=pool, type="process", base_job_template=template)
    changed = [one for one in deployments if one.full_name in todo.deploy]
    if changed:
        _deploy([_as_it_runs(one, found, code) for one in changed])
    for automation, there in todo.apply:
        body = automation.model_dump(mode="json", exclude={"owner_resource", "enabled"})
        if there:
            api.put(f"/automations/{there['id']}", **body, enabled=there["enabled"])
        else:
            api.post("/automations/", **body, enabled=True)
    for name, _, schedule in todo.schedules:
        api.delete(f"/deployments/{found.deployments[name]['id']}/schedules/{schedule}")
    for identity in todo.automations:
        api.delete(f"/automations/{identity}")
    for name in todo.drop:
        identity = found.deployments[name]["id"]
        api.delete(f"/automations/owned-by/prefect.deployment.{identity}")
        api.delete(f"/deployments/{identity}")


def show(todo: Difference, *, done: bool, out: Console | None = None) -> None:
    """Print the difference as a table: + add, ~ change, - remove."""
    out = out or Console(width=None if sys.stdout.isatty() else 160)
    for note in todo.notes:
        out.print(f"note: {note}", markup=False, highlight=False)
    if not todo.changes:
        out.print("the server has what is declared")
        return
    table = Table("", "what", "name", "differs in", box=None)
    for change in todo.changes:
        table.add_row(change.sign, change.kind, change.name, change.what)
    out.print(table)
    counts = ", ".join(
        f"{sum(change.sign == sign for change in todo.changes)} to {word}" for sign, word in SIGNS.items()
    )
    out.print(counts if not done else f"{counts}; doing it", highlight=False)


def _as_it_runs(one: Deployment, found: Found, code: str) -> dict[str, Any]:  # Any: YAML
    """Return the deployment as written, with what a person switched off on the server still off."""
    written = {**one.written, "pull": pull_steps(one, code)}
    there = found.deployments.get(one.full_name)
    if there and written.get("paused") is None:
        written["paused"] = there["paused"]
    off = {automation["name"] for automation in found.automations if not automation["enabled"]}
    triggers = written.get("triggers") or []
    written["triggers"] = [{**each, "enabled": False} if each["name"] in off else each for each in triggers]
    return written


def _deploy(written: list[dict[str, Any]]) -> None:  # Any: YAML
    """Run `prefect deploy` on these deployments.

    Raises:
        DeployError: when it fails, with the last line it said.
    """
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump({"name": "evergreen", "deployments": written}), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "prefect",
            "--no-prompt",
            "deploy",
            "--all",
            "--prefect-file",
            str(file),
        ]
        try:
            done = subprocess.run(  # noqa: S603
                command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, timeout=_SECONDS,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as err:
            raise DeployError(
                f"prefect deploy still running after {_SECONDS:g} s", "an end", "look at the server's log"
            ) from err
    if done.returncode != 0:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        why = next((line for line in said[::-1] if not line.startswith("An exception")), "nothing")
        raise DeployError(
            f"prefect deploy ended with {done.returncode}: {why[:250]}",
            "every deployment taken",
            "correct it and run this again; it goes on where it stopped",
        )


def _confirm(api: Api, deployments: Sequence[Deployment], *, code: str, prune: bool) -> None:
    """Read the server again: a command that says it worked is believed only then."""
    left = compare(deployments, read_server(api, deployments), code=code, prune=prune)
    templates = {one.full_name for one in deployments if "{{" in str({**one.written, "triggers": None})}
    wrong = [change for change in left.changes if change.name not in templates]
    if wrong:
        first = wrong[0]
        raise DeployError(
            f"{len(wrong)} differences after deploying, first {first.sign} {first.name} {first.what}",
            "none",
            "run it again; somebody else may be deploying at the same time",
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python deployments/sync.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 done or equal, 2 refused with a reason, 3 different (with --check).",
    )
    parser.add_argument(
        "--file", nargs="+", action="extend", metavar="FILE", help="files with deployments (prefect.yaml)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the difference and change nothing")
    parser.add_argument("--check", action="store_true", help="as --dry-run, and exit 3 when there is one")
    parser.add_argument(
        "--prune", action="store_true", help="also remove what is of models that no given file declares"
    )
    parser.add_argument(
        "--code", metavar="FOLDER",
        help="where the code stands for the worker, where a deployment has no pull steps (this folder)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
