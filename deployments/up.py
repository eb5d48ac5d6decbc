"""Everything on this machine: Prefect server, worker, MLflow, serving app, deployments; and its end."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

if __name__ == "__main__":  # run as a file: imports start at the repository, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from deployments.local import processes
from deployments.local.deploying import deploy, look_again, models_of
from deployments.local.health import answers
from deployments.local.listening import Owner, owner, port_of
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
from deployments.local.record import Record, Running, forget_record, only_one, read_record, write_record
from deployments.local.services import USUAL_PORTS, services
from deployments.local.shown import hint, table
from deployments.local.supervise import CannotStart, PortTaken, Stopped, Supervisor, listen, say
from deployments.local.turn import my_turn
from tasks.core.errors import StoreError, WorkflowError

STARTED, FAILED, REFUSED, NOTHING_RUNS, INTERRUPTED = 0, 1, 2, 3, 130
UP_ALREADY = "found everything up already; to do: `make status` shows it, `make down` ends it\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 refused, 3 nothing runs, 130 Ctrl-C."""
    args = _parser().parse_args(argv)
    args.file = args.file or ["prefect.yaml"]
    try:
        return _run(args, sys.argv[1:] if argv is None else argv)
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return REFUSED
    except KeyboardInterrupt:  # before anything was started
        return INTERRUPTED


def _run(args: argparse.Namespace, words: Sequence[str]) -> int:
    place = this_place()
    if args.command == "up":
        missing = [name for name in args.file if not Path(name).is_file()]
        if missing and not args.no_deploy:
            sys.stderr.write(f"found no {missing[0]} in {place.folder}; expected a file with deployments; "
                             "to do: go to the folder of prefect.yaml, or name it with --file\n")  # fmt: skip
            return REFUSED
        _make_folders(place)
        return detach(place, words) if args.detach else up(place, args)
    try:
        return status(place) if args.command == "status" else down(place)
    except (PermissionError, NotADirectoryError) as err:
        raise _closed(place, err) from err


def _make_folders(place: Place) -> None:
    try:
        make_folders(place)
    except OSError as err:
        raise _closed(place, err) from err


def _closed(place: Place, err: OSError) -> StoreError:
    return StoreError(
        f"the state folder {place.root} closed to us ({type(err).__name__})", "a folder we may write",
        "correct its rights, or name another with EVERGREEN_STATE_DIR",
    )  # fmt: skip


def up(place: Place, args: argparse.Namespace) -> int:
    """Start everything and keep it running until Ctrl-C or `down`."""
    with only_one(place) as mine:
        if not mine:
            sys.stderr.write(UP_ALREADY)
            return REFUSED
        end_leftovers(place)
        stop = Event()
        try:
            try:
                return _kept_up(place, args, stop)
            except PortTaken as err:  # before anything was deployed there: once more, with other ports
                say(f"{err}; trying that now")
                return _kept_up(place, args, stop)
        except Stopped:
            return STARTED
        except CannotStart as err:
            say(str(err))
            return FAILED


def _kept_up(place: Place, args: argparse.Namespace, stop: Event) -> int:
    """Start everything on ports of its own and keep it running; raises PortTaken only while it starts."""
    with contextlib.ExitStack() as stack:
        with my_turn(say, stop):
            ports, changed = choose_ports(place.own / "ports.json", USUAL_PORTS)
            for sentence in changed:
                say(sentence)
            supervisor = _supervisor(place, ports)
            supervisor.stop = stop
            stack.callback(_end, supervisor)
            listen(supervisor)
            say("starting; the first time takes a minute or two")
            supervisor.start_all(services(ports, supervisor.environment, models_of(args.file)))
        try:
            _deploy(supervisor, args)
            supervisor.watch()
        except PortTaken as err:
            say(str(err))
            return FAILED
    return STARTED


def _end(supervisor: Supervisor) -> None:
    supervisor.stop_all()
    forget_record(supervisor.place)
    say("everything has ended")


def detach(place: Place, argv: Sequence[str]) -> int:
    """Start everything in the background; return when it stands, or say why it does not."""
    log = place.logs / "up.log"
    with only_one(place) as free:
        if not free:
            sys.stderr.write(UP_ALREADY)
            return REFUSED
        log.unlink(missing_ok=True)  # nobody writes it now
    command = [sys.executable, __file__, *(one for one in argv if one != "--detach")]
    started = processes.start(command, os.environ, log, place.folder)
    try:
        return _until_it_stands(place, started, log)
    except KeyboardInterrupt:
        sys.stderr.write("ending what was started\n")
        return _give_up(started)


def _give_up(started: subprocess.Popen[bytes]) -> int:
    """End a background that does not stand yet: in order, and at once when asked again."""
    while True:
        started.terminate()
        try:
            started.wait()
        except KeyboardInterrupt:
            continue
        return INTERRUPTED


def _until_it_stands(place: Place, started: subprocess.Popen[bytes], log: Path) -> int:
    while (code := started.poll()) is None:
        record = read_record(place)
        if record and record.pid == started.pid and record.ready:
            sys.stdout.write(f"{table(record)}\n{hint(place, record)}\n")
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
        one.state = _state(one)
    if record.failed and all(one.state == "well" for one in record.services):
        look_again(place, record)
    sys.stdout.write(f"{table(record)}\n{hint(place, record)}\n")
    return STARTED if all(one.state == "well" for one in record.services) else FAILED


def _state(one: Running) -> str:
    if not one.identity.is_alive():
        return "died"
    ours = owner(port_of(one.health), one.pid) in (Owner.OURS, Owner.UNKNOWN)
    return "well" if answers(one.health, {}) and ours else "silent"


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


def _supervisor(place: Place, ports: dict[str, int]) -> Supervisor:
    api = f"http://{HOST}:{ports['server']}/api"
    me, token = processes.identity(os.getpid()), secrets.token_hex(8)
    record = Record(token, me.pid, me.started, api)
    write_record(place, record)
    shared = shared_environment(place, api, os.environ)
    write_env_file(place, shared)
    return Supervisor(place, service_environment(os.environ, shared, token), record, say)


def _deploy(supervisor: Supervisor, args: argparse.Namespace) -> None:
    record = supervisor.record
    if args.no_deploy:
        record.deployed = "left as they are (--no-deploy)"
    else:
        say("deploying")
        deploy(supervisor, args.file)
    record.ready = True
    write_record(supervisor.place, record)
    say(f"up\n\n{table(record)}\n{hint(supervisor.place, record)}\n\nCtrl-C ends everything.")


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
