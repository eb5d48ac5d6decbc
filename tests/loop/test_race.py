"""Many at once: five processes with one decision retrain once, 64 promotions move the champion once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tasks.core.spec import ModelSpec
from tests.faults.moving import left_in, raced, standing
from tests.faults.retraining import clean_processes, retrain_in
from tests.versions import Made

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


def test_of_64_promotions_over_one_champion_one_wins_and_63_are_told_why_not(
    made: Made, fresh: Path, tmp_path: Path
) -> None:
    folder = standing(made, fresh, tmp_path / "standing", candidates=8)
    told = raced(folder, tmp_path / "told", processes=8, threads=8)

    won = [line for line in told if line.startswith("promoted ")]
    assert (len(told), len(won)) == (64, 1)
    winner = int(won[0].removeprefix("promoted "))
    why = f"refused: [churn] found version {winner} serving; expected version 2, which the decision was about"
    assert [line for line in told if not line.startswith(why)] == won

    left = left_in(folder)
    assert left.aliases == {"champion": winner, "previous": 2}
    assert left.ledger == [("promoted", 1), ("promoted", 2), ("promoted", winner)]
    stages = {"1": "ARCHIVED", "2": "ARCHIVED", str(winner): "PRODUCTION"}  # no loser was even put in staging
    assert {number: stage for number, stage in left.stages.items() if stage != "CANDIDATE"} == stages
    assert {number: stage for number, stage in left.shown.items() if stage != "CANDIDATE"} == stages
    assert (left.tags, left.held) == ([], 0)
