"""Verdicts as a calendar: every window in its place, and none where no check ran."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records.drift_calendar import MEANINGS, SYMBOLS, Calendar, calendar_of, how_many
from tasks.core.records.drift_rows import PastVerdict
from tasks.core.window import Window
from tests.drifted import DAY, START, day, past

HOUR = timedelta(hours=1)


def verdicts(length: timedelta, *outcomes: str) -> list[PastVerdict]:
    """Return verdicts of consecutive windows; an empty outcome is a check that did not run."""
    return [
        PastVerdict(Window(START + place * length, START + (place + 1) * length), 1, outcome)
        for place, outcome in enumerate(outcomes)
        if outcome
    ]


def grid(calendar: Calendar) -> list[str]:
    return ["".join(cell.symbol if cell else " " for cell in line.cells) for line in calendar.lines]


def test_days_stand_under_their_weekday_and_the_newest_is_marked() -> None:
    calendar = calendar_of(past("ok", "ok", "warn", "drift", "undecided", "ok", "ok", "ok", "drift"))
    assert calendar.heads == ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    assert [line.label for line in calendar.lines] == ["5 Jan 2026", "12 Jan 2026"]
    assert grid(calendar) == ["✓✓!▲?✓✓", "✓▲     "]
    marked = [cell.title for line in calendar.lines for cell in line.cells if cell and cell.now]
    assert marked == ["Tue 13 Jan 2026: drift"]
    assert dict(calendar.counts) == {"ok": 5, "warn": 1, "drift": 2, "undecided": 1}


def test_a_check_that_did_not_run_shows_as_such() -> None:
    calendar = calendar_of(verdicts(DAY, "ok", "ok", "", "ok", "ok"))
    assert grid(calendar) == ["✓✓–✓✓  "]
    assert calendar.lines[0].cells[2] is not None
    assert calendar.lines[0].cells[2].title == "Wed 7 Jan 2026: no check on record"


def test_hours_stand_by_day_and_weeks_by_quarter() -> None:
    hours = calendar_of(verdicts(HOUR, *["ok"] * 30))
    assert (hours.unit, len(hours.heads), hours.heads[23]) == ("hour", 24, "23")
    assert [line.label for line in hours.lines] == ["5 Jan 2026", "6 Jan 2026"]
    weeks = calendar_of(verdicts(7 * DAY, *["ok"] * 20))
    assert (weeks.unit, [line.label for line in weeks.lines]) == ("week", ["Q1 2026", "Q2 2026"])


def test_a_cell_names_window_outcome_and_features() -> None:
    one = PastVerdict(day(0), 1, "drift", "", ("spend", "plan", "age", "region"))
    silent = PastVerdict(day(1), 1, "undecided", "9 rows; __score__ too")
    cells = [cell.title for cell in calendar_of([one, silent]).lines[0].cells if cell]
    assert cells == [
        "Mon 5 Jan 2026: drift in spend, plan, age and 1 more",
        "Tue 6 Jan 2026: could not be judged (9 rows; the model's score too)",
    ]


def test_every_outcome_has_a_sign_of_its_own() -> None:
    assert len(set(SYMBOLS.values())) == len(SYMBOLS) == len(MEANINGS)


def test_without_verdicts_there_is_no_calendar() -> None:
    assert calendar_of([]).lines == ()


def test_a_pause_of_years_makes_no_endless_calendar() -> None:
    old = PastVerdict(Window(START - 3000 * DAY, START - 2999 * DAY), 1, "ok")
    assert sum(count for _, count in calendar_of([old, *past("ok", "ok")]).counts) <= 401


@given(
    st.sampled_from([15, 60, 6 * 60, 24 * 60, 3 * 24 * 60, 7 * 24 * 60, 30 * 24 * 60]),
    st.lists(st.sampled_from(["", "ok", "warn", "drift", "undecided"]), min_size=1, max_size=60),
)
def test_every_window_has_one_cell_whatever_its_length(minutes: int, outcomes: list[str]) -> None:
    given_ = verdicts(timedelta(minutes=minutes), *outcomes)
    calendar = calendar_of(given_)
    shown = [cell for line in calendar.lines for cell in line.cells if cell]
    assert sum(cell.outcome != "none" for cell in shown) == len(given_)
    assert sum(count for _, count in calendar.counts) == len(shown)
    assert sum(cell.now for cell in shown) == bool(given_)
    assert all(len(line.cells) == len(calendar.heads) for line in calendar.lines)


@pytest.mark.parametrize(("length", "windows"), [(HOUR, 168), (DAY, 91), (7 * DAY, 53)])
def test_a_calendar_is_long_enough_to_see_a_season_of_its_windows(length: timedelta, windows: int) -> None:
    assert how_many(length) == windows
