"""The demo year, through the real flows: what was planted is what the loop found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import flows.replay
from tasks.core.replay.summary import Summary, mean
from tasks.specfile import load_spec
from tests.loop.plainly import plainly

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The whole year, played once for all tests of this file: summary, folder, artifacts."""
    folder = tmp_path_factory.mktemp("year")
    artifacts: list[tuple[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        plainly(patch, artifacts=artifacts)
        patch.setenv("EVERGREEN_STATE_DIR", str(folder / "state"))
        patch.setenv("EVERGREEN_THREADS", "1")
        patch.setenv("EVERGREEN_PROBE", "here")
        spec = load_spec(
            "demo",
            ROOT / "prefect.yaml",
            overrides={"source.url": f"{folder}/inbox/*.parquet"},
        )
        summary = flows.replay.replay(spec, simulate="year", out=str(folder / "replay"))
    return summary, folder / "replay", artifacts


def in_phase(summary: Summary, kind: str) -> list[int]:
    """Return the indexes of the windows in which that was planted."""
    return [i for i, window in enumerate(summary.windows) if kind in window.planted]


def test_each_harmful_drift_is_followed_by_a_promotion(year: Any) -> None:
    summary = year[0]
    for kind in ("gradual", "sudden"):
        first = in_phase(summary, kind)[0]
        after = summary.windows[first : first + 5]
        assert any(
            window.outcome == "promoted" and window.cause in {"decay", "staleness"} for window in after
        ), kind


def test_the_harmless_drift_is_seen_but_not_retrained_for(year: Any) -> None:
    summary = year[0]
    windows = [summary.windows[i] for i in in_phase(summary, "covariate")]
    assert any(window.drift == "drift" for window in windows)
    assert not any(window.decision == "TRAIN" and window.cause in {"drift", "decay"} for window in windows)


def test_calm_and_season_windows_are_retrained_for_by_age_alone(year: Any) -> None:
    summary = year[0]
    first_harm = in_phase(summary, "gradual")[0]
    trained = [window for window in summary.windows[:first_harm] if window.decision == "TRAIN"]
    assert {window.cause for window in trained} <= {"staleness"}


def test_the_week_with_the_renamed_column_is_blocked_and_nothing_of_it_is_served(year: Any) -> None:
    summary = year[0]
    (index,) = in_phase(summary, "rename")
    window = summary.windows[index]
    assert (window.decision, window.rows, window.score) == ("BLOCK", 0, None)
    assert any("cust_age" in reason for reason in window.events)


def test_a_week_of_wrong_labels_starts_no_retraining_and_costs_no_score(year: Any) -> None:
    summary = year[0]
    (index,) = in_phase(summary, "labels")
    window = summary.windows[index]
    assert window.decision != "TRAIN"
    assert window.outcome != "promoted"
    assert summary.windows[index + 1].score == pytest.approx(window.score, abs=0.05)


def test_the_loop_holds_clearly_more_than_the_first_model_after_the_first_harmful_drift(year: Any) -> None:
    summary = year[0]
    first = in_phase(summary, "gradual")[0]
    loop = mean([window.score for window in summary.windows[first:]])
    never = mean([window.never_score for window in summary.windows[first:]])
    assert loop is not None
    assert never is not None
    assert loop - never > 0.05
    assert (
        mean([window.score for window in summary.windows]) or 0
    ) > 0.768  # held before staleness was measured


def test_the_report_and_the_summary_say_the_same(year: Any) -> None:
    summary, folder, artifacts = year
    told = json.loads((folder / "summary.json").read_text())
    assert set(told) >= {"model", "seconds", "retrainings", "promoted", "kept", "blocked", "windows"}
    assert len(told["windows"]) == len(summary.windows) == 22
    assert told["promoted"] == summary.promoted == sum(w["outcome"] == "promoted" for w in told["windows"])
    page = (folder / "report.html").read_text()
    assert "plotly" in page.lower()
    assert re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?!data:)", page) == []
    assert {"validation", "comparison", "drift", "decision"} <= {what for what, _ in artifacts}
