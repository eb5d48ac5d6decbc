"""When incidents open, end and wait, against rules written a second time in the plainest way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.messages import in_words
from tasks.core.policy.alerting import (
    Look,
    Patience,
    is_fact,
    is_over,
    is_overdue,
    look_of,
    one_per_cause,
    opens_as,
    patience_with,
    quiet_until,
)
from tasks.core.policy.decision import CheckOutcome, Evidence, decide
from tasks.core.policy.probation import rollback_cause
from tasks.core.spec_alerts import Alerts, Quiet
from tasks.core.window import Window
from tests.make import make_spec

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def looks(marks: str, cause: str = "decay") -> list[Look]:
    """Return looks, oldest first: c and w are bad ones in these tiers, i too, and . is clean."""
    tiers = {"c": "critical", "w": "warning", "i": "info", ".": "info"}
    return [Look(cause, tiers[mark], mark != ".") for mark in marks]


OPENINGS = [
    ((1, 1), "w", "warning"),
    ((1, 1), ".", None),
    ((1, 1), "", None),
    ((2, 3), "w", None),
    ((2, 3), "w.w", "warning"),
    ((2, 3), "ww.", None),
    ((2, 3), "w..w", None),
    ((2, 3), "wc", "warning"),
    ((2, 3), "cwc", "critical"),
    ((2, 3), "ccw", "warning"),
    ((2, 3), "cci", "info"),
    ((3, 3), "www", "warning"),
    ((3, 3), "w.w", None),
]


@pytest.mark.parametrize(("rule", "marks", "tier"), OPENINGS, ids=[f"{r} {m}" for r, m, _ in OPENINGS])
def test_an_incident_opens_as_loud_as_enough_looks_and_the_newest(
    rule: tuple[int, int], marks: str, tier: str | None
) -> None:
    assert opens_as(looks(marks), Patience(*rule)) == tier


def test_an_incident_ends_after_enough_clean_looks_and_never_before() -> None:
    assert is_over(looks("w.."), Patience(clean=2))
    assert not is_over(looks("w.w"), Patience(clean=1))
    assert not is_over(looks(".w."), Patience(clean=2))
    assert not is_over(looks("."), Patience(clean=2)), "too few looks"
    assert not is_over([], Patience())


@given(
    marks=st.lists(st.booleans(), max_size=40),
    least=st.integers(1, 4),
    more=st.integers(0, 3),
    clean=st.integers(1, 4),
)
def test_open_and_over_follow_a_machine_written_the_plain_way(
    marks: list[bool], least: int, more: int, clean: int
) -> None:
    rule = Patience(least, least + more, clean)
    ours, plain = False, False
    for number in range(len(marks)):
        seen = [Look("decay", "warning", bad) for bad in marks[: number + 1]]
        ours = not is_over(seen, rule) if ours else opens_as(seen, rule) is not None
        last = marks[max(0, number + 1 - rule.of) : number + 1]
        if plain:
            plain = number + 1 < clean or any(marks[number + 1 - clean : number + 1])
        else:
            plain = marks[number] and last.count(True) >= rule.bad
        assert ours == plain


def test_patience_forgives_chance_and_does_not_miss_what_lasts() -> None:
    """Known truth: looks are bad by chance in 5 of 100, and in 90 of 100 while something is wrong."""
    rng = np.random.default_rng(6)
    opened = {}
    for rule in (Patience(), Patience(2, 3, 2)):
        calm = rng.random((200, 30)) < 0.05
        wrong = rng.random((200, 6)) < 0.9
        opened[rule] = [
            np.mean([any(_opens(row[: n + 1], rule) for n in range(len(row))) for row in rows])
            for rows in (calm, wrong)
        ]
    # One look of 30 is bad with 1 - .95**30; two of three in a row of 30, about 1 - exp(-28 * 2 * .0025).
    assert opened[Patience()][0] == pytest.approx(1 - 0.95**30, abs=0.08)
    assert opened[Patience(2, 3, 2)][0] == pytest.approx(1 - np.exp(-57 * 0.0025), abs=0.08)
    assert opened[Patience(2, 3, 2)][1] > 0.99


def _opens(marks: np.ndarray, rule: Patience) -> bool:
    return opens_as([Look("decay", "warning", bool(bad)) for bad in marks[-3:]], rule) is not None


def test_nobody_is_patient_with_what_happened() -> None:
    asked = Alerts(open_after=(2, 3), close_after=3)
    for cause in (rollback_cause(4), "launch", "approval v12", "retraining", "champion cannot serve"):
        assert patience_with(cause, asked) == Patience(), cause
    for cause in ("decay", "data", "service", "launching pads", "harm"):
        assert not is_fact(cause)
        assert patience_with(cause, asked) == Patience(2, 3, 3), cause
    assert patience_with("decay", Alerts()).is_none


def test_an_unknown_tier_is_no_look() -> None:
    with pytest.raises(ValueError, match="tier 'page'"):
        Look("decay", "page", True)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cwi.")), max_size=8))
def test_several_looks_at_one_cause_are_one_as_bad_and_loud_as_the_worst(pairs: list) -> None:
    given_looks = [look for cause, mark in pairs for look in looks(mark, cause)]
    merged = one_per_cause(given_looks)
    assert [one.cause for one in merged] == list(dict.fromkeys(cause for cause, _ in pairs))
    for one in merged:
        marks = "".join(mark for cause, mark in pairs if cause == one.cause)
        worst = next((mark for mark in "cwi" if mark in marks), ".")
        assert (one.is_bad, one.tier) == (worst != ".", looks(worst)[0].tier)


def test_a_warning_is_overdue_after_its_time_and_only_a_warning() -> None:
    rules = Alerts(escalate_after="2h")
    assert not is_overdue("warning", AT, AT + 2 * HOUR, rules)
    assert is_overdue("warning", AT, AT + 2 * HOUR + timedelta(seconds=1), rules)
    assert not is_overdue("info", AT, AT + 900 * HOUR, rules)
    assert not is_overdue("critical", AT, AT + 900 * HOUR, rules)
    assert not is_overdue("warning", AT, AT + 900 * HOUR, Alerts())


def test_a_look_of_a_decision_is_the_window_that_was_checked_not_the_moment() -> None:
    window = Window.ending(AT, "7d")
    evidence = Evidence(
        as_of=AT + HOUR,
        drift=(CheckOutcome(window, "drift"),),
        performance=(CheckOutcome(window.before(), "ok"),),
        window=window.before(5),
    )
    first = decide(evidence, make_spec())
    assert look_of(first, "drift") == look_of(first, "harm") == f"window {window}"
    assert look_of(first, "decay") == f"window {window.before()}"
    assert look_of(first, "data") == f"window {window.before(5)}"


# Quiet hours, against the wall clock read minute by minute.

NIGHT = Quiet(start="22:00", end="07:00", timezone="Europe/Berlin")
NOON = Quiet(start="12:00", end="13:30", timezone="America/New_York")
# Both changes of both zones, an ordinary week, a zone off by a quarter of an hour, one without change.
SPANS = [
    (NIGHT, datetime(2026, 3, 28, tzinfo=UTC)),
    (NIGHT, datetime(2026, 10, 24, tzinfo=UTC)),
    (NIGHT, datetime(2026, 6, 1, tzinfo=UTC)),
    (NOON, datetime(2026, 3, 7, tzinfo=UTC)),
    (NOON, datetime(2026, 10, 31, tzinfo=UTC)),
    (Quiet(start="23:15", end="00:45", timezone="Asia/Kathmandu"), datetime(2026, 6, 1, tzinfo=UTC)),
    (Quiet(start="00:00", end="23:59"), datetime(2026, 6, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("quiet", "start"), SPANS, ids=[f"{q.timezone} {s:%m-%d}" for q, s in SPANS])
def test_quiet_hours_are_those_of_the_wall_clock_and_end_when_it_says_so(
    quiet: Quiet, start: datetime
) -> None:
    zone = ZoneInfo(quiet.timezone)
    for number in range(0, 3 * 24 * 60, 15):
        moment = start + timedelta(minutes=number)
        wall = moment.astimezone(zone).strftime("%H:%M")
        crosses = quiet.start > quiet.end
        is_quiet = (wall >= quiet.start or wall < quiet.end) if crosses else quiet.start <= wall < quiet.end
        until = quiet_until(quiet, moment)
        assert (until is not None) == is_quiet, wall
        if until is not None:
            assert until.astimezone(zone).strftime("%H:%M") == quiet.end
            assert timedelta(0) < until - moment <= timedelta(hours=24)


def test_a_night_in_which_clocks_change_is_an_hour_shorter_or_longer() -> None:
    lengths = []
    for day in ("2026-03-28", "2026-06-01", "2026-10-24"):
        begin = datetime.fromisoformat(f"{day}T22:00").replace(tzinfo=ZoneInfo("Europe/Berlin"))
        until = quiet_until(NIGHT, begin)
        assert until is not None
        lengths.append((until - begin.astimezone(UTC)) / HOUR)
    assert lengths == [8, 9, 10]


def test_quiet_hours_within_the_hour_that_is_skipped_or_doubled_end_once() -> None:
    skipped = Quiet(start="02:15", end="02:45", timezone="Europe/Berlin")
    doubled = Quiet(start="01:30", end="02:30", timezone="Europe/Berlin")
    spring, autumn = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
    assert _quiet_minutes(skipped, spring) == 30
    assert _quiet_minutes(doubled, autumn - 4 * HOUR) == 60, "of the hour that comes twice the first counts"


def _quiet_minutes(quiet: Quiet, start: datetime) -> int:
    moments = [start + timedelta(minutes=number) for number in range(10 * 60)]
    ends = {until for moment in moments if (until := quiet_until(quiet, moment))}
    assert len(ends) == 1
    return sum(quiet_until(quiet, moment) is not None for moment in moments)


def test_no_quiet_hours_are_never() -> None:
    assert quiet_until(None, AT) is None


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=1, minutes=5), "1 day"),
        (timedelta(hours=25), "1 day 1 hour"),
        (timedelta(minutes=1), "1 minute"),
        (timedelta(0), "less than a minute"),
        (timedelta(days=400, hours=3), "400 days 3 hours"),
    ],
)
def test_lengths_of_time_are_said_in_two_units(length: timedelta, words: str) -> None:
    assert in_words(length) == words
