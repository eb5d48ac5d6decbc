"""Keeping the services of a place running: started in order, watched, started again, stopped in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from deployments.local import logs, processes
from deployments.local.health import answers, runs_in_the_middle
from deployments.local.listening import Owner, owner, port_of
from deployments.local.place import Place
from deployments.local.ports import is_free
from deployments.local.record import Record, Running, write_record
from deployments.local.services import Service

PATIENCE = 300.0  # seconds to the first answer: a first start with cold files was measured at 83
LOOK_EVERY = 5.0  # seconds between two looks at the health of everything
SILENT_FOR = 120.0  # seconds without an answer after which a living process is started again
LONGEST_WAIT = 60.0  # seconds before a service that keeps dying is tried again
STEADY_AFTER = 120.0  # seconds after which an earlier death no longer counts
GRACE = 10.0  # seconds a process has to end by itself
STEADY_FOR = 2.0  # seconds a process has to outlive an answer where the system does not tell who gave it


class Stopped(Exception):
    """Somebody asked for an end while services were still starting."""


class CannotStart(Exception):
    """A service did not come up; the text says which, why, and the end of its log."""


class PortTaken(CannotStart):
    """Somebody else listens on the port of a service; nothing may be sent there."""


@dataclass
class Kept:
    """One service with its process."""

    service: Service
    process: subprocess.Popen[bytes]
    running: Running
    last_well: float
    began: float
    wait: float = 1.0
    due: float | None = None  # when it is started again, if it is down


@dataclass
class Supervisor:
    """The services of one place and the loop that keeps them.

    Attributes:
        place: the folders.
        environment: what every process gets.
        record: what is shown to others; written at each change.
        say: where news go, a line each.
        stop: set to end everything.
        hurry: set to end everything at once.
    """

    place: Place
    environment: Mapping[str, str]
    record: Record
    say: Callable[[str], None]
    stop: Event = field(default_factory=Event)
    hurry: Event = field(default_factory=Event)
    kept: list[Kept] = field(default_factory=list)

    def start_all(self, wanted: list[Service]) -> None:
        """Start the services, each after those it needs, and wait until all answer.

        Raises:
            CannotStart: when one ends or stays silent.
            PortTaken: when somebody else got the port of one first.
            Stopped: when somebody asked for an end meanwhile.
        """
        for service in wanted:
            for needed in [one for one in self.kept if one.service.name in service.needs]:
                self._await(needed)
            self.kept.append(self._start(service))
            self._write()
        for one in [*self.kept, *self.kept]:  # again: the first may have died while the last was waited for
            self._await(one)

    def watch(self) -> None:
        """Keep everything running until `stop` is set.

        Raises:
            PortTaken: when the port of a service that was down is somebody else's now: the others would go on
                with a stranger's service, and a worker would run what a stranger deploys.
        """
        looked = 0.0
        while not self.stop.wait(0.2):
            now = time.monotonic()
            for one in self.kept:
                self._revive(one, now)
            if now - looked >= LOOK_EVERY:
                looked = now
                for one in self.kept:
                    self._look(one)
                    logs.cap(self.place.logs / f"{one.service.name}.log")

    def stop_all(self) -> None:
        """End everything in the opposite order of its start, and whatever is left of what it started."""
        for one in self.kept[::-1]:
            self.say(f"stopping {one.service.name}")
            if one.service.has_runs:
                self._end_runs()
            self._end([one.running.identity])
            if one.service.has_runs:  # what it had just begun
                self._end(self._unknown())
        self._end(processes.marked(self.record.token))
        for one in self.kept:
            one.process.wait()

    def run(self, name: str, command: tuple[str, ...], timeout: float = PATIENCE) -> int:
        """Return the exit code of a command that runs to its end in this place.

        Raises:
            Stopped: when somebody asked for an end meanwhile; the command is ended.
        """
        log = self.place.logs / f"{name}.log"
        started = processes.start(command, self.environment, log, self.place.folder)
        deadline = time.monotonic() + timeout
        while (code := started.poll()) is None:
            if self.stop.wait(0.1) or time.monotonic() > deadline:
                self._end(processes.group_of(started.pid, self.record.token))
                code = started.wait()
                if self.stop.is_set():
                    raise Stopped
        return code

    def _start(self, service: Service, restarts: int = 0) -> Kept:
        log = self.place.logs / f"{service.name}.log"
        if service.first and not restarts and self.run(service.name, service.first) != 0:
            raise CannotStart(f"{service.name} could not be set up; {log} ends\n{logs.tail(log)}")
        environment = {**self.environment, **service.env}
        process = processes.start(service.command, environment, log, self.place.folder)
        who = processes.identity(process.pid)
        running = Running(
            service.name, who.pid, who.started, service.health, service.page, str(log),
            "starting", time.time(), restarts,
        )  # fmt: skip
        return Kept(service, process, running, time.monotonic(), time.monotonic())

    def _await(self, one: Kept) -> None:
        deadline = time.monotonic() + PATIENCE
        log = self.place.logs / f"{one.service.name}.log"
        since: float | None = None  # when it first answered
        while True:
            code = one.process.poll()  # looked at first: whoever has the port answers for a dead one, too
            if code is not None:
                _refuse_another(one)
            if code is not None or time.monotonic() > deadline:
                why = f"ended with {code}" if code is not None else f"did not answer in {PATIENCE:g} s"
                raise CannotStart(f"{one.service.name} {why}; {log} ends\n{logs.tail(log)}")
            since = (since or time.monotonic()) if self._answers(one.service) else None
            if since is not None and _is_its_own(one, since):
                break
            if self.stop.wait(0.2):
                raise Stopped
        one.running.state, one.last_well = "well", time.monotonic()
        self._write()

    def _answers(self, service: Service) -> bool:
        urls = [service.health, *([service.ready] if service.ready else [])]
        return all(answers(url, self.environment, timeout=2) for url in urls)

    def _revive(self, one: Kept, now: float) -> None:
        """Start a service again that has died, later each time."""
        if one.due is None and (code := one.process.poll()) is not None:
            if now - one.began > STEADY_AFTER:
                one.wait = 1.0
            how = f"signal {-code}" if code < 0 else f"code {code}"
            self.say(f"{one.service.name} ended ({how}); started again in {one.wait:g} s")
            one.due, one.running.state = now + one.wait, "died"
            self._write()
        if one.due is not None and now >= one.due:
            # What is left of its own group would hold the port; runs of a worker have groups of their own.
            processes.end(processes.group_of(one.running.pid, self.record.token), grace=1)
            _refuse_another(one)
            wait, restarts = min(2 * one.wait, LONGEST_WAIT), one.running.restarts + 1
            again = self._start(one.service, restarts)
            one.process, one.running, one.last_well, one.began = again.process, again.running, now, now
            one.wait, one.due = wait, None
            self._write()

    def _look(self, one: Kept) -> None:
        if one.due is not None:
            return
        before, now = one.running.state, time.monotonic()
        if owner(port_of(one.service.health), one.running.pid) is Owner.ANOTHER:
            raise _taken(one.service)
        if answers(one.service.health, self.environment):
            one.running.state, one.last_well = "well", now
        elif before == "well":
            one.running.state = "silent"
        if one.running.state != before:
            self.say(f"{one.service.name} is {one.running.state}")
            self._write()
        if now - one.last_well > (SILENT_FOR if before != "starting" else PATIENCE):
            self.say(f"{one.service.name} has not answered for {now - one.last_well:.0f} s: ended")
            self._end([one.running.identity])

    def _end_runs(self) -> None:
        """End runs in the middle while their worker lives, which tells the server that they crashed."""
        runs = self._unknown()
        if not runs:
            return
        self.say("ending the runs in the middle; what they recorded is kept")
        self._end(runs)
        deadline = time.monotonic() + GRACE
        while runs_in_the_middle(self.environment) and time.monotonic() < deadline:
            if self.hurry.wait(0.2):
                return

    def _unknown(self) -> list[processes.Identity]:
        """Return the processes of this up that are no service's own: flow runs, and what they started."""
        own = {row.pid for row in processes.table() if row.group in {one.running.pid for one in self.kept}}
        return [one for one in processes.marked(self.record.token) if one.pid not in own]

    def _end(self, ones: list[processes.Identity]) -> None:
        processes.end(ones, grace=0 if self.hurry.is_set() else GRACE)

    def _write(self) -> None:
        self.record.services = [one.running for one in self.kept]
        write_record(self.place, self.record)


