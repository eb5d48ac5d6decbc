"""Diagnosis, error budget, staleness, alarms and the page: rules on facts that are given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.health.alarms import Alarm, Health, bad
from tasks.core.health.budget import Budget, Kept, score_budget
from tasks.core.health.burn import Burn, Burning
from tasks.core.health.diagnosis import Diagnosis, diagnose
from tasks.core.health.latency import Latency
from tasks.core.health.service import Counted, ServiceVerdict, VersionService
from tasks.core.health.shift import ShiftVerdict
from tasks.core.health.slices import SliceScore, SlicesVerdict
from tasks.core.health.staleness import Freshness, Stale, forgotten, judge_age, judge_gaps, judge_runs
from tasks.core.policy.label_shift import label_shift
from tasks.core.records.health import health_markdown
from tasks.core.records.performance import performance_markdown
from tasks.core.window import Window
from tests.make import make_spec

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = T0 + 100 * DAY


def day(place: int) -> Window:
    return Window(T0 + place * DAY, T0 + (place + 1) * DAY)


# Diagnosis.


@pytest.mark.parametrize(
    ("performance", "inputs", "predictions", "kind"),
    [
        ("ok", False, False, "healthy"),
        ("ok", None, None, "healthy"),
        ("warn", False, False, "healthy"),
        ("ok", True, False, "input drift without harm"),
        ("ok", False, True, "input drift without harm"),
        ("drift", True, False, "decay with drift"),
        ("drift", False, True, "decay with drift"),
        ("drift", False, False, "decay without drift"),
        ("drift", False, None, "decay without drift"),
        ("drift", None, None, "cannot tell"),
        ("drift", None, True, "decay with drift"),
        ("undecided", True, True, "cannot tell"),
        ("undecided", False, False, "cannot tell"),
    ],
)
def test_decay_is_told_apart_from_drift(performance, inputs, predictions, kind: str) -> None:
    assert diagnose(performance, inputs_moved=inputs, predictions_moved=predictions).kind == kind


def test_labels_that_moved_alone_are_suspected_before_the_model_is() -> None:
    fault = label_shift(
        {"0": 700, "1": 300},
        {"0": 990, "1": 10},
        scores_moved=False,
        inputs_moved=False,
        fell=True,
        alpha=0.01,
    )
    assert fault.branch == "fault"
    found = diagnose("drift", inputs_moved=False, predictions_moved=False, labels=fault)
    assert found.kind == "suspected labels"


def test_every_combination_has_a_sentence_of_its_own_kind() -> None:
    flags = (None, False, True)
    for performance, inputs, predictions in product(("ok", "warn", "drift", "undecided"), flags, flags):
        found = diagnose(performance, inputs_moved=inputs, predictions_moved=predictions)
        assert found.sentence().startswith(f"{found.kind}: ")
        is_decay = found.kind.startswith("decay")
        assert is_decay <= (performance == "drift")
        assert (found.kind == "decay without drift") <= (inputs is False and not predictions)


# Error budget of the score.


def budget(*missed: int, days: int = 30, share: float = 0.1) -> Budget:
    kept = [Kept(day(place), place in missed) for place in range(days)]
    return score_budget(kept, budget=share, period=30 * DAY, length=DAY)


def test_the_budget_is_counted_in_windows_that_may_miss() -> None:
    clean = budget()
    assert (clean.outcome, clean.left, clean.share, clean.burn, clean.spent_in) == ("ok", 1.0, 0.0, 0.0, None)
    one = budget(3)
    assert (one.outcome, one.left) == ("ok", pytest.approx(2 / 3))
    spent = budget(3, 4, 5)
    assert (spent.outcome, spent.left, spent.burn) == ("warn", 0.0, pytest.approx(1.0))
    over = budget(3, 4, 5, 6)
    assert (over.outcome, over.left) == ("drift", pytest.approx(-1 / 3))
    assert "4 of 30 windows missed the band, 3 may: the budget is overspent" in over.sentence()


def test_misses_of_the_newest_windows_forecast_the_end_of_the_budget() -> None:
    found = budget(28)
    assert found.outcome == "ok"
    assert found.spent_in == 14 * DAY  # two left, one in seven days
    soon = budget(27, 29)
    assert soon.spent_in == timedelta(days=3.5)
    assert soon.outcome == "warn"


def test_few_windows_are_undecided_and_one_miss_is_always_allowed() -> None:
    assert budget(0, days=2).outcome == "undecided"
    kept = [Kept(day(7 * place), place == 1) for place in range(4)]
    weekly = score_budget(kept, budget=0.1, period=30 * DAY, length=7 * DAY)
    assert (weekly.allowed, weekly.left, weekly.outcome) == (1.0, 0.0, "warn")
    assert budget(5, share=0.0).outcome == "drift"
    assert budget(share=0.0).outcome == "ok"


def test_the_budget_as_json_names_what_the_board_reads() -> None:
    assert {"share", "budget", "left", "windows", "burn", "spent_in_days"} <= budget(1).summary().keys()


# Staleness.


def test_what_never_was_is_not_overdue() -> None:
    found = judge_age("labels", None, DAY, NOW, said="the last label")
    assert (found.is_stale, found.message) == (False, "the last label: none yet")


@pytest.mark.parametrize(("hours", "is_stale"), [(1, False), (72, False), (73, True)])
def test_what_is_older_than_its_limit_is_overdue(hours: int, is_stale: bool) -> None:
    found = judge_age("data", NOW - timedelta(hours=hours), 3 * DAY, NOW, said="the newest row")
    assert found.is_stale is is_stale


def test_a_run_is_overdue_after_three_of_its_usual_intervals() -> None:
    hourly = [NOW - timedelta(hours=hours) for hours in range(14, 4, -1)]
    late = judge_runs("score", hourly, 0, NOW, least=timedelta(hours=1))
    assert late is not None
    assert (late.is_stale, late.limit) == (True, timedelta(hours=3))
    failing = judge_runs("score", hourly, 4, NOW, least=timedelta(hours=1))
    assert failing is not None
    assert failing.message.endswith("3.0 hours are usual at most; 4 failed since")
    patient = judge_runs("score", hourly, 0, NOW, least=DAY)
    assert patient is not None
    assert not patient.is_stale
    assert judge_runs("score", hourly[:2], 0, NOW, least=DAY) is None, "no interval can be told"


def test_one_long_holiday_does_not_make_a_flow_lazy() -> None:
    runs = [NOW - timedelta(days=days) for days in (30, 29, 28, 12, 11, 10, 9)]
    found = judge_runs("monitor", runs, 0, NOW, least=DAY)
    assert found is not None
    assert found.limit == 3 * DAY


def test_windows_that_nobody_checked_are_counted() -> None:
    all_but_two = [day(place) for place in range(20) if place not in (7, 8)]
    found = judge_gaps("drift", all_but_two, DAY, T0)
    assert found is not None
    assert (found.is_stale, found.tier) == (True, "info")
    assert found.message == "2 windows since 2026-01-01 have no drift check"
    assert not judge_gaps("drift", [day(place) for place in range(5)], DAY, T0).is_stale  # type: ignore[union-attr]
    later = judge_gaps("drift", all_but_two, DAY, T0 + 9 * DAY)
    assert later is not None
    assert not later.is_stale, "what is long ago is forgotten"
    assert judge_gaps("drift", [day(1)], DAY, T0) is None


def test_overlapping_windows_and_hours_that_shift_are_no_gaps() -> None:
    overlapping = [Window(T0 + place * DAY, T0 + (place + 7) * DAY) for place in range(10)]
    shifted = [Window(one.start + timedelta(minutes=place), one.end + timedelta(minutes=place))
               for place, one in enumerate(map(day, range(10)))]  # fmt: skip
    for spans, length in [(overlapping, 7 * DAY), (shifted, DAY)]:
        found = judge_gaps("drift", spans, length, T0 - DAY)
        assert found is not None
        assert not found.is_stale


# Alarms and page.

NAN = float("nan")
NONE = Interval(NAN, NAN, NAN)


def health(**over) -> Health:
    parts = {
        "service": ServiceVerdict("ok", "all answered", Counted(1000, 1000), Interval(1, 0.99, 1), NONE,
                                  Latency(1000, 1, 2, 3)),
        "predictions": ShiftVerdict("ok", "nothing moved"),
        "slices": SlicesVerdict("undecided", "the spec names no slices"),
        "budget": budget(),
        "freshness": Freshness((Stale("data", NOW, DAY, False, "fresh"),)),
        "diagnosis": Diagnosis("healthy", "the score keeps its promise"),
    }  # fmt: skip
    return Health(**{**parts, **over})


def test_clean_looks_are_told_too_and_what_is_not_known_is_not() -> None:
    found = {alarm.cause: alarm for alarm in health().alarms}
    assert set(found) == {"service", "predictions", "budget", "stale data"}
    assert bad(health().alarms) == ()
    assert health().sentence() == "healthy: the score keeps its promise"


def test_bad_parts_alarm_with_their_tier_and_stand_in_the_sentence() -> None:
    burn = Burn("critical", 14.4, timedelta(hours=1), 20.0, 30.0, 5000, True)
    service = ServiceVerdict(
        "drift", "an outage", Counted(1000), NONE, NONE, Latency(0, None, None, None), burns=(burn,)
    )
    found = health(
        service=service,
        burning=Burning((burn,)),
        predictions=ShiftVerdict("drift", "psi 0.4"),
        budget=budget(1, 2, 3, 4),
        freshness=Freshness(
            (Stale("data", T0, DAY, True, "old rows"), Stale("labels", None, DAY, False, "none"))
        ),
    )
    alarms = {alarm.cause: alarm for alarm in found.alarms}
    assert alarms["service"] == Alarm("service", "warning", "service drift: an outage", True)
    said = "the error budget is spent 20 times too fast over the last 1 hours"
    assert alarms["burn"] == Alarm("burn", "critical", said, True)
    assert (alarms["predictions"].tier, alarms["budget"].tier) == ("info", "warning")
    assert alarms["stale data"] == Alarm("stale data", "warning", "old rows", True)
    assert "stale labels" not in alarms
    for part in ("an outage", "psi 0.4", "overspent", "old rows"):
        assert part in found.sentence()
    assert found.freshness.outcome == "drift"


def test_nobody_looks_at_the_burn_of_too_few_requests_and_enough_without_loss_are_a_clean_look() -> None:
    few = Burn("critical", 14.4, timedelta(hours=1), 90.0, 90.0, 3, False, False)
    calm = Burn("warning", 1.0, timedelta(days=3), 0.0, 0.0, 500, False)
    looked = [
        {one.cause: one.is_bad for one in health(burning=Burning(rules)).alarms}
        for rules in ((), (few,), (few, calm))
    ]
    assert ["burn" in one for one in looked] == [False, False, True]
    assert looked[2]["burn"] is False


def test_what_nobody_expects_any_more_is_a_clean_look_unless_it_is_tried_and_fails() -> None:
    gone = forgotten(
        ["stale run of score", "stale run of monitor", "stale data", "decay"],
        [Stale("data", None, DAY, False, "none yet")],
        ["run of monitor"],
    )
    assert [one.what for one in gone] == ["run of score"]
    found = {one.cause: one for one in health(freshness=Freshness(tuple(gone))).alarms}
    ended = found["stale run of score"]
    assert ended == Alarm(
        "stale run of score", "warning", "run of score is not expected any more: it is not looked at", False
    )


def test_what_chance_may_explain_is_a_clean_look() -> None:
    found = health(budget=budget(1, 2, 3))
    assert {alarm.cause: alarm.is_bad for alarm in found.alarms}["budget"] is False


def test_the_page_says_it_all_and_nothing_from_outside_is_markup() -> None:
    hostile = "<img src=x onerror=alert(1)>|`x`"
    group = SliceScore("plan", hostile, 100, 0.8, 0.7, 0.9, None, "undecided", "first")
    versions = (VersionService(0, Counted(3, 0, 0, 3), Latency(0, None, None, None), 0.1),
                VersionService(4, Counted(1000, 1000), Latency(1000, 1.25, 2, 3), 0.1))  # fmt: skip
    service = ServiceVerdict(
        "ok", "fine", Counted(1003), Interval(1, 0.9, 1), NONE, Latency(0, None, None, None), versions
    )
    text = health_markdown(
        make_spec(), health(service=service, slices=SlicesVerdict("undecided", hostile, (group,)))
    )
    assert text.startswith("## churn: healthy")
    assert "| 4 | 1,000 | 1,000 | 0 | 0 | 0 | 1.25 | 2 | 3 |" in text
    assert "| none | 3 | 0 | 0 | 3 | 0 | – | – | – |" in text
    assert "<img" not in text.replace("\\<img", "")
    assert "2026-04-11 00:00" in text


def test_the_performance_page_says_what_the_checks_mean_together() -> None:
    verdict = PerformanceVerdict("drift", "fell", 0.7, 0.68, 0.72, 0.8, 0.78, 400)
    found = diagnose("drift", inputs_moved=False, predictions_moved=False)
    text = performance_markdown(make_spec(), verdict, diagnosis=found)
    assert "decay without drift: the score fell while inputs and predictions stayed" in text
    assert "decay without" not in performance_markdown(make_spec(), verdict)
