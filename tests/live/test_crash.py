"""A worker and its run killed in the middle of training cost minutes, not a night."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tasks.settings import Settings
from tasks.store import ledger, registry
from tasks.store.engine import close_stores, open_store
from tests.live.live import ROOT, Live, live_place, outcome
from tests.make import START, make_frame, spec_block

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

AS_OF = START + timedelta(days=30)
# Part of the model, as a user's own feature code is: it waits for as long as a file stands.
SLOW = """
import os, time
from pathlib import Path
from sklearn.preprocessing import FunctionTransformer

def build():
    folder = Path(os.environ["EVERGREEN_STATE_DIR"]).parent
    (folder / "training").write_text(str(os.getpid()))
    while (folder / "wait").exists():
        time.sleep(0.1)
    return FunctionTransformer()
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, registry_file: Path) -> Iterator[Live]:
    """A server kept as the repository keeps its own, for a model whose training can be held up."""
    with live_place(tmp_path_factory.mktemp("crash")) as place:
        place.state.mkdir()
        shutil.copy(registry_file, place.state / "mlflow.db")
        make_frame(1500).to_parquet(place.folder / "rows.parquet")
        (place.folder / "slow_features.py").write_text(SLOW)
        source = {"url": str(place.folder / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
        estimator = {**spec_block()["estimator"], "preprocess": "slow_features:build"}
        shipped = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        (retrain,) = (one for one in shipped if one["entrypoint"] == "flows.retrain.retrain")
        kept = {"features": {"numeric": ["tenure", "spend"]}, "contract": {"spend": {"ge": 0}}}
        block = spec_block(source=source, estimator=estimator, **kept)
        own = {**retrain, "name": "churn", "parameters": {"spec": block}, "schedules": [], "triggers": []}
        own["tags"] = ["evergreen", "model:churn", "flow:retrain"]
        (place.folder / "prefect.yaml").write_text(yaml.safe_dump({"name": "e", "deployments": [own]}))
        place.env["PYTHONPATH"] = str(place.folder)
        place.start_server()
        place.run(sys.executable, str(ROOT / "deployments" / "sync.py"))
        place.start_worker()
        yield place
        close_stores()


def asked_for(live: Live) -> str:
    made = live.post(
        f"/deployments/{live.deployment('retrain/churn')['id']}/create_flow_run",
        parameters={"as_of": AS_OF.isoformat()},
    )
    return str(made["id"])


def state(live: Live, run: str) -> str:
    return outcome(live.get(f"/flow_runs/{run}")["state"])


def test_killed_in_training_it_is_crashed_in_two_minutes_and_the_next_run_is_the_only_one(live: Live) -> None:
    (live.folder / "wait").touch()
    dead = asked_for(live)
    training = live.folder / "training"
    live.wait(lambda: training.exists() and training.read_text(), 120, "the training")
    began = time.monotonic()
    live.stop("worker", signal.SIGKILL)
    os.kill(int(training.read_text()), signal.SIGKILL)
    (live.folder / "wait").unlink()

    live.start_worker("second")
    following = asked_for(live)
    live.wait(lambda: state(live, dead) == "Crashed", 120, "the mark of the dead run")
    crashed = time.monotonic() - began
    live.wait(lambda: state(live, following) == "Promoted", 150 - crashed, "the end of the next run")
    sys.stdout.write(
        f"\nCrashed after {crashed:.0f} s, next run done after {time.monotonic() - began:.0f} s\n"
    )

    place = Settings(state_dir=live.state, threads=1)
    (row,) = ledger.history(open_store(place), "churn")
    assert (row.action, row.from_version, row.to_version) == ("promoted", None, 1)
    champion = registry.find_champion("churn", settings=place)
    assert champion is not None
    assert champion.number == 1
