"""The whole story: live traffic, labels later, decay, retraining, and the app serves the new version."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

import flows.monitor
import flows.scorecard
from serving.app import create_app
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store import alerts, ledger
from tasks.store.engine import open_store
from tests.make import START, make_frame, make_spec
from tests.serving.running import running

HOUR = timedelta(hours=1)
BEGAN = START + 2 * HOUR
FEATURES = ["tenure", "spend", "plan", "region"]


@pytest.fixture
def spec(rows_spec: ModelSpec) -> ModelSpec:
    """A model whose world moves by the hour."""
    return make_spec(
        source=rows_spec.source.model_dump(mode="json"),
        label={"column": "churned", "maturity": "0d"},
        window={"training": "2h", "check": "1h", "holdout": "30m"},
        retrain={"min_new_rows": 100, "cooldown": "1h", "max_age": "24h"},
        gate={"on_doubt": "tell"},
    )


class Street:
    """The world as its customers make it, hour by hour, and the caller who asks the app about them."""

    def __init__(self, spec: ModelSpec, client: httpx.Client):
        self.spec, self.client, self.versions = spec, client, list[int]()

    def hour(self, number: int, *, reversed_world: bool = False) -> None:
        """Let 500 customers pass: the app is asked about each, then what they did becomes known."""
        frame = customers(number, reversed_world=reversed_world)
        for start in range(0, len(frame), 100):
            self._ask(frame.iloc[start : start + 100])
        self._tell(frame)
        known = pd.read_parquet(self.spec.source.url)
        pd.concat([known, frame], ignore_index=True).to_parquet(self.spec.source.url)

    def _ask(self, part: pd.DataFrame) -> None:
        rows = part[FEATURES].to_dict("records")
        for row, key, moment in zip(rows, part["event_id"], part["event_time"], strict=True):
            row |= {"event_id": key, "event_time": moment.isoformat()}
        given = self.client.post("/predict/churn", json={"rows": rows})
        assert given.status_code == 200, given.text
        self.versions.append(given.json()["version"])

    def _tell(self, frame: pd.DataFrame) -> None:
        labels = [
            {"key": key, "label": int(label), "known_at": (moment + timedelta(minutes=1)).isoformat()}
            for key, label, moment in zip(
                frame["event_id"], frame["churned"], frame["event_time"], strict=True
            )
        ]
        given = self.client.post("/labels/churn", json={"labels": labels})
        assert given.status_code == 200, given.text


def customers(number: int, *, reversed_world: bool) -> pd.DataFrame:
    frame = make_frame(500, seed=100 + number, start=BEGAN + number * HOUR, days=0.98 / 24)
    return frame.assign(churned=1 - frame["churned"]) if reversed_world else frame


def test_from_live_traffic_to_a_new_version_and_the_time_it_took(
    retrain: Callable[..., Any], spec: ModelSpec, tmp_path: Path
) -> None:
    place, monitor = Settings(state_dir=tmp_path / "state", threads=1), flows.monitor.monitor
    make_frame(1500, days=1.99 / 24).to_parquet(spec.source.url)
    assert retrain(spec, as_of=BEGAN, decision_id="first").action == "promoted"
    with running(create_app(["churn"], place, poll_seconds=0.05)) as client:
        street = Street(spec, client)
        street.hour(0)
        assert monitor(spec, as_of=BEGAN + HOUR).outcome == "ok"
        seen = []
        for number in (1, 2):  # customers now do the opposite, and the version that serves cannot know
            street.hour(number, reversed_world=True)
            seen.append(monitor(spec, as_of=BEGAN + (number + 1) * HOUR))
        assert [(one.outcome, one.decision.kind, one.decision.cause) for one in seen] == [
            ("drift", "SKIP", "none"),
            ("drift", "TRAIN", "decay"),
        ]
        assert seen[1].launched.outcome == "promoted"
        assert set(street.versions) == {1}
        waits(lambda: version_of(client) == 2)
        street.hour(3, reversed_world=True)
        assert set(street.versions[-5:]) == {2}
        assert monitor(spec, as_of=BEGAN + 4 * HOUR).outcome == "ok"

    moves = [
        (row.action, row.from_version, row.to_version) for row in ledger.history(open_store(place), "churn")
    ]
    assert moves == [("promoted", None, 1), ("promoted", 1, 2)]
    decay = [one for one in alerts.history(open_store(place), "churn") if one.cause == "decay"]
    assert [(one.opened_at, one.resolved_at) for one in decay] == [(BEGAN + 3 * HOUR, BEGAN + 4 * HOUR)]
    card = flows.scorecard.scorecard(spec, as_of=BEGAN + 5 * HOUR)
    repair = next(one for one in card.repairs if one.cause == "decay")
    assert (repair.ended, repair.lasting, repair.median) == (1, 0, 3600.0)


def version_of(client: httpx.Client) -> int:
    return int(client.get("/models").json()[0]["version"])


def waits(fits: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not fits():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)
