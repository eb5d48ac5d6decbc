"""The promise of the whole: what a check finds at night is retrained, compared and promoted by morning."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.core.replay.simulate import demo_year
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import ledger, registry
from tasks.store.engine import close_stores, open_store
from tests.live.live import Live, live_place, outcome

pytestmark = [pytest.mark.engine]

YEAR = demo_year(windows=7)
FIRST_DRIFTED = 5


def moved(frame: pd.DataFrame, windows: tuple[Window, ...]) -> pd.DataFrame:
    """Return the rows with prices that rose and customers who stay for another reason, from one day on."""
    rng = np.random.default_rng(3)
    late = frame["event_time"] >= windows[FIRST_DRIFTED].start
    visits = frame["sessions_per_week"]
    drawn = (visits - visits.mean()) / visits.std()
    churned = (rng.random(len(frame)) < 1 / (1 + np.exp(1 - 2 * drawn.fillna(0)))).astype(int)
    return frame.assign(
        monthly_spend=frame["monthly_spend"].mask(late, frame["monthly_spend"] * 1.8),
        churned=frame["churned"].mask(late, churned),
    )


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A fresh server, everything deployed, a worker started in another folder, and data that drifts."""
    with live_place(tmp_path_factory.mktemp("night")) as live:
        inbox = live.state / "demo" / "inbox"
        inbox.mkdir(parents=True)
        for arrival in YEAR.arrivals:
            moved(arrival.frame, YEAR.windows).to_parquet(inbox / arrival.name, index=False)
        elsewhere = live.folder / "elsewhere"
        elsewhere.mkdir()
        live.start_server()
        live.start_worker(cwd=elsewhere)
        live.run("prefect", "--no-prompt", "deploy", "--all")
        yield live
        close_stores()


def test_a_drift_found_at_night_serves_by_morning(night: Live) -> None:
    def ran(deployment: str, as_of: datetime) -> str:
        made = night.post(
            f"/deployments/{night.deployment(deployment)['id']}/create_flow_run",
            parameters={"as_of": as_of.isoformat()},
        )
        return ended(made["id"])

    def ended(run: str) -> str:
        def state() -> str | None:
            now = night.get(f"/flow_runs/{run}")["state"]
            return outcome(now) if now["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return str(night.wait(state, 240, f"the end of run {run}"))

    first = YEAR.windows[FIRST_DRIFTED]
    assert ran("retrain/demo", YEAR.windows[FIRST_DRIFTED].start) == "Promoted"
    assert len(night.runs("retrain/demo")) == 1
    # Prices that nearly doubled do not wait for a second window.
    assert ran("detect_drift/demo", first.end).startswith("Drift: TRAIN")

    # Nobody touches anything: the event starts the retraining.
    found = night.wait(lambda: night.runs("retrain/demo")[1:], 120, "a retraining started by the event")
    assert ended(found[0]["id"]) == "Promoted"
    assert found[0]["created_by"]["type"] == "AUTOMATION"
    assert len(night.runs("retrain/demo")) == 2

    place = Settings(state_dir=night.state, threads=1)
    champion = registry.find_champion("demo", settings=place)
    assert champion is not None
    assert champion.number == 2
    rows = ledger.history(open_store(place), "demo")
    assert [(row.action, row.from_version, row.to_version) for row in rows] == [
        ("promoted", None, 1),
        ("promoted", 1, 2),
    ]
    drift_run = night.runs("detect_drift/demo")[-1]["id"]
    assert rows[-1].cause == "drift"
    assert rows[-1].evidence["caused_by"] == drift_run
    assert Path(night.folder / "elsewhere").exists()
    assert list((night.folder / "elsewhere").iterdir()) == []  # nothing was written where the worker stood
