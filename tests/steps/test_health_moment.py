"""Health of the moment, of what is expected no more, and of days whose predictions moved to files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.compact import compact_log
from tasks.core.health.alarms import Alarm
from tasks.core.window import Window
from tasks.decide import record_check, windows_to_judge
from tasks.health import burning, health, prediction_shift, realised_slices, spent_budget, staleness
from tasks.notify import signal
from tasks.settings import Settings
from tasks.store import alerts, checks, partition_files, partitions, service
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.steps.test_health import (
    SPEC,
    T0,
    champion,
    check,
    count,
    counted,
    day,
    label,
    ran,
    serve,
    settings_of_both,  # noqa: F401 -- a fixture
)

HOUR = timedelta(hours=1)


def test_an_outage_in_the_middle_of_the_day_pages_while_it_lasts_and_is_over_when_it_is(
    settings_of_both: Settings,  # noqa: F811
) -> None:
    engine, length = open_store(settings_of_both), timedelta(minutes=10)
    begun, over = day(1).start + 9 * HOUR, day(1).start + 17 * HOUR
    moments = [day(0).start + step * length for step in range(2 * 144)]
    is_out = [begun <= moment < over for moment in moments]
    count(engine, *(counted(moment, 100, status=503 if out else 200) for moment, out in zip(
        moments, is_out, strict=True)))  # fmt: skip
    said = {}
    for hours in (8, 12.0125, 23):
        now = day(1).start + timedelta(hours=hours)
        found = health.fn(SPEC, day(-2), None, as_of=now, dry_run=True, settings=settings_of_both)
        said[hours] = {one.cause: (one.tier, one.is_bad) for one in found.alarms}
        assert found.service.outcome == "ok", "the day before was fine"
    assert said[8]["burn"] == ("warning", False)
    assert said[12.0125]["burn"] == ("critical", True)
    assert said[23]["burn"] == ("warning", False), "nothing is lost any more: nobody is woken"
    looked = burning(SPEC, as_of=begun + HOUR + timedelta(seconds=59), settings=settings_of_both)
    assert looked == burning(SPEC, as_of=begun + HOUR, settings=settings_of_both), "to the minute"


def test_the_incident_of_a_flow_that_was_retired_ends_and_that_of_one_that_fails_does_not(
    settings: Settings,
) -> None:
    engine = open_store(settings)
    for number in range(20):
        ran(engine, "score", day(number).end, "Scored")
        ran(engine, "detect_drift", day(number).end)
    opened, ended = {}, {}
    for number in range(20, 55):
        ran(engine, "detect_drift", day(number).end, "Failed")
        looked = staleness(SPEC, as_of=day(number).end, running="monitor", settings=settings)
        alarms = [
            Alarm(f"stale {one.what}", one.tier, one.message, one.is_stale)
            for one in looked
            if one.newest is not None or one.is_forgotten
        ]
        found = signal.fn(SPEC, alarms, look=f"w{number}", as_of=day(number).end, settings=settings)
        opened |= dict.fromkeys(found.opened, number)
        ended |= dict.fromkeys(found.ended, number)
    assert set(opened) == {"stale run of score", "stale run of detect_drift"}
    assert set(ended) == {"stale run of score"}
    assert 45 <= ended["stale run of score"] <= 50, "after a period in which nobody ran it"
    assert [one.cause for one in alerts.history(engine, "churn", open_only=True)] == [
        "stale run of detect_drift"
    ]


def test_a_groups_usual_score_is_of_windows_that_have_no_rows_in_common(
    settings: Settings, tmp_path: Path
) -> None:
    spec = make_spec(
        window={"training": "28d", "check": "7d"},
        label={"column": "churned", "maturity": "2d"},
        gate={"slices": ["plan"]},
    )
    engine, incumbent = open_store(settings), champion(tmp_path)
    for number in range(60):
        window = Window(day(number).start, day(number + 7).start)
        score = 0.5 + number / 1000
        said = {"column": "plan", "value": "pro", "score": score, "low": score - 0.1, "high": score + 0.1}
        check(engine, "slices", window, slices=[{**said, "outcome": "ok"}])
    label(engine, serve(engine, 66), day(69).start)
    window = Window(day(66).start, day(73).start)
    found = realised_slices(spec, window, incumbent, as_of=day(75).end, settings=settings)
    usual = {one.value: one.usual for one in found.slices}["pro"]
    apart = [0.5 + number / 1000 for number in (59, 52, 45, 38, 31, 24)]
    assert usual == pytest.approx(np.mean(apart))


def test_the_budget_of_a_healthy_model_with_small_windows_is_not_overspent(settings: Settings) -> None:
    engine, wide = open_store(settings), {"promise": 0.8, "confidence": 0.95, "limit": 0.784}
    for number in range(30):
        value = 0.76 if number % 3 == 0 else 0.82
        check(engine, "performance", day(number), value=value, low=value - 0.08, high=value + 0.08, **wide)
    found = spent_budget(SPEC, as_of=day(29).end, settings=settings)
    assert (found.missed, found.outcome, found.share) == (10, "warn", pytest.approx(1 / 3))
    sure = {**wide, "low": 0.759, "high": 0.761}
    for number in range(0, 30, 3):
        check(engine, "performance", day(number), "drift", value=0.76, **sure)
    certain = spent_budget(SPEC, as_of=day(29).end, settings=settings)
    assert (certain.missed, certain.outcome) == (10, "warn"), "the others could have missed"
    for number in range(30):
        check(engine, "performance", day(number), "drift", value=0.76, **sure)
    assert spent_budget(SPEC, as_of=day(29).end, settings=settings).outcome == "drift"


# Days that moved to files.

KEPT = make_spec(
    window={"training": "28d", "check": "1d"},
    label={"column": "churned", "maturity": "2d"},
    serving={"keep": "40d", "keep_files": None},
)


@pytest.fixture
def moved(settings_of_both: Settings) -> Settings:  # noqa: F811
    """A store whose first week moved to files, which has one day more."""
    engine = open_store(settings_of_both)
    for number in (*range(7), 50):
        serve(engine, number, rows=80)
    done = compact_log.fn(KEPT, as_of=day(59).end, dry_run=False, settings=settings_of_both)
    assert done.days == 7
    return settings_of_both


def test_a_decided_check_of_a_moved_day_stands_and_such_a_day_is_not_judged_again(moved: Settings) -> None:
    engine = open_store(moved)
    check(engine, "performance", day(5), value=0.9, limit=0.8, labels_heard="2026")
    check(engine, "performance", day(50), value=0.9, limit=0.8, labels_heard="2026")

    class Nothing:
        outcome = "undecided"

        def summary(self) -> dict[str, Any]:
            return {"reason": "no predictions in this window"}

    def recorded(kind: checks.Kind, number: int) -> str:
        return record_check.fn(
            KEPT, kind, day(number), Nothing(), version=3, as_of=day(number + 2).end, settings=moved
        ).outcome

    assert recorded("performance", 5) == "ok"
    assert recorded("performance", 50) == "undecided", "its predictions are all there"
    assert recorded("performance", 6) == "undecided", "nothing stood"
    assert [one.revision for one in checks.recent(engine, "churn", "performance", 3, day(60).end)] == [
        1, 1, 2,
    ]  # fmt: skip
    assert windows_to_judge.fn(KEPT, day(7), 3, as_of=day(9).end, settings=moved) == [day(7)]
    assert windows_to_judge.fn(KEPT, day(52), 3, as_of=day(54).end, settings=moved) == [day(50), day(52)]


def test_health_of_moved_days_leaves_what_was_found_and_reads_predictions_from_the_files(
    moved: Settings, tmp_path: Path
) -> None:
    engine, incumbent = open_store(moved), champion(tmp_path)
    for kind in ("service", "slices", "predictions"):
        check(engine, kind, day(5))  # type: ignore[arg-type]
    shift = prediction_shift(KEPT, day(5), incumbent, settings=moved)
    assert (shift.outcome, shift.rows) != ("undecided", 0)
    assert shift.rows == 80
    found = health.fn(KEPT, day(3), incumbent, as_of=day(5).end, settings=moved)
    assert found.slices.outcome == "undecided"
    for kind in ("service", "predictions"):
        assert [one.revision for one in checks.recent(engine, "churn", kind, 1, day(5).end)] == [1]  # type: ignore[arg-type]
    assert service.first_event(engine, "churn", 3, settings=moved) == T0
    assert service.first_event(engine, "churn", 3, since=day(2).end, settings=moved) == day(3).start
    assert service.first_event(engine, "churn", 9, settings=moved) is None
    plain = champion(tmp_path, scores=False)
    found = prediction_shift(KEPT, day(4), plain, settings=moved)
    assert (found.rows, found.reference_rows, found.against) == (80, 240, "its first 3 windows")
    for part in partitions.of_window(engine, "churn", day(1)):
        partition_files.remove(part, moved, model="churn")
    assert prediction_shift(KEPT, day(4), plain, settings=moved).reference_rows == 0, "a file is gone"
