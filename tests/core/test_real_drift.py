"""The electricity market of New South Wales, 1996 to 1998: `bench/real_drift.py` has all the figures."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bench.real_drift import BREAK, DATA, QUARTER, VICTORIA, longest, play, read, spec_of

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no {DATA.name} in ../shared/data")
WEEK, DAY = timedelta(days=7), timedelta(days=1)


@pytest.fixture(scope="module")
def rows():
    return read(DATA)


@pytest.fixture(scope="module")
def renewed(rows):
    """Two years of weeks, against the 90 days before, made anew every 13 weeks."""
    return list(play(rows, spec_of("7d"), refresh=QUARTER))


def test_the_break_is_caught_in_its_first_full_week_and_named_by_feature(renewed):
    first = next(check for check in renewed if check.window.start == BREAK)
    assert first.alarm
    assert set(first.verdict.drifted) == VICTORIA  # and not the two features of New South Wales
    before = [check for check in renewed if check.window.start < BREAK]
    assert len(before) == 39
    assert not any(VICTORIA & set(check.verdict.drifted) for check in before)


def test_the_break_is_caught_on_its_first_day_against_the_same_weekday(rows):
    (first,) = play(rows, spec_of("1d"), refresh=None, begin=BREAK, end=BREAK + DAY)
    assert first.against == "calendar"
    assert first.verdict.drifted == ("vicprice", "vicdemand", "transfer")


def test_the_seasons_do_not_keep_the_alarm_on_against_a_champion_of_last_winter(rows):
    # 39 weeks of spring, summer and autumn against one winter: 2 alarm; 4 are let pass, and no 3 in a row
    alarms = [check.alarm for check in play(rows, spec_of("7d"), refresh=None, end=BREAK)]
    assert len(alarms) == 39
    assert sum(alarms) <= 4
    assert longest(alarms) <= 2


def test_the_seasons_do_not_keep_the_alarm_on_against_champions_of_a_quarter_ago(renewed):
    # 109 weeks, without the quarter in which every window rightly differs from before the break: 8 alarm,
    # at most 3 in a row; 16 are let pass, and 4 in a row
    alarms = [c.alarm for c in renewed if not BREAK <= c.window.start < BREAK + QUARTER]
    assert len(alarms) == 109
    assert sum(alarms) <= 16
    assert longest(alarms) <= 4
