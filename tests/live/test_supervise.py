"""Services are kept running: started in order, started again, ended in order, and nobody else's touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployments.local import processes, supervise
from deployments.local.health import answers
from deployments.local.place import Place
from deployments.local.ports import HOST, choose_ports
from deployments.local.processes import Identity, identity, marked
from deployments.local.record import Record, only_one, read_record, write_record
from deployments.local.services import Service
from deployments.local.supervise import CannotStart, Supervisor
from deployments.up import down, end_leftovers, status

# Answers 200 unless a file `<name>.silent` exists, and says in `events` when it starts and ends. The port is
# held by a child, as MLflow does it, so that killing the parent alone leaves it taken.
FAKE = """
import http.server, os, pathlib, signal, subprocess, sys, threading
name, port, role = sys.argv[1:4]
def note(what):
    with open("events", "a") as events:
        events.write(f"{what} {name}\\n")
if role == "parent":
    child = subprocess.Popen([sys.executable, __file__, name, port, "child"])
    signal.signal(signal.SIGTERM, lambda *_: (note("end"), child.kill(), os._exit(0)))
    child.wait()
    sys.exit(7)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if pathlib.Path(f"{name}.silent").exists() else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(port)), Answer)
note("start")
server.serve_forever(0.02)
"""


@dataclass
class Stage:
    """A place with fake services, kept running in a thread of this process."""

    place: Place
    supervisor: Supervisor
    said: list[str] = field(default_factory=list)
    thread: threading.Thread | None = None

    def service(self, name: str, **more: object) -> Service:
        port = choose_ports(self.place.own / "ports.json", {name: _free()})[0][name]
        command = (sys.executable, str(self.place.folder / "fake.py"), name, str(port), "parent")
        return Service(name, command, health=f"http://{HOST}:{port}/", **more)  # type: ignore[arg-type]

    def watch(self) -> None:
        self.thread = threading.Thread(target=self.supervisor.watch, daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.supervisor.stop.set()
        if self.thread:
            self.thread.join(20)
        self.supervisor.stop_all()

    def shown(self, name: str) -> tuple[str, int]:
        record = read_record(self.place)
        assert record is not None
        (one,) = [one for one in record.services if one.name == name]
        return one.state, one.restarts

    def events(self) -> list[str]:
        path = self.place.folder / "events"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(supervise, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(supervise, "GRACE", 5.0)
    place = _place(tmp_path)
    (tmp_path / "fake.py").write_text(FAKE)
    token = f"test-{os.getpid()}-{time.monotonic_ns()}"
    me = identity(os.getpid())
    said: list[str] = []
    environment = {**os.environ, processes.TOKEN: token}
    record = Record(token, me.pid, me.started, "http://nowhere")
    made = Stage(place, Supervisor(place, environment, record, said.append), said)
    try:
        yield made
    finally:
        made.end()
        assert marked(token) == []


def _place(folder: Path) -> Place:
    place = Place(folder, folder / "state")
    place.logs.mkdir(parents=True)
    return place


def _free() -> int:
    with socket.socket() as own:
        own.bind((HOST, 0))
        return int(own.getsockname()[1])


def _until(true: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


# Starting, keeping, ending.


def test_a_service_waits_for_those_it_needs_and_ends_before_them(stage: Stage) -> None:
    first, second = stage.service("first"), stage.service("second", needs=("first",))
    stage.supervisor.start_all([first, second])
    assert answers(first.health, {})
    assert answers(second.health, {})
    stage.end()
    assert stage.events() == ["start first", "start second", "end second", "end first"]
    assert not answers(first.health, {})


def test_a_killed_service_is_started_again_though_its_child_still_held_the_port(stage: Stage) -> None:
    one, other = stage.service("one"), stage.service("other")
    stage.supervisor.start_all([one, other])
    stage.watch()
    before = stage.supervisor.kept[0].running.pid
    os.kill(before, signal.SIGKILL)
    _until(lambda: stage.shown("one") == ("well", 1))
    assert stage.supervisor.kept[0].running.pid != before
    assert answers(one.health, {})
    assert stage.shown("other") == ("well", 0)
    assert "one ended (signal 9); started again in 1 s" in stage.said


def test_a_service_that_keeps_dying_is_tried_later_each_time(stage: Stage) -> None:
    stage.supervisor.start_all([stage.service("one")])
    stage.watch()
    for times in (1, 2):
        os.kill(stage.supervisor.kept[0].running.pid, signal.SIGKILL)
        _until(lambda times=times: stage.shown("one") == ("well", times))
    waits = [line.rsplit(" in ", 1)[1] for line in stage.said if line.startswith("one ended")]
    assert waits == ["1 s", "2 s"]


def test_a_service_that_lives_but_does_not_answer_is_started_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "SILENT_FOR", 0.5)
    stage.supervisor.start_all([stage.service("one")])
    silent = stage.place.folder / "one.silent"
    silent.touch()
    stage.watch()
    _until(lambda: "end one" in stage.events())
    silent.unlink()
    _until(lambda: stage.shown("one") == ("well", 1))
    assert any(line.startswith("one has not answered for") for line in stage.said)


def test_a_service_that_cannot_start_says_why_and_the_others_end(stage: Stage) -> None:
    fails = Service("bad", (sys.executable, "-c", "raise SystemExit('no such database')"), f"http://{HOST}:9")
    good = stage.service("good")
    with pytest.raises(CannotStart, match=r"bad ended with 1; .*bad\.log ends\n +no such database"):
        stage.supervisor.start_all([good, fails])
    stage.end()
    assert not answers(good.health, {})


def test_a_service_whose_set_up_fails_is_not_started(stage: Stage) -> None:
    from dataclasses import replace

    one = replace(stage.service("one"), first=(sys.executable, "-c", "raise SystemExit('disk full')"))
    with pytest.raises(CannotStart, match="one could not be set up"):
        stage.supervisor.start_all([one])
    assert stage.events() == []


def test_a_run_that_outlived_its_worker_is_ended_and_a_strangers_process_is_not(stage: Stage) -> None:
    script = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); print(p.pid, flush=True); time.sleep(600)"  # fmt: skip # noqa: E501
    one = stage.service("one")
    log = stage.place.logs / "runs.log"
    worker = processes.start(
        (sys.executable, "-c", script), stage.supervisor.environment, log, stage.place.folder
    )
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        _until(lambda: log.read_text().strip())
        run = identity(int(log.read_text()))
        worker.kill()
        worker.wait()
        stage.supervisor.start_all([one])
        assert run.is_alive()
        stage.end()
        assert not run.is_alive()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


# What is recognised by id and start time, and what is left.


def test_an_id_that_was_used_again_is_not_taken_for_the_process_it_was() -> None:
    me = identity(os.getpid())
    assert me.is_alive()
    assert not Identity(me.pid, "12345").is_alive()
    Identity(me.pid, "12345").send(signal.SIGKILL)  # would end this test, were only the id looked at


def test_an_ended_child_nobody_asked_about_yet_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    who = identity(child.pid)
    assert who.is_alive()
    child.kill()
    _until(lambda: not who.is_alive())
    child.wait()


def test_a_process_that_does_not_listen_is_forced() -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(1)
    assert processes.end([identity(child.pid)], grace=0.2) == 1
    assert child.wait(10) == -signal.SIGKILL
    child.stdout.close()


def test_what_a_killed_up_left_is_seen_by_status_and_ended_by_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = _place(tmp_path)
    token = f"left-{os.getpid()}"
    log = place.logs / "one.log"
    left = processes.start(
        (sys.executable, "-c", "import time; time.sleep(600)"),
        {**os.environ, processes.TOKEN: token},
        log,
        tmp_path,
    )
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone = identity(dead.pid)
    dead.communicate(b"\n")
    write_record(place, Record(token, gone.pid, gone.started, "http://nowhere"))
    assert status(place) == 3
    assert "1 processes of it are left" in capsys.readouterr().out
    assert down(place) == 0
    assert left.wait(10) == -signal.SIGTERM
    assert status(place) == 3
    assert end_leftovers(place) == 0


def test_down_does_not_end_an_up_that_was_started_meanwhile(stage: Stage) -> None:
    one = stage.service("one")
    stage.supervisor.start_all([one])
    assert end_leftovers(stage.place, "the token of an earlier one") == 0
    assert answers(one.health, {})


def test_only_one_may_keep_a_place_running(tmp_path: Path) -> None:
    place = _place(tmp_path)
    with only_one(place) as mine, only_one(place) as second:
        assert (mine, second) == (True, False)
    with only_one(place) as again:
        assert again


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "t"}', '{"services": [{"name": 1}]}'])
def test_a_record_that_cannot_be_read_is_no_record(tmp_path: Path, text: str) -> None:
    place = _place(tmp_path)
    (place.own / "processes.json").write_text(text)
    assert read_record(place) is None
