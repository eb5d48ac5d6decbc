"""Moves of a champion in processes that die: many, each forked from one that has everything loaded."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from tasks import register
from tasks.core.errors import PromotionRefused
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.engine import open_store
from tasks.versions import move, partner
from tasks.versions.champion import agreed_champion
from tasks.versions.filing import file_version
from tests.faults.retraining import clean_processes
from tests.versions import LATER, SPEC_, Made, a_version, moved

DATABASES = ("mlflow.db", "store.db")
# In a row, before the run that is left in peace; `make bench` sets five.
KILLS = int(os.environ.get("EVERGREEN_TEST_KILLS", "1"))
FIRST = 3  # the first version that never served; 1 served, 2 serves
AT = LATER + timedelta(days=9)
SHOWN = {  # what a run leaves in the registry, by the method of its client
    "set_registered_model_tag": "note",
    "delete_registered_model_tag": "clear the note",
    "set_registered_model_alias": "alias",
    "delete_registered_model_alias": "drop alias",
    "set_model_version_tag": "tag",
}


def standing(made: Made, fresh: Path, folder: Path, candidates: int) -> Path:
    """Return a place where version 1 served, version 2 serves, and so many more never did."""
    there = Settings(state_dir=folder / "state", threads=1)
    (folder / "state").mkdir(parents=True)
    for name in DATABASES:
        shutil.copy(fresh / name, folder / "state" / name)
    versions = [a_version(made, there, f"a{number + 1}") for number in range(FIRST - 1 + candidates)]
    for version in versions[: FIRST - 1]:
        moved(version, there, f"d{version.number}", as_of=LATER + timedelta(days=version.number))
    _close()
    (folder / "kept").mkdir()
    for name in DATABASES:
        with (
            closing(sqlite3.connect(folder / "state" / name)) as source,
            closing(sqlite3.connect(folder / "kept" / name)) as target,
        ):
            source.backup(target)
    return folder


def promote(place: Settings) -> None:
    version = registry.find_version(SPEC_.name, FIRST, settings=place)
    moved(version, place, "d-new", as_of=AT, expected=2)


def roll_back(place: Settings) -> None:
    version = registry.find_version(SPEC_.name, 1, settings=place)
    moved(version, place, "rollback-d", as_of=AT, expected=2, action="rolled_back", actor="ann")


def file_waiting(place: Settings) -> None:
    file_version.fn(
        SPEC_, FIRST, "waiting", actor="gate", reason="ask", decision_id="d-new", as_of=AT, settings=place
    )


def set_beside(place: Settings) -> None:
    partner.set_partner(
        SPEC_, 1, champion=2, actor="rule", reason="ahead", decision_id="d-beside", as_of=AT, settings=place
    )


WORK: dict[str, Callable[[Settings], None]] = {
    "promote": promote,
    "rollback": roll_back,
    "wait": file_waiting,
    "partner": set_beside,
}


@dataclass
class Ended:
    """What was left after a run was killed at one point and then run in peace."""

    killed: int = 0
    error: str = ""
    champion: int | None = None
    aliases: dict[str, int] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    ledger: list[tuple[str, int]] = field(default_factory=list)
    partner: int | None = None
    stages: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    moves: list[tuple[int, str]] = field(default_factory=list)
    held: int = 0
    pending: int = 0


def all_killed(folder: Path, where: Path, kind: str) -> None:
    """Run one kind of work whole, to see its steps, and killed at each of them; keep what was left."""
    there = _warm(folder, kind)
    _restore(folder)
    _forked(there, kind, None, where)
    points = json.loads(where.read_text())[:-1]
    ends = {f"{kind}-{at}": vars(_killed_at(folder, there, kind, at, where)) for at in range(len(points))}
    where.write_text(json.dumps({"points": points, "ends": ends}))


def killed_everywhere(folder: Path, where: Path) -> tuple[dict[str, list[str]], dict[str, Ended]]:
    """Return the steps of each kind of work, and what was left after it was killed at each of them."""
    points: dict[str, list[str]] = {}
    ends: dict[str, Ended] = {}
    for kind in WORK:
        assert _alone(all_killed, folder, where, kind) == 0
        found = json.loads(where.read_text())
        points[kind] = found["points"]
        ends.update({name: Ended(**end) for name, end in found["ends"].items()})
    return points, ends


def raced(folder: Path, where: Path, processes: int, threads: int) -> list[str]:
    """Return how each of so many simultaneous promotions over version 2 ended."""
    where.mkdir()
    assert _alone(_race, folder, where, processes, threads) == 0
    return [line for path in sorted(where.iterdir()) for line in json.loads(path.read_text())]


def left_in(folder: Path) -> Ended:
    """Return what the databases of the place hold."""
    ended = Ended()
    with closing(sqlite3.connect(folder / "state" / "mlflow.db")) as mlflow:
        ended.aliases = dict(mlflow.execute("SELECT alias, version FROM registered_model_aliases"))
        ended.tags = [key for (key,) in mlflow.execute("SELECT key FROM registered_model_tags")]
        query = "SELECT version, value FROM model_version_tags WHERE key = 'evergreen.stage'"
        ended.shown = {str(version): stage for version, stage in mlflow.execute(query)}
    with closing(sqlite3.connect(folder / "state" / "store.db")) as store:
        ended.ledger = [tuple(row) for row in store.execute("SELECT action, to_version FROM promotions")]
        (ended.partner,) = store.execute("SELECT partner FROM promotions ORDER BY id DESC").fetchone()
        rows = store.execute("SELECT version, to_stage FROM lifecycle ORDER BY seq").fetchall()
        ended.moves = [tuple(row) for row in rows]
        ended.stages = {str(version): stage for version, stage in rows}
        (ended.pending,) = store.execute("SELECT count(*) FROM intents WHERE state = 'open'").fetchone()
        (ended.held,) = store.execute("SELECT count(*) FROM leases WHERE owner <> ''").fetchone()
    return ended


def _alone(work: Callable[..., None], *args: Any) -> int | None:
    """Run in a process of its own, which may fork because it has no threads; return its exit code."""
    child = clean_processes().Process(target=work, args=args)
    child.start()
    child.join(900)  # half a minute of work each, on a machine that may be busy
    return child.exitcode


def _killed_at(folder: Path, there: Settings, kind: str, at: int, where: Path) -> Ended:
    _restore(folder)
    killed = 0
    for _ in range(KILLS):
        killed += _forked(there, kind, at, where) == -signal.SIGKILL
    where.write_text("null")
    _forked(there, kind, None, where)
    told = json.loads(where.read_text())
    ended = left_in(folder)
    ended.killed = killed
    ended.error = told if isinstance(told, str) else ""
    champion = [step for step in told or () if step.startswith("champion ")]
    ended.champion = int(champion[0].split()[1]) if champion and not ended.error else None
    return ended


def _forked(there: Settings, kind: str, die_at: int | None, where: Path) -> int:
    """Run the work in a fork that dies at its n-th step; return how it ended, its steps in `where`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    steps: list[str] = []
    try:
        with pytest.MonkeyPatch.context() as patch:
            _watch(patch, there, steps, die_at)
            # It leaves nothing behind and takes longer than the rest: here the champion is probed at the end.
            for module in (move, partner):
                patch.setattr(module, "probe", lambda version, *_, **__: {"digest": version.digest})
            WORK[kind](there)
        found = agreed_champion(SPEC_.name, there)
        assert found and move.probe(found, there)["digest"] == found.digest
        told: list[str] | str = [*steps, f"champion {found.number}"] if die_at is None else []
    except BaseException:
        told = traceback.format_exc()
    where.write_text(json.dumps(told))
    os._exit(isinstance(told, str))


