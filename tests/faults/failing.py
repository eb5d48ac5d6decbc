"""Fail the k-th call to registry, store or source, once, and run the same flow again: it ends as without.

`python -m tests.faults.failing [retrain|monitor] [every]` tries every call, or every n-th of them, and prints
how many it failed, how many of those stopped the run, and each end that differs.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

import flows.monitor
import flows.retrain
import tasks.fetch
from tasks.core.errors import SourceUnavailable
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store.engine import close_stores, open_store
from tests.faults.retraining import in_child
from tests.loop.plainly import plainly
from tests.make import START, make_frame, make_spec

FIRST, SECOND = START + timedelta(days=30), START + timedelta(days=40)
_CLIENT = (
    *("get_model_version", "get_model_version_by_alias", "get_registered_model", "get_run", "create_run"),
    *("search_model_versions", "search_registered_models", "create_model_version", "log_batch", "log_inputs"),
    *("log_artifacts", "set_registered_model_alias", "set_model_version_tag", "set_terminated"),
)


@dataclass
class Calls:
    """Counts calls to what lies elsewhere; the one with number `at` fails, once."""

    at: int = 0
    count: int = 0
    failed: str = ""
    names: list[str] = field(default_factory=list)

    def may_fail(self, name: str, error: Exception) -> None:
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            self.failed = name
            raise error


@contextmanager
def counted(calls: Calls) -> Iterator[None]:
    """Let the calls of the block pass through `calls`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _CLIENT:
            call = getattr(MlflowClient, name)
            busy = MlflowException("unavailable", error_code=TEMPORARILY_UNAVAILABLE)
            patch.setattr(MlflowClient, name, _passing(calls, f"registry {name}", busy, call))
        from mlflow import artifacts

        away = MlflowException("unavailable", error_code=TEMPORARILY_UNAVAILABLE)
        fetch = artifacts.download_artifacts
        patch.setattr(artifacts, "download_artifacts", _passing(calls, "registry files", away, fetch))
        connect = sa.engine.Engine.connect
        lost = sa.exc.OperationalError("select 1", {}, Exception("connection lost"))

        def connecting(engine: sa.engine.Engine) -> Any:
            if str(engine.url.database).endswith("store.db"):
                calls.may_fail("store", lost)
            return connect(engine)

        patch.setattr(sa.engine.Engine, "connect", connecting)
        opened = tasks.fetch.opened
        closed = SourceUnavailable("a source that is away")
        patch.setattr(tasks.fetch, "opened", _passing(calls, "source", closed, opened))
        yield


def _passing(calls: Calls, name: str, error: Exception, call: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        calls.may_fail(name, error)
        return call(*args, **kwargs)

    return run


def spec_in(folder: Path) -> ModelSpec:
    source = {"url": str(folder / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
    return make_spec(source=source, gate={"min_rows": 50, "anchor": {"rows": 200}})


def act(flow: str, folder: Path) -> None:
    """Run the flow on the place in this folder."""
    spec = spec_in(folder)
    if flow == "monitor":
        flows.monitor.monitor(spec, as_of=SECOND)
    else:
        flows.retrain.retrain(spec, as_of=SECOND, reason="test", decision_id="train-decay-0002", force=True)


def begin(folder: Path) -> None:
    """Make a place with a champion and an anchor, and rows for another training."""
    make_frame(1600, days=40).to_parquet(folder / "rows.parquet")
    flows.retrain.retrain(spec_in(folder), as_of=FIRST, reason="test", decision_id="train-decay-0001")


def end_of(folder: Path) -> dict[str, Any]:
    """Return what the place holds: decisions, stages, claims, watermark, anchors, checks and aliases."""
    engine = open_store(Settings(state_dir=folder / "state"))
    asked = {
        "promotions": "select decision_id, action, from_version, to_version from promotions order by id",
        "claims": "select decision_id, state, outcome from claims order by decision_id",
        "watermarks": "select attempt, moment from watermarks order by id",
        "versions": "select number, attempt from versions order by number",
        "lifecycle": "select version, to_stage from lifecycle order by version, seq",
        "anchors": "select revision, version, rows from anchors order by revision",
        "checks": "select distinct kind, version, window_end, outcome from checks order by kind, window_end",
        "decisions": "select distinct decision_id, kind from decisions order by decision_id",
    }
    with engine.connect() as connection:
        return {
            table: [list(map(str, row)) for row in connection.execute(sa.text(query))]
            for table, query in asked.items()
        }


@contextmanager
def place_of(folder: Path) -> Iterator[None]:
    """Let the flows of the block keep their state in this folder."""
    with pytest.MonkeyPatch.context() as patch:
        plainly(patch)
        patch.setenv("EVERGREEN_STATE_DIR", str(folder / "state"))
        patch.setenv("EVERGREEN_THREADS", "1")
        patch.setenv("EVERGREEN_PROBE", "here")
        try:
            yield
        finally:
            close_stores()


@dataclass
class Found:
    """What failing calls came to."""

    points: int = 0
    stopped: int = 0
    violations: list[str] = field(default_factory=list)


def _began(folder: Path) -> None:
    with place_of(folder):
        begin(folder)


def _tried(flow: str, folder: Path, at: int) -> None:
    """Run the flow with this call failing, if it is above 0; leave what came of it."""
    calls, stopped = Calls(at), False
    with place_of(folder):
        with counted(calls):
            try:
                act(flow, folder)
            except Exception as err:  # of whatever kind: the run failed, as it should
                stopped = True
                if not calls.failed:
                    raise err from None
        report = {"count": calls.count, "failed": calls.failed, "stopped": stopped, "end": end_of(folder)}
    (folder / "report.json").write_text(json.dumps(report), "utf-8")


def exhaust(flow: str, folder: Path, *, every: int = 1) -> Found:
    """Return what came of failing every n-th call of the flow, each in a process and a place of its own."""
    here, kept = folder / "here", folder / "kept"
    here.mkdir()
    assert in_child(_began, here) == 0
    shutil.copytree(here, kept)
    whole = _report(flow, here, 0)
    found = Found()
    for at in range(1, whole["count"] + 1, every):
        shutil.rmtree(here)
        shutil.copytree(kept, here)
        now = _report(flow, here, at)
        found.points += 1
        found.stopped += now["stopped"]
        found.violations += [
            f"call {at} ({now['failed']}): {table} {now['end'][table]} instead of {rows}"
            for table, rows in whole["end"].items()
            if now["end"][table] != rows
        ]
    return found


def _report(flow: str, folder: Path, at: int) -> dict[str, Any]:
    failed = _run(flow, folder, at)
    # In a process of its own, as the next run is: what the first one held is then known to be nobody's.
    return (
        {**_run(flow, folder, 0), "failed": failed["failed"], "stopped": failed["stopped"]} if at else failed
    )


def _run(flow: str, folder: Path, at: int) -> dict[str, Any]:
    assert in_child(_tried, flow, folder, at) == 0, f"the run after a failed call ({at}) failed as well"
    return dict(json.loads((folder / "report.json").read_text("utf-8")))


def main() -> int:
    flow, every = (sys.argv[1:] + ["retrain", "1"][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as folder:
        found = exhaust(flow, Path(folder), every=int(every))
    sys.stdout.write(
        f"{flow}: {found.points} calls failed, {found.stopped} runs stopped, "
        f"{len(found.violations)} violations\n"
    )
    sys.stdout.writelines(f"  {line}\n" for line in found.violations)
    return 1 if found.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
