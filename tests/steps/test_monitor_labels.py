"""How far labels moved, as the performance check records it, and harm, as the evidence reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.drift.matters.insight import Insight
from tasks.core.drift.matters.label_mix import label_mix
from tasks.core.drift.profile import build_reference
from tasks.core.records.performance import performance_markdown
from tasks.core.window import Window
from tasks.monitor import gather_evidence, realised_performance
from tasks.settings import Settings
from tasks.store import checks, predictions
from tasks.store.engine import open_store
from tests.make import make_frame, make_spec

T0 = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
SPEC = make_spec(window={"training": "28d", "check": "7d"})


def week(number: int) -> Window:
    return Window(T0 + number * WEEK, T0 + (number + 1) * WEEK)


@pytest.fixture
def engine(settings: Settings):
    return open_store(settings)


def serve(engine, number: int, *, share: float = 0.3, rows: int = 400) -> None:
    """Log one week of predictions and its labels, of which `share` are 1."""
    rng = np.random.default_rng(number)
    y = (np.arange(rows) < share * rows).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(size=rows) + 1.8 * y - 1)))
    keys = [f"w{number}-{row}" for row in range(rows)]
    frame = pd.DataFrame(
        {
            "prediction_id": keys,
            "row_key": keys,
            "event_time": [week(number).start + WEEK * row / rows for row in range(rows)],
            "prediction": (p > 0.5).astype(int),
            "score": np.column_stack([1 - p, p]).tolist(),
        }
    )
    predictions.log(engine, frame, model="churn", version=1, served_at=week(number).end)
    predictions.labels_record(engine, "churn", pd.DataFrame({"row_key": keys, "label": y}), week(number).end)


def checked(engine, number: int, outcome: str, **summary: Any) -> None:
    checks.record(
        engine,
        model="churn",
        kind="drift",
        window=week(number),
        version=1,
        outcome=outcome,
        summary=summary,
    )


def judged(settings: Settings, number: int, **more: Any):
    return realised_performance.fn(
        SPEC, week(number), 0.8, (0, 1), as_of=week(number).end, settings=settings, **more
    )


@pytest.fixture
def reference_path(tmp_path: Path) -> str:
    labels = label_mix([0] * 700 + [1] * 300, numbers=False)
    insight = Insight("roc_auc", 0.8, 1000, {}, None, "", labels)
    path = tmp_path / "reference.json"
    path.write_text(replace(build_reference(make_frame(300), SPEC, deep=False), insight=insight).to_json())
    return str(path)


def test_labels_are_compared_with_those_of_training_and_the_record_is_json(
    engine, settings, reference_path
) -> None:
    serve(engine, 0, share=0.31)
    calm = judged(settings, 0, reference_path=reference_path)
    assert (calm.labels.outcome, calm.labels.branch) == ("ok", "none")
    assert (calm.labels.rows, calm.labels.reference_rows) == (400, 1000)
    serve(engine, 1, share=0.02)
    checked(engine, 1, "ok", score_drifted=False, drifted=[])
    fault = judged(settings, 1, reference_path=reference_path)
    kept = fault.summary()["labels"]
    assert (kept["outcome"], kept["branch"], kept["against"]) == ("drift", "fault", "the labels of training")
    assert kept["psi"] > kept["threshold"]
    shown = performance_markdown(SPEC, fault)
    assert "### How the labels moved" in shown
    assert "drift, suspected labelling fault" in shown
    assert "400 against 1,000 (the labels of training)" in shown


def test_labels_that_moved_with_the_inputs_are_another_population(engine, settings, reference_path) -> None:
    serve(engine, 0, share=0.55)
    unknown = judged(settings, 0, reference_path=reference_path)
    checked(engine, 0, "drift", score_drifted=True, drifted=["spend"])
    assert judged(settings, 0, reference_path=reference_path).labels.branch == "population"
    assert unknown.labels.branch == "unexplained", "without a drift check nothing is known to have stayed"


def test_without_a_reference_the_six_windows_before_are_compared_with(engine, settings, tmp_path) -> None:
    for number in range(4):
        serve(engine, number)
    serve(engine, 4, share=0.02)
    checked(engine, 4, "ok", score_drifted=False, drifted=[])
    for more in ({}, {"reference_path": str(tmp_path / "missing.json")}):
        found = judged(settings, 4, **more).labels
        assert (found.branch, found.against) == ("fault", "the six windows before")
        assert found.reference_rows == 1600
    assert judged(settings, 0).labels.outcome == "undecided", "nothing came before it"
    assert "labels to compare with" in judged(settings, 0).labels.reason


def test_an_empty_window_has_no_label_shift(engine, settings, reference_path) -> None:
    found = judged(settings, 9, reference_path=reference_path)
    assert found.outcome == found.labels.outcome == "undecided"


@pytest.mark.parametrize(
    ("harm", "read"),
    [
        ({"outcome": "harmful", "reason": "a loss"}, ("harmful", "a loss")),
        ({"outcome": "unknown", "reason": None}, ("unknown", "")),
        ({"outcome": "grave"}, (None, "")),
        (None, (None, "")),
        ("harmful", (None, "")),
    ],
)
def test_evidence_reads_what_a_check_estimated(engine, settings, harm: Any, read: tuple) -> None:
    checked(engine, 0, "drift", reason="spend moved", harm=harm)
    found = gather_evidence.fn(SPEC, week(0).end, week(0), version=1, settings=settings).drift[0]
    assert (found.harm, found.harm_reason) == read
    assert found.reason == "spend moved"
