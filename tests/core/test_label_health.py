"""Labels that cease to come are noticed, those that come as usual are not, by simulation with known truth."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tasks.core.labels.health import judge_labels
from tasks.core.labels.late import MOST_AT_ONCE, Judged, reopened
from tasks.core.window import Window

USUAL = [0.9, 0.95, 0.92]


def judged(predictions: int, labelled: int, earlier: list[float] = USUAL, **over: object):
    given = {"earlier": earlier, "min_rows": 50, **over}
    return judge_labels(predictions, labelled, [3600.0] * labelled, **given)


@pytest.mark.parametrize(
    ("predictions", "labelled", "earlier", "outcome"),
    [
        (400, 380, USUAL, "ok"),
        (400, 240, USUAL, "ok"),  # above a half is nobody's business
        (400, 160, USUAL, "warn"),
        (400, 140, USUAL, "drift"),
        (400, 0, USUAL, "drift"),
        (400, 100, [0.4, 0.4, 0.4], "warn"),
        (400, 40, [0.4, 0.4, 0.4], "drift"),
        (400, 20, [0.05, 0.05, 0.06], "ok"),  # where few are ever labelled that is no news
        (400, 120, [], "warn"),
        (400, 120, [0.9, float("nan"), 0.9], "warn"),
        (400, 0, [], "undecided"),
        (400, 0, [0.0, 0.0, 0.0], "undecided"),
        (49, 0, USUAL, "undecided"),
        (0, 0, USUAL, "undecided"),
    ],
)
def test_the_table_of_coverages_holds(
    predictions: int, labelled: int, earlier: list[float], outcome: str
) -> None:
    found = judged(predictions, labelled, earlier)
    assert found.outcome == outcome
    assert bool(found.reason) == (outcome != "ok")


def test_a_window_whose_labels_are_not_mature_is_undecided() -> None:
    found = judged(400, 0, is_mature=False)
    assert (found.outcome, found.reason) == ("undecided", "its labels are not mature yet")


def test_delays_are_numpys_percentiles_and_the_summary_is_json() -> None:
    delays = np.random.default_rng(0).gamma(2.0, 40_000.0, 300)
    found = judge_labels(320, 300, delays, earlier=USUAL, min_rows=50, corrected=7, unmatched=3)
    assert found.delay_p50_s == pytest.approx(np.percentile(delays, 50))
    assert found.delay_p95_s == pytest.approx(np.percentile(delays, 95))
    kept = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert (kept["predictions"], kept["labelled"], kept["corrected"], kept["unmatched"]) == (320, 300, 7, 3)
    assert kept["coverage"] == 300 / 320
    assert kept["usual"] == 0.92
    empty = judged(0, 0, []).summary()
    assert (empty["coverage"], empty["usual"], empty["delay_p50_s"]) == (None, None, None)
    assert judged(0, 0, []).sentence().startswith("labels undecided: 0 of 0 predictions labelled;")
    assert "usually 92 %" in judged(400, 0).sentence()


def test_labels_that_come_as_usual_alarm_no_more_often_than_promised_and_a_halt_always_does() -> None:
    rng = np.random.default_rng(7)
    alarms, halts, runs = 0, 0, 400
    for _ in range(runs):
        truth, rows = rng.uniform(0.05, 0.45), int(rng.integers(60, 800))
        earlier = (rng.binomial(rows, truth, 8) / rows).tolist()
        alarms += judged(rows, int(rng.binomial(rows, truth)), earlier).outcome in ("warn", "drift")
        before = judged(500, int(rng.binomial(500, 0.02)), [0.9] * 5)
        halts += before.outcome == "drift"
    assert alarms <= 0.01 * runs
    assert halts == runs


def day(number: int) -> Window:
    start = datetime(2026, 1, 5, tzinfo=UTC) + number * timedelta(days=1)
    return Window(start, start + timedelta(days=1))


def test_windows_are_reopened_by_what_came_since_the_newest_few_first() -> None:
    assert reopened([]) == []
    still = [Judged(day(n), 5, 5) for n in range(9)]
    assert reopened(still) == []
    late = [Judged(day(n), 5, 6) for n in (8, 1, 2, 3, 4, 5, 6)]
    assert reopened([*still, *late]) == [day(n) for n in (3, 4, 5, 6, 8)]
    assert len(reopened(late)) == MOST_AT_ONCE
    assert reopened([Judged(day(1), None, 3), Judged(day(2), None, 0)]) == [day(1)]


def test_nothing_known_is_not_a_number() -> None:
    assert math.isnan(judged(400, 100, [0.9]).usual)


def test_a_window_that_tells_nothing_is_neither_a_bad_look_nor_a_clean_one() -> None:
    assert judge_labels(40, 0, [], earlier=[0.9, 0.95, 1.0], min_rows=50).looks() == ()
    (bad,) = judge_labels(400, 0, [], earlier=[0.9, 0.95, 1.0], min_rows=50).looks()
    (clean,) = judge_labels(400, 390, [60.0] * 390, earlier=[0.9, 0.95, 1.0], min_rows=50).looks()
    assert (bad.cause, bad.tier, bad.is_bad, clean.is_bad) == ("label coverage", "warning", True, False)
