"""Everything on this machine: Prefect server and worker, MLflow, the deployments; and its end."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

if __name__ == "__main__":  # run as a file: imports start at the repository, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from deployments.local import processes
from deployments.local.health import answers
from deployments.local.logs import tail
from deployments.local.place import (
    Place,
    make_folders,
    service_environment,
    shared_environment,
    this_place,
    write_env_file,
)
from deployments.local.ports import HOST, choose_ports
from deployments.local.record import Record, forget_record, only_one, read_record, write_record
from deployments.local.services import USUAL_PORTS, services
from deployments.local.supervise import CannotStart, Stopped, Supervisor, listen, say

SYNC = Path(__file__).with_name("sync.py")
DEPLOY_SECONDS = 900.0
STARTED, FAILED, REFUSED, NOTHING_RUNS = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 refused, 3 nothing runs."""
    args = _parser().parse_args(argv)
    args.file = args.file or ["prefect.yaml"]
    place = this_place()
    if args.command == "status":
        return status(place)
    if args.command == "down":
        return down(place)
    missing = [name for name in args.file if not Path(name).is_file()]
    if missing and not args.no_deploy:
        sys.stderr.write(f"found no {missing[0]} in {place.folder}; expected a file with deployments; "
                         "to do: go to the folder of prefect.yaml, or name it with --file\n")  # fmt: skip
        return REFUSED
    make_folders(place)
    return detach(place, sys.argv[1:] if argv is None else argv) if args.detach else up(place, args)


def up(place: Place, args: argparse.Namespace) -> int:
    """Start everything and keep it running until Ctrl-C or `down`."""
    with only_one(place) as mine:
        if not mine:
            sys.stderr.write(
                "found everything up already; to do: `make status` shows it, `make down` ends it\n"
            )
            return REFUSED
        end_leftovers(place)
        ports, changed = choose_ports(place.own / "ports.json", USUAL_PORTS)
        for sentence in changed:
            say(sentence)
        supervisor = _supervisor(place, ports)
        listen(supervisor)
        try:
            _bring_up(supervisor, ports, args)
            supervisor.watch()
        except Stopped:
            pass
        except CannotStart as err:
            say(str(err))
            return FAILED
        finally:
            supervisor.stop_all()
            forget_record(place)
            say("everything has ended")
    return STARTED


def detach(place: Place, argv: Sequence[str]) -> int:
    """Start everything in the background; return when it stands, or say why it does not."""
    log = place.logs / "up.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, __file__, *(one for one in argv if one != "--detach")]
    started = processes.start(command, os.environ, log, place.folder)
    while (code := started.poll()) is None:
        record = read_record(place)
        if record and record.pid == started.pid and record.ready:
            sys.stdout.write(f"{table(record)}\n{_hint(place, record)}\n")
            return FAILED if record.failed else STARTED
        time.sleep(0.1)
    sys.stderr.write(f"{tail(log, 30)}\n")
    return code or FAILED


def status(place: Place) -> int:
    """Print what runs here and how it is."""
    record = read_record(place)
    if record is None or not record.keeper.is_alive():
        left = processes.marked(record.token) if record else []
        more = f", but {len(left)} processes of it are left: `make down` ends them" if left else ""
        sys.stdout.write(f"nothing runs here{more}\n")
        return NOTHING_RUNS
    for one in record.services:
        well = one.identity.is_alive() and answers(one.health, {})
        one.state = "well" if well else ("silent" if one.identity.is_alive() else "died")
    sys.stdout.write(f"{table(record)}\n{_hint(place, record)}\n")
    return STARTED if all(one.state == "well" for one in record.services) else FAILED


def down(place: Place) -> int:
    """End what `up` started here, and only that."""
    record = read_record(place)
    if record is None:
        sys.stdout.write("nothing runs here\n")
        return STARTED
    record.keeper.send(signal.SIGTERM)
    if processes.wait_gone([record.keeper], 90):
        record.keeper.send(signal.SIGKILL)
        processes.wait_gone([record.keeper], 10)
    end_leftovers(place, record.token)
    sys.stdout.write("everything has ended\n")
    return STARTED


def end_leftovers(place: Place, token: str = "") -> int:
    """End what an `up` that was killed has left running; return how many processes that were.

    With a token only what that very `up` left: another may have been started meanwhile.
    """
    record = read_record(place)
    if record is None or (token and record.token != token):
        return 0
    left = processes.marked(record.token)
    known = [one.identity for one in record.services if one.identity not in left]
    left += [one for one in known if one.is_alive()]
    if left:
        say(f"ending {len(left)} processes that an earlier start left behind")
        processes.end(left, grace=10)
    forget_record(place)
    return len(left)


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


def _supervisor(place: Place, ports: dict[str, int]) -> Supervisor:
    api = f"http://{HOST}:{ports['server']}/api"
    me, token = processes.identity(os.getpid()), secrets.token_hex(8)
    record = Record(token, me.pid, me.started, api)
    write_record(place, record)
    shared = shared_environment(place, api, os.environ)
    write_env_file(place, shared)
    return Supervisor(place, service_environment(os.environ, shared, token), record, say)


def _bring_up(supervisor: Supervisor, ports: dict[str, int], args: argparse.Namespace) -> None:
    record = supervisor.record
    say("starting; the first time takes a minute or two")
    supervisor.start_all(services(ports, supervisor.environment))
    record.deployed = "left as they are (--no-deploy)"
    if not args.no_deploy:
        say("deploying")
        record.failed = not _deploy(supervisor, args.file)
        log = supervisor.place.logs / "deploy.log"
        names = ", ".join(args.file)
        record.deployed = f"FAILED, see {log}\n{tail(log)}" if record.failed else f"those of {names}"
    record.ready = True
    write_record(supervisor.place, record)
    say(f"up\n\n{table(record)}\n{_hint(supervisor.place, record)}\n\nCtrl-C ends everything.")


def _deploy(supervisor: Supervisor, files: list[str]) -> bool:
    (supervisor.place.logs / "deploy.log").unlink(missing_ok=True)
    prefect = str(Path(sys.executable).parent / "prefect")
    commands: list[tuple[str, ...]] = [
        (prefect, "--no-prompt", "deploy", "--all", "--prefect-file", name) for name in files
    ]
    if SYNC.exists():
        commands = [(sys.executable, str(SYNC), *(part for name in files for part in ("--file", name)))]
    return all(supervisor.run("deploy", command, DEPLOY_SECONDS) == 0 for command in commands)


def _hint(place: Place, record: Record) -> str:
    return (
        f"\nin another terminal: . {_short(place.env_file)}      "
        f"(or: export PREFECT_API_URL={record.api})\nlogs: {_short(place.logs)}"
    )


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python deployments/up.py",
        description="Run everything on this machine until Ctrl-C, or `down` from another terminal.",
    )
    parser.add_argument(
        "command", nargs="?", default="up", choices=("up", "status", "down"), help="up is the default"
    )
    parser.add_argument(
        "--detach", action="store_true", help="go on in the background once everything stands"
    )
    parser.add_argument("--no-deploy", action="store_true", help="leave the deployments as they are")
    parser.add_argument(
        "--file", nargs="+", action="extend", metavar="FILE", help="files with deployments (prefect.yaml)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
