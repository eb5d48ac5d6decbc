"""What intervals cover and how often the gate is right, where the truth is known."""

from __future__ import annotations

import json

import pytest

from bench.gate import COVERED, TIMED, coverage, main, promoted

REPETITIONS = 2000


@pytest.mark.parametrize("rows", [100, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("metric", COVERED)
def test_intervals_cover_the_truth_as_often_as_they_say(metric: str, rows: int) -> None:
    shares = coverage(metric, rows, REPETITIONS, resamples=150, truth_rows=1_000_000)
    assert shares == pytest.approx((0.95, 0.95, 0.95), abs=0.02)  # difference, mine, theirs


@pytest.mark.parametrize("rows", [200, 2000])
def test_a_worse_challenger_is_hardly_ever_promoted(rows: int) -> None:
    found = promoted(rows, -0.01, REPETITIONS)
    assert found.share <= 0.05
    assert found.by_rule >= 0.35  # the rule "at least 99 % of the champion's score" takes it as often as not


def test_an_equal_challenger_is_promoted_no_oftener_than_the_confidence_allows() -> None:
    assert promoted(200, 0.0, REPETITIONS).share <= 0.05 + 0.01  # two standard errors of so many repetitions


def test_a_better_challenger_is_promoted_when_the_rows_can_show_it() -> None:
    assert promoted(2000, 0.03, REPETITIONS).share >= 0.8


def test_the_bench_tells_a_line_per_figure_with_its_correctness(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "gate_seconds", "--rows", "500", "--resamples", "60", "--repeat", "1"]) == 0
    assert main(["--only", "promoted", "--repetitions", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    timed, shares = lines[: len(TIMED)], lines[len(TIMED) :]
    assert [line["metric"] for line in timed] == list(TIMED)
    assert all(line["agrees"] and line["outcome"] != "refuse" and line["seconds"] > 0 for line in timed)
    assert len(shares) == 3 * 2 * 4 * 5 and all(0 <= line["promoted"] <= 1 for line in shares)
