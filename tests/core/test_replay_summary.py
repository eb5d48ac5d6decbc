"""The totals, the JSON and the pictures of a replay, from windows written by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.core.replay.chart import LANES, planted_spans, replay_figure, version_spans
from tasks.core.replay.summary import Summary, WindowResult

START = datetime(2025, 3, 3, tzinfo=UTC)


def window(number: int, **over: Any) -> WindowResult:
    start = START + timedelta(days=14 * number)
    given: dict[str, Any] = {
        "rows": 100,
        "score": 0.8,
        "never_score": 0.8,
        "version": 1,
        "verdict": "ok",
        "decision": "SKIP",
        "drift": "ok",
        "performance": "ok",
    }
    return WindowResult(start, start + timedelta(days=14), **{**given, **over})


def summary() -> Summary:
    return Summary(
        "churn",
        61.26,
        (
            window(0),
            window(1, drift="drift", verdict="drift", planted="covariate", planted_note="younger"),
            window(2, decision="BLOCK", outcome="blocked", score=None, never_score=None, planted="rename"),
            window(3, decision="TRAIN", outcome="kept", score=0.6, never_score=0.6, performance="drift"),
            window(4, decision="TRAIN", outcome="promoted", score=0.6, never_score=0.6, performance="drift"),
            window(5, version=2, score=0.8, never_score=0.5, planted="sudden", harmful=True),
            window(6, version=2, score=float("nan"), never_score=0.5, planted="sudden", harmful=True),
        ),
        metric="roc_auc",
    )


def test_totals_are_counted_from_the_windows_and_means_leave_out_what_was_not_scored() -> None:
    found = summary()
    assert (found.retrainings, found.promoted, found.kept, found.blocked) == (2, 1, 1, 1)
    assert found.mean_score == pytest.approx((0.8 + 0.8 + 0.6 + 0.6 + 0.8) / 5)
    assert found.never_mean_score == pytest.approx((0.8 + 0.8 + 0.6 + 0.6 + 0.5 + 0.5) / 6)


def test_a_block_is_counted_once_whether_policy_or_retraining_found_it() -> None:
    by_policy, by_both = window(0, decision="BLOCK"), window(1, decision="BLOCK", outcome="blocked")
    by_retraining = window(2, decision="TRAIN", outcome="blocked")
    assert Summary("m", 1.0, (by_policy, by_both, by_retraining)).blocked == 3
    assert Summary("m", 1.0, (by_retraining,)).retrainings == 0


def test_the_json_has_exactly_the_agreed_keys_and_survives_strict_json() -> None:
    content = summary().to_json()
    assert list(content) == [
        "model", "seconds", "retrainings", "promoted", "kept", "blocked", "mean_score", "never_mean_score",
        "windows",
    ]  # fmt: skip
    first = content["windows"][0]
    assert {"start", "end", "rows", "score", "version", "verdict", "decision"} <= set(first)
    assert first["start"] == "2025-03-03T00:00:00+00:00"
    assert content["windows"][6]["score"] is None
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_a_replay_without_windows_says_so_and_has_no_mean() -> None:
    empty = Summary("churn", 1.0)
    assert empty.sentences() == ["No window of churn was served, so there is nothing to say yet."]
    assert empty.to_json()["mean_score"] is None
    assert replay_figure(empty)["layout"]["yaxis"]["range"] is None


def test_the_first_paragraph_says_what_was_held_done_and_stopped() -> None:
    text = " ".join(summary().sentences())
    assert text == (
        "From 3 March 2025 to 9 June 2025 the loop served 7 windows of churn and held a mean roc_auc of "
        "0.720. "
        "The first model, never retrained, would have held 0.633. "
        "In the 2 windows after the first promotion the two stand at 0.800 and 0.500. "
        "It retrained 2 times: 1 promoted, 1 kept back by the gate. "
        "In 1 window the data could not be trusted, and nothing was trained on it."
    )


def test_a_replay_without_retraining_says_so() -> None:
    assert "It never retrained." in Summary("m", 1.0, (window(0),)).sentences()


def test_every_event_stands_in_its_lane_under_its_window() -> None:
    figure = replay_figure(summary())
    lanes = {trace["name"]: trace for trace in figure["data"] if trace.get("yaxis") == "y2"}
    middles = [(START + timedelta(days=14 * number + 7)).isoformat() for number in range(7)]
    assert {name: trace["x"] for name, trace in lanes.items()} == {
        "drift": [middles[1]],
        "decay": [middles[3], middles[4]],
        "blocked": [middles[2]],
        "kept": [middles[3]],
        "promoted": [middles[4]],
    }
    names = figure["layout"]["yaxis2"]["ticktext"]
    assert [names[trace["y"][0]] for trace in lanes.values()] == list(lanes)
    assert len(LANES) == len(lanes)


def test_scores_that_could_not_be_told_are_gaps_not_zeros() -> None:
    never, loop = replay_figure(summary())["data"][:2]
    assert loop["y"] == [0.8, 0.8, None, 0.6, 0.6, 0.8, None]
    assert never["y"][2] is None
    assert loop["connectgaps"] is False


def test_versions_and_planted_trouble_span_their_unbroken_windows() -> None:
    windows = summary().windows
    assert [(v, a.start, b.end) for v, a, b in version_spans(windows)] == [
        (1, windows[0].start, windows[4].end),
        (2, windows[5].start, windows[6].end),
    ]
    assert [(a.planted, a.start, b.end) for a, b in planted_spans(windows)] == [
        ("covariate", windows[1].start, windows[1].end),
        ("rename", windows[2].start, windows[2].end),
        ("sudden", windows[5].start, windows[6].end),
    ]


def test_a_window_served_by_nothing_has_no_version_on_the_axis() -> None:
    assert list(version_spans([window(0, version=None)])) == []