def _is_its_own(one: Kept, since: float) -> bool:
    """Return whether the answers that came since then are this very process's.

    Raises:
        PortTaken: when they are somebody else's.
    """
    who = owner(port_of(one.service.health), one.running.pid)
    if who is Owner.ANOTHER:
        raise _taken(one.service)
    steady = time.monotonic() - since >= STEADY_FOR
    return one.process.poll() is None and (who is Owner.OURS or (who is Owner.UNKNOWN and steady))


def _refuse_another(one: Kept) -> None:
    """Raise PortTaken when the port of a service that has ended is held by somebody else."""
    port = port_of(one.service.health)
    who = owner(port, one.running.pid)
    if who is Owner.ANOTHER or (who is Owner.UNKNOWN and not is_free(port)):
        raise _taken(one.service)


def _taken(service: Service) -> PortTaken:
    port = port_of(service.health)
    return PortTaken(
        f"found port {port} of {service.name} taken by another process; expected it to be ours; "
        "to do: `make up` again, it takes another port"
    )


def listen(supervisor: Supervisor) -> None:
    """Let Ctrl-C, a closed terminal and a polite kill end everything in order; a second one at once."""

    def asked(_signal: int, _frame: object) -> None:
        if supervisor.stop.is_set():
            supervisor.hurry.set()
        supervisor.stop.set()

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, asked)


def say(text: str) -> None:
    """Print a line with the time, at once; a terminal that has gone is no reason to stop."""
    try:
        sys.stdout.write(f"{datetime.now().astimezone():%H:%M:%S} {text}\n")
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 -- until the process ends