def _watch(patch: pytest.MonkeyPatch, there: Settings, steps: list[str], die_at: int | None) -> None:
    """Count the steps of a run, and die after the given one; of a transaction, in the middle."""

    def stepped(name: str) -> None:
        steps.append(name)
        if die_at is not None and len(steps) > die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def shown(method: str, name: str) -> Callable[..., Any]:
        call = getattr(MlflowClient, method)

        def run(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            stepped(f"{name} {args[2]}" if "alias" in name else name)
            return result

        return run

    for method, name in SHOWN.items():
        patch.setattr(MlflowClient, method, shown(method, name))

    def committing(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("evergreen_writes"):
            stepped("transaction")

    sa.event.listen(open_store(there), "commit", committing)


def _race(folder: Path, where: Path, processes: int, threads: int) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    there = _warm(folder, "promote")
    _restore(folder)
    ready, go = os.pipe()
    children = []
    for process in range(processes):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.close(go)
        start = Barrier(threads)

        def run(thread: int, process: int = process, start: Barrier = start) -> str:
            version = registry.find_version(
                SPEC_.name, FIRST + (process + thread) % processes, settings=there
            )
            start.wait()
            try:
                done = moved(version, there, f"d-{process}-{thread}", as_of=AT, expected=2)
            except PromotionRefused as err:
                return f"refused: {err}"
            except BaseException:
                return traceback.format_exc()
            return f"promoted {done.to_version}"

        os.read(ready, 1)  # ends when the parent closes its side: all begin at once
        with ThreadPoolExecutor(threads) as pool:
            told = list(pool.map(run, range(threads)))
        (where / f"{process}.json").write_text(json.dumps(told))
        os._exit(0)
    os.close(go)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ends == [0] * processes


def _warm(folder: Path, kind: str) -> Settings:
    """Return the place after everything that a move needs was loaded, with no connection left open."""
    os.environ["EVERGREEN_PROBE"] = "here"
    there = Settings(state_dir=folder / "state", threads=1)
    _restore(folder)
    WORK[kind](there)
    assert register.champion.fn(SPEC_.name, settings=there)
    _close()
    return there


def _close() -> None:
    for engine in [thing for thing in gc.get_objects() if isinstance(thing, sa.engine.Engine)]:
        engine.dispose()


def _restore(folder: Path) -> None:
    for path in (folder / "state").glob("*.db*"):
        path.unlink()
    for name in DATABASES:
        shutil.copy(folder / "kept" / name, folder / "state" / name)
