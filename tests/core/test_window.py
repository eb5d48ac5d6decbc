from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import SpecError
from tasks.core.window import Window, parse_duration, utc

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001  # hypothesis adds the zone
    max_value=datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("5m", 300), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600), ("0d", 0)],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["7", "d", "1.5d", "-1d", "7 d", "7D", "7d\n", " 7d", "７d", "7d12h", "", "9" * 12 + "w"]
)
def test_any_other_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(SpecError, match="a whole number and one of s, m, h, d, w") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


def test_the_longest_duration_still_fits() -> None:
    assert parse_duration("99999999w") == timedelta(weeks=99_999_999)
    with pytest.raises(SpecError, match="99999999w"):
        Window.ending(T0, "99999999w")


def test_a_naive_moment_is_refused() -> None:
    for make in (
        utc,
        lambda t: Window(t, T0),
        lambda t: Window.ending(t, "1d"),
        lambda t: t in Window.ending(T0, "1d"),
    ):
        with pytest.raises(SpecError, match="naive datetime 2026-01-01"):
            make(datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window.ending(T0, "1d")
    assert window.start in window
    assert window.end not in window
    assert window.end - timedelta(microseconds=1) in window
    assert window.length == timedelta(days=1)


def test_a_window_is_the_same_in_whatever_zone_it_was_given() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    given_east = Window(datetime(2026, 1, 1, 5, 30, tzinfo=east), datetime(2026, 1, 2, 5, 30, tzinfo=east))
    assert given_east == Window(T0, T0 + timedelta(days=1))
    assert str(given_east) == "2026-01-01T00:00Z..2026-01-02T00:00Z"
    assert pickle.loads(pickle.dumps(given_east)) == given_east  # noqa: S301  # our own bytes


@pytest.mark.parametrize("length", [timedelta(0), -timedelta(seconds=1)])
def test_a_window_without_length_is_refused(length: timedelta) -> None:
    with pytest.raises(SpecError, match="a start before its end"):
        Window(T0, T0 + length)


def test_a_window_name_shows_seconds_only_where_there_are_some() -> None:
    assert str(Window(T0, T0 + timedelta(seconds=5))) == "2026-01-01T00:00Z..2026-01-01T00:00:05Z"
    assert str(Window(T0, T0 + timedelta(microseconds=5))).endswith("..2026-01-01T00:00:00.000005Z")


@pytest.mark.parametrize("step", [timedelta(0), -timedelta(days=1)])
def test_a_split_that_would_never_end_is_refused(step: timedelta) -> None:
    with pytest.raises(SpecError, match="longer than nothing"):
        list(Window.ending(T0, "7d").split(step))


@given(start=MOMENTS, hours=st.integers(1, 2000), step=st.integers(1, 300), offset=st.integers(-10, 2010))
def test_a_partition_loses_and_doubles_no_moment(start: datetime, hours: int, step: int, offset: int) -> None:
    whole = Window(start, utc(start) + timedelta(hours=hours))
    parts = list(whole.split(timedelta(hours=step)))
    assert len(parts) == hours // step
    covered = Window(whole.start, whole.start + timedelta(hours=step) * len(parts)) if parts else None
    moment = whole.start + timedelta(hours=offset)
    assert sum(moment in part for part in parts) == int(covered is not None and moment in covered)
    assert all(left.end == right.start for left, right in pairwise(parts))


@given(start=MOMENTS, minutes=st.integers(1, 100_000), count=st.integers(1, 20))
def test_earlier_windows_meet_without_gap(start: datetime, minutes: int, count: int) -> None:
    window = Window(start, utc(start) + timedelta(minutes=minutes))
    assert window.before().end == window.start
    assert window.before(count).length == window.length
    assert window.before(count).before() == window.before(count + 1)
