"""The champion swapped under load: no error, every answer from the version it names, and memory flat."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import create_app
from tasks.settings import Settings
from tasks.store.models import load_model
from tests.serving.exposed import ROW, other_model, promoted, serve
from tests.serving.running import running
from tests.versions import SPEC_, Made

MOST_GROWTH_MB = 60.0
"""Beyond what was in use after the first swaps; our choice: one version is a few megabytes."""


@dataclass
class Load:
    """What callers got: how often each version answered, and whatever was wrong."""

    expected: dict[int, float]
    answered: Counter[int] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, url: httpx.URL) -> None:
        """Ask until it is over."""
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            while not self.over.is_set():
                given = client.post("/predict/churn", json={"rows": [ROW, ROW]})
                if given.status_code != 200:
                    self.wrong.append((given.status_code, given.text[:200]))
                    continue
                told = given.json()
                said = {one["probabilities"]["1"] for one in told["answers"]}
                if said != {self.expected[told["version"]]}:
                    self.wrong.append((told["version"], said))
                self.answered[told["version"]] += 1


def in_use_mb() -> float:
    """Return what this process holds in memory now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def swapped(
    made: Made, place: Settings, folder: Path, *, every: float, swaps: int, callers: int, patience: float
) -> tuple[Load, list[float]]:
    """Swap two champions under load so often; return what callers got, and the memory after each move."""
    import pandas as pd

    models = [other_model(made, folder, rows) for rows in (240, 120)]
    frame = pd.DataFrame([ROW])[SPEC_.features.all]
    says = [load_model(one.trained.model_path).predict_proba(frame)[0, 1] for one in models]
    versions = [promoted(one, place, f"a{number}") for number, one in enumerate(models)]
    load = Load({one.number: float(said) for one, said in zip(versions, says, strict=True)})
    assert len(set(load.expected.values())) == 2
    app = create_app(["churn"], place, poll_seconds=0.02)
    memory = []
    with running(app) as client:
        threads = [threading.Thread(target=load.ask, args=(client.base_url,)) for _ in range(callers)]
        for one in threads:
            one.start()
        holder, ends, turn = app.state.service.holders["churn"], time.monotonic() + patience, 0
        while holder.swaps < swaps:
            assert time.monotonic() < ends, "the app takes too long to swap"
            serve(versions[turn % 2], place, f"swap-{turn}")
            turn += 1
            time.sleep(every)
            memory.append(in_use_mb())
        load.over.set()
        for one in threads:
            one.join(60)
        assert client.get("/models").json()[0]["trouble"] == ""
    return load, memory


def check(load: Load, memory: list[float], *, settled: int) -> None:
    assert load.wrong == []
    assert set(load.answered) == set(load.expected)
    assert max(memory[settled:]) - min(memory[:settled]) < MOST_GROWTH_MB, memory


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory as Linux tells it")
def test_swaps_in_quick_succession_cost_no_caller_an_answer(
    made: Made, place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.scoring._agrees", lambda *_: True)  # most of a version's loading
    load, memory = swapped(made, place, tmp_path, every=0.1, swaps=6, callers=3, patience=120)
    assert sum(load.answered.values()) > 20
    check(load, memory, settled=2)


@pytest.mark.slow
def test_a_swap_every_ten_seconds_for_ten_minutes(made: Made, place: Settings, tmp_path: Path) -> None:
    load, memory = swapped(made, place, tmp_path, every=10, swaps=60, callers=4, patience=900)
    check(load, memory, settled=5)
