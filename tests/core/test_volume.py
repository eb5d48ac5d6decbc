from __future__ import annotations

from datetime import timedelta

import pytest

from tasks.core.health.volume import judge_volume
from tasks.core.window import Window
from tests.make import START


def windows(count: int, length: timedelta) -> list[Window]:
    return [Window(START + n * length, START + (n + 1) * length) for n in range(count)]


@pytest.mark.parametrize(("rows", "outcome"), [(600, "ok"), (300, "ok"), (60, "drift"), (6000, "ok")])
def test_a_tenth_of_the_usual_rows_is_an_incident_and_a_half_is_not(rows: int, outcome: str) -> None:
    *before, now = windows(4, timedelta(days=7))
    found = judge_volume(now, rows, [(one, 600) for one in before])
    assert found.outcome == outcome
    assert [look.is_bad for look in found.looks()] == [outcome == "drift"]
    assert not found.looks()[0].is_bad or ("60 rows" in found.sentence() and "600" in found.sentence())


def test_a_weekend_is_compared_with_weekends() -> None:
    days = windows(22, timedelta(days=1))
    counts = [600 if day.start.weekday() < 5 else 60 for day in days]
    saturday = next(n for n in range(14, 22) if days[n].start.weekday() == 5)
    history = list(zip(days, counts, strict=True))[:saturday]
    assert judge_volume(days[saturday], 60, history).outcome == "ok"
    assert judge_volume(days[saturday], 6, history).outcome == "drift"
    monday = next(n for n in range(14, 22) if days[n].start.weekday() == 0)
    history = list(zip(days, counts, strict=True))[:monday]
    assert judge_volume(days[monday], 60, history).outcome == "drift"


def test_one_earlier_outage_does_not_become_the_usual() -> None:
    *before, now = windows(5, timedelta(days=7))
    assert judge_volume(now, 60, list(zip(before, (600, 600, 50, 600), strict=True))).outcome == "drift"


def test_without_earlier_windows_the_rows_of_training_count_where_a_window_has_all_weekdays() -> None:
    week, day = windows(1, timedelta(days=7))[0], windows(1, timedelta(days=1))[0]
    assert judge_volume(week, 60, [], trained=600.0).outcome == "drift"
    assert judge_volume(week, 500, [], trained=600.0).outcome == "ok"
    assert judge_volume(day, 60, [], trained=600.0).outcome == "undecided"
    assert not judge_volume(week, 60, []).looks()


def test_few_rows_and_windows_of_another_length_tell_nothing() -> None:
    *before, now = windows(4, timedelta(days=7))
    assert judge_volume(now, 1, [(one, 12) for one in before]).outcome == "undecided"
    days = windows(5, timedelta(days=1))
    assert judge_volume(now, 60, [(one, 600) for one in days]).outcome == "undecided"
