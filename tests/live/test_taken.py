"""A port that somebody else got first: never taken for our own service, and nothing is deployed there."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from deployments import up as command
from deployments.local import listening
from deployments.local.health import answers
from deployments.local.listening import Owner, owner, port_of
from deployments.local.place import Place
from deployments.local.ports import HOST
from deployments.local.processes import marked
from deployments.local.record import write_record
from deployments.local.services import Service
from deployments.local.supervise import PortTaken, Stopped, Supervisor
from deployments.local.turn import my_turn, turn_file
from deployments.up import status
from tests.live.test_supervise import FAKE, Stage, stage

__all__ = ["stage"]  # the fixture


@contextmanager
def stranger(folder: Path, port: int) -> Iterator[int]:
    """Give the process of somebody else's server that answers 200 on the port; it leads its session."""
    (folder / "fake.py").write_text(FAKE)
    words = [sys.executable, str(folder / "fake.py"), "stranger", str(port), "child"]
    with subprocess.Popen(words, cwd=folder, start_new_session=True) as other:
        try:
            deadline = time.monotonic() + 30
            while not answers(f"http://{HOST}:{port}/", {}):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield other.pid
        finally:
            other.kill()


def test_the_answer_of_a_stranger_is_not_taken_for_that_of_a_service_that_died(stage: Stage) -> None:
    one = stage.service("one")
    port = port_of(one.health)
    with stranger(stage.place.folder, port), pytest.raises(PortTaken, match=f"port {port} of one taken"):
        stage.supervisor.start_all([one])


def test_the_answer_of_a_stranger_is_not_taken_for_that_of_a_service_that_lives(stage: Stage) -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(600)")
    one = stage.service("one")
    with stranger(stage.place.folder, port_of(one.health)), pytest.raises(PortTaken):
        stage.supervisor.start_all([Service("one", sleeper, one.health)])


def test_where_nobody_tells_whose_a_port_is_a_service_has_to_outlive_its_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PROC", stage.place.folder / "no proc")
    one, began = stage.service("one"), time.monotonic()
    stage.supervisor.start_all([one])
    assert time.monotonic() - began >= 2
    taken = stage.service("taken")
    with stranger(stage.place.folder, port_of(taken.health)), pytest.raises(PortTaken):
        stage.supervisor.start_all([taken])


def test_a_port_lost_while_its_service_was_down_ends_everything(stage: Stage) -> None:
    one = stage.service("one")
    stage.supervisor.start_all([one])
    os.killpg(stage.supervisor.kept[0].running.pid, signal.SIGKILL)
    stage.supervisor.kept[0].process.wait()
    with stranger(stage.place.folder, port_of(one.health)), pytest.raises(PortTaken):
        stage.supervisor.watch()


def test_status_does_not_call_well_what_a_stranger_answers(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    one = stage.service("one")
    stage.supervisor.start_all([one])
    assert status(stage.place) == 0
    mine = stage.supervisor.kept[0].running
    taken = stage.service("taken")
    with stranger(stage.place.folder, port_of(taken.health)):
        mine.health = taken.health
        write_record(stage.place, stage.supervisor.record)
        assert status(stage.place) == 1
    assert "one      silent" in capsys.readouterr().out


def test_a_port_is_ours_only_if_everyone_who_listens_is(stage: Stage) -> None:
    one = stage.service("one")
    port = port_of(one.health)
    assert owner(port, os.getpid()) is Owner.NOBODY
    stage.supervisor.start_all([one])
    assert owner(port, stage.supervisor.kept[0].running.pid) is Owner.OURS
    with stranger(stage.place.folder, port_of(stage.service("other").health)) as other:
        assert owner(port, other) is Owner.ANOTHER
    with socket.socket() as wide:
        wide.bind(("0.0.0.0", 0))  # noqa: S104 -- whoever listens on every address answers on ours too
        wide.listen()
        assert owner(wide.getsockname()[1], stage.supervisor.kept[0].running.pid) is Owner.ANOTHER


def test_a_port_lost_between_choosing_and_listening_leads_to_another_before_anything_is_deployed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(stage.place.folder))
    place, stolen, deployed, ends = stage.place, [], [], []

    def services(ports: dict[str, int], _shared: object, _models: object) -> list[Service]:
        assert not _is_my_turn(), "another may choose the same ports now"
        if not stolen:
            stolen.append(ports["server"])
            ends.append(stranger(place.folder, ports["server"]))
            ends[0].__enter__()
        words = (sys.executable, str(place.folder / "fake.py"), "server", str(ports["server"]), "parent")
        return [Service("server", words, f"http://{HOST}:{ports['server']}/")]

    def deploy(supervisor: Supervisor, _files: list[str]) -> None:
        assert _is_my_turn()
        deployed.append(port_of(supervisor.record.api))
        supervisor.stop.set()

    monkeypatch.setattr(command, "services", services)
    monkeypatch.setattr(command, "deploy", deploy)
    monkeypatch.setattr(command, "listen", lambda _: None)
    try:
        code = command.up(place, argparse.Namespace(no_deploy=False, file=["prefect.yaml"]))
    finally:
        ends[0].__exit__(None, None, None)
    said = capsys.readouterr().out
    assert code == 0, said
    assert len(deployed) == 1
    assert deployed != stolen
    assert f"port {stolen[0]} of server taken by another process" in said
    assert marked(stage.supervisor.record.token) == []


def _asked() -> Event:
    """Give a stop that was asked for already, so that nothing waits."""
    stop = Event()
    stop.set()
    return stop


def _is_my_turn() -> bool:
    try:
        with my_turn(lambda _: None, _asked()):
            return True
    except Stopped:
        return False


def test_two_starts_take_turns_and_a_file_of_somebody_else_stops_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with my_turn(lambda _: None, _asked()):
        assert not _is_my_turn()
    assert _is_my_turn()
    turn_file().unlink()
    turn_file().symlink_to(tmp_path / "elsewhere")
    said: list[str] = []
    with my_turn(said.append, _asked()):
        assert "going on without" in said[0]
    assert not (tmp_path / "elsewhere").exists()


def test_the_turn_is_one_for_all_places_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert turn_file().name == f"evergreen-ports-{os.getuid()}.lock"
    assert not turn_file().is_relative_to(Place(Path.cwd(), Path.cwd() / ".evergreen").root)
