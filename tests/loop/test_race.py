"""Five processes carry out one decision at once: one retraining."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tasks.core.spec import ModelSpec
from tests.faults.retraining import clean_processes, retrain_in

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_five_simultaneous_launches_of_a_decision_start_one_retraining(
    tmp_path: Path, rows_spec: ModelSpec
) -> None:
    context = clean_processes()
    racers = [context.Process(target=retrain_in, args=(tmp_path, rows_spec, None)) for _ in range(5)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(300)
    assert [racer.exitcode for racer in racers] == [0] * 5

    with sqlite3.connect(tmp_path / "state" / "store.db") as store:
        assert store.execute("select action, to_version from promotions").fetchall() == [("promoted", 1)]
        assert store.execute("select state, takeovers from claims").fetchall() == [("done", 0)]
    with sqlite3.connect(tmp_path / "state" / "mlflow.db") as registry:
        assert registry.execute("select count(*) from model_versions").fetchone() == (1,)
        assert registry.execute("select count(*) from runs").fetchone() == (1,)
