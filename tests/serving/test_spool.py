"""While the store fails, answers wait on disk: whole, bounded, and in the store once when it is back."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DataError, OperationalError

from serving import keeping, record, spool
from serving.record import Recorder
from serving.spool import Spool
from tasks.core.errors import StoreError
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.engine import open_store

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
DAY = Window.ending(AT.replace(day=2), "2d")


def row(identity: str, **over: Any) -> dict[str, Any]:
    return {
        "model": "churn", "prediction_id": identity, "version": 1, "row_key": identity, "event_time": AT,
        "served_at": AT, "prediction": "yes", "score": [0.2, 0.8], "inputs": {"plan": "prö\n"},
        "latency_ms": 3.0, "request_id": identity, "route": "champion", "status": 200, **over,
    }  # fmt: skip


class Outage:
    """A store that fails while `is_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.is_on = True
        real = keeping.insert_predictions

        def insert(connection: Any, rows: Any) -> int:
            if self.is_on:
                raise OperationalError("insert", {}, sqlite3.OperationalError("disk I/O error"))
            return real(connection, rows)

        monkeypatch.setattr(keeping, "insert_predictions", insert)
        monkeypatch.setattr(record, "AGAIN_SECONDS", 0.05)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(monkeypatch)


def kept(place: Settings) -> list[str]:
    return sorted(predictions.read(open_store(place), "churn", DAY)["prediction_id"])


def until(holds: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def test_what_is_spooled_comes_back_as_it_was(tmp_path: Path) -> None:
    one = Spool(tmp_path)
    given = [row("a"), row("b", score=None, inputs=None), row("c", prediction=0.1 + 0.2)]
    one.append(given[:1])
    one.append(given[1:])
    assert one.rows == 3
    assert one.waiting(2) == given[:2]
    assert one.waiting(2) == given[:2]  # until it is taken, it waits
    one.taken(given[:2])
    assert (one.rows, one.waiting(2)) == (1, given[2:])
    one.taken(given[2:])
    assert (one.rows, one.waiting(2)) == (0, [])
    assert not list(tmp_path.glob("*.jsonl"))
    one.append(given[:1])
    assert one.waiting(9) == given[:1]
    one.close()


def test_files_of_a_process_that_lives_are_left_alone_and_those_of_a_dead_one_taken_over(
    tmp_path: Path,
) -> None:
    ours = Spool(tmp_path)
    ours.append([row("a"), row("b")])
    other = Spool(tmp_path)
    assert other.rows == 0
    other.close()
    ours.close()
    heir = Spool(tmp_path)
    assert [one["prediction_id"] for one in heir.waiting(9)] == ["a", "b"]
    heir.close()


def test_a_torn_end_is_no_row_and_a_damaged_line_is_set_aside_and_counted(tmp_path: Path) -> None:
    one = Spool(tmp_path)
    one.append([row("a"), row("b"), row("c")])
    one.close()
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"yes", b"YES") + lines[2] + lines[0][:40])
    heir = Spool(tmp_path)
    found = heir.waiting(9)
    assert [one["prediction_id"] for one in found] == ["a", "c"]
    heir.taken(found)
    assert heir.waiting(9) == []
    heir.close()
    assert heir.damaged == 1
    assert b"YES" in (tmp_path / "damaged.txt").read_bytes()


def test_a_full_disk_and_a_full_spool_refuse_and_keep_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Spool(tmp_path, most_bytes=1_000)
    one.append([row("a")])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(spool.os, "fsync", full)
        with pytest.raises(StoreError, match="cannot be written"):
            one.append([row("b")])
    with pytest.raises(StoreError, match="at most"):
        one.append([row(str(index)) for index in range(5)])
    one.append([row("c")])
    assert [given["prediction_id"] for given in one.waiting(9)] == ["a", "c"]
    assert one.rows == 2
    one.close()


def test_in_an_outage_answers_are_spooled_and_afterwards_in_the_store_once(
    place: Settings, outage: Outage
) -> None:
    one = Recorder(open_store(place), spool=Spool(place.root / "spool"), spools=True)
    for index in range(20):
        one.record([row(f"{index:02}"), row(f"{index:02}b")]).result(30)
    assert (one.spooled, one.on_disk, one.written, kept(place)) == (40, 40, 0, [])
    outage.is_on = False
    one.record([row("live")]).result(30)
    until(lambda: one.on_disk == 0)
    assert len(kept(place)) == 41
    assert one.written == 41
    one.close()
    assert not list((place.root / "spool").glob("*.jsonl"))
    rows = predictions.read(open_store(place), "churn", DAY, with_inputs=True)
    assert rows["event_time"].unique().tolist() == [AT]
    assert rows["inputs"].tolist() == [{"plan": "prö\n"}] * 41


def test_what_is_spooled_at_the_end_goes_into_the_store_after_a_restart_even_where_none_spools(
    place: Settings, outage: Outage
) -> None:
    one = Recorder(open_store(place), spool=Spool(place.root / "spool"), spools=True)
    one.record([row("a"), row("b")]).result(30)
    one.close()
    outage.is_on = False
    other = Recorder(open_store(place))
    other.record([row("a")])  # it reached the store before the process died
    other.close()
    heir = Recorder(open_store(place), spool=Spool(place.root / "spool"))
    until(lambda: heir.on_disk == 0)
    heir.close()
    assert kept(place) == ["a", "b"]


def test_without_a_spool_an_outage_is_told_to_whoever_asks(place: Settings, outage: Outage) -> None:
    one = Recorder(open_store(place), spool=Spool(place.root / "spool"))
    with pytest.raises(StoreError, match="OperationalError"):
        one.record([row("a")]).result(30)
    outage.is_on = False
    one.record([row("b")]).result(30)
    one.close()
    assert kept(place) == ["b"]
    assert one.failed == 1


def test_a_spooled_row_that_the_database_never_takes_keeps_no_other_back(
    place: Settings, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Recorder(open_store(place), spool=Spool(place.root / "spool"), spools=True)
    one.record([row("a"), row("bad"), row("b")]).result(30)
    real = keeping.insert_predictions

    def picky(connection: Any, rows: Any) -> int:
        if any(given["row_key"] == "bad" for given in rows):
            raise DataError("insert", {}, ValueError("NUL"))
        return real(connection, rows)

    monkeypatch.setattr(keeping, "insert_predictions", picky)
    outage.is_on = False
    until(lambda: one.on_disk == 0)
    one.close()
    assert kept(place) == ["a", "b"]
    assert one.damaged == 1
    assert b'"bad"' in (place.root / "spool" / "damaged.txt").read_bytes()


def test_what_append_returned_from_outlives_a_kill_of_the_process(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\nfrom serving.spool import Spool\n"
        "from tests.serving.test_spool import row\n"
        "one = Spool(Path(sys.argv[1]))\n"
        "for index in range(10**9):\n"
        "    one.append([row(str(index))])\n    sys.stdout.write(f'{index}\\n'); sys.stdout.flush()\n"
    )
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(root)], stdout=subprocess.PIPE, cwd=root
    )
    assert child.stdout
    told = [int(child.stdout.readline()) for _ in range(50)]
    os.kill(child.pid, signal.SIGKILL)
    told += [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    heir = Spool(tmp_path)
    found = [one["prediction_id"] for one in heir.waiting(10**6)]
    heir.close()
    assert found[: len(told)] == [str(index) for index in told]
    assert len(found) <= len(told) + 1


def test_a_damaged_line_is_set_aside_once_however_often_its_neighbours_are_asked_for(tmp_path: Path) -> None:
    one = Spool(tmp_path)
    one.append([row("a")])
    one.close()
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(b"garbage\n" + path.read_bytes())
    heir = Spool(tmp_path)
    for _ in range(5):  # the store is away
        found = heir.waiting(9)
    assert heir.damaged == 0
    heir.taken(found)
    heir.close()
    assert (heir.damaged, (tmp_path / "damaged.txt").read_bytes()) == (1, b"garbage\n")


def test_a_file_that_is_being_made_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[Spool] = []
    real = spool._locked

    def slow(handle: Any) -> bool:  # another process starts between the file and its lock
        if not others:
            monkeypatch.setattr(spool, "_locked", real)
            others.append(Spool(tmp_path))
        return real(handle)

    ours = Spool(tmp_path)
    monkeypatch.setattr(spool, "_locked", slow)
    ours.append([row("a")])
    others[0].close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    ours.close()
    heir = Spool(tmp_path)
    assert [one["prediction_id"] for one in heir.waiting(9)] == ["a"]
    heir.close()
