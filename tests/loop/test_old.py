"""A history of the years 1960 to 1965: before the epoch of Unix, which MLflow takes for the start of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import flows.detect_drift
import flows.monitor
import flows.replay
from tasks.core.policy.decision import decide
from tasks.core.policy.evidence import Evidence
from tasks.core.replay.backtest import run_policies
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import checks, ledger
from tasks.store.engine import open_store
from tasks.store.mlflow_client import open_client
from tests.make import make_frame, make_spec

START = datetime(1960, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=364)
OLD = {
    "window": {"training": "52w", "check": "13w"},
    "retrain": {"min_new_rows": 100, "cooldown": "1d", "max_age": "520w"},
    "gate": {"max_disagreement": None, "max_label_shift": None},
}


def old_spec(folder: Path) -> Any:
    source = {"url": str(folder / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
    spec = make_spec(source=source, **OLD)
    make_frame(3000, start=START, days=5 * 364).to_parquet(source["url"])
    return spec


def test_versions_are_made_checked_and_recorded_before_1970(
    retrain: Callable[..., Any], tmp_path: Path
) -> None:
    spec, begun = old_spec(tmp_path), START + 2 * YEAR
    assert retrain(spec, as_of=begun, decision_id="first").action == "promoted"
    again = retrain(spec, as_of=begun + YEAR, decision_id="second")
    assert again.action in {"promoted", "kept"}
    looked = flows.detect_drift.detect_drift(spec, as_of=begun + YEAR)
    assert looked.window == Window(begun + YEAR - YEAR / 4, begun + YEAR)
    flows.monitor.monitor(spec, as_of=begun + YEAR)
    place = Settings(state_dir=tmp_path / "state", threads=1)
    engine = open_store(place)
    rows = ledger.history(engine, spec.name)
    assert [row.at for row in rows][:2] == [begun, begun + YEAR], "our own record is true"
    (drift,) = checks.recent(engine, spec.name, "drift", 5, begun + YEAR)
    assert drift.window == looked.window
    client = open_client(place)
    versions = client.search_model_versions(f"name = '{spec.name}'")
    assert len(versions) == 2
    for version in versions:
        for name in client.get_run(version.run_id).data.metrics:
            assert all(m.timestamp >= 0 for m in client.get_metric_history(version.run_id, name))


def test_a_backtest_of_the_sixties_is_that_of_the_same_rows_sixty_years_later(tmp_path: Path) -> None:
    spec = make_spec(**OLD)
    later = 241 * timedelta(weeks=13)  # a whole number of windows
    frame = make_frame(2000, start=START, days=3 * 364)
    results = [
        run_policies(rows, spec, policies=("never", "loop"), threads=1)
        for rows in (frame, frame.assign(event_time=frame["event_time"] + later))
    ]
    old, new = ({p.name: (p.mean_score, p.retrainings) for p in one.policies} for one in results)
    assert np.isfinite([score for score, _ in old.values()]).all()
    assert old == new


def test_the_window_of_a_decision_lies_on_the_same_grid_before_1970() -> None:
    spec = make_spec(window={"training": "28d", "check": "7d"})
    edge = datetime(1963, 5, 2, tzinfo=UTC)  # a Thursday, as 1970 began
    for after in (timedelta(0), timedelta(hours=1), timedelta(days=6, hours=23)):
        decision = decide(Evidence(as_of=edge + after, data_ok=True), spec)
        assert decision.window == Window(edge - timedelta(days=7), edge)


def test_a_replay_of_the_sixties_plays_every_window(retrain: Callable[..., Any], tmp_path: Path) -> None:
    spec = old_spec(tmp_path)
    summary = flows.replay.replay(spec, windows=4, out=str(tmp_path / "out"))
    assert [window.start for window in summary.windows] == [START + YEAR + k * YEAR / 4 for k in range(4)]
    scores = [window.score for window in summary.windows]
    assert np.isfinite(scores).all()
