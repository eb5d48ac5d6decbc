"""Indicators on a ledger small enough to count by hand, and what they say when there is nothing to count."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.kpi.chart import weekly_figure
from tasks.core.kpi.facts import Answered, Facts, Judged, Outcome, Prices, Ran, Trouble
from tasks.core.kpi.measure import Scorecard, scorecard_of
from tasks.core.kpi.money import counted_once
from tasks.core.kpi.records import scorecard_markdown

T0 = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def outcome(decision: str, action: str, day: float, version: int | None = None, **over: object) -> Outcome:
    known = {"actor": "gate" if action == "promoted" else "retrain", **over}
    return Outcome(decision, action, T0 + day * DAY, version=version, **known)  # type: ignore[arg-type]


# Four weeks: three trainings promoted by the gate, one kept, one that waited and was approved after 12 h,
# one rejected, a skip; version 2 was rolled back; two incidents ended after 2 h and 6 h, one lasts.
HISTORY = (
    outcome("t1", "promoted", 0, 1, asked_at=T0 - HOUR, moved_at=T0, data_end=T0 - 2 * DAY),
    outcome("t2", "promoted", 4, 2, asked_at=T0, moved_at=T0 + 3 * HOUR, data_end=T0 + 3 * DAY),
    outcome("rollback-v1-x", "rolled_back", 5, 1, from_version=2, actor="ann"),
    outcome("t3", "kept", 8, 3),
    outcome("s1", "skipped", 9),
    outcome("t4", "waiting", 14, 4),
    outcome("approval-v4", "promoted", 14.5, 4, actor="ann", data_end=T0 + 10 * DAY),
    outcome("t5", "waiting", 20, 5),
    outcome("approval-v5", "rejected", 22, 5, actor="bob"),
    outcome("t6", "promoted", 24, 6),
)
TROUBLES = (
    Trouble("data", "critical", T0, T0 + 2 * HOUR),
    Trouble("data", "critical", T0 + DAY, T0 + DAY + 6 * HOUR),
    Trouble("decay", "warning", T0 + 2 * DAY),
    Trouble("drift", "info", T0, T0 + 9 * DAY),  # news, nothing broken
    Trouble("approval v3", "warning", T0, T0 + 9 * DAY),  # nor was this
)


@pytest.fixture
def card() -> Scorecard:
    return scorecard_of(Facts("m", T0, T0 + 28 * DAY, HISTORY, TROUBLES))


@pytest.mark.parametrize(
    ("key", "value", "cases"),
    [
        ("deployments", 1.0, 4),  # 4 in 4 weeks
        ("retrainings", 1.5, 6),  # t1 to t6 in 4 weeks
        ("cadence", 4 * 86_400, 5),  # gaps of 4, 4, 6, 6 and 4 days
        ("automated", 0.75, 4),  # t1, t2, t6 of four
        ("futile", 2 / 6, 6),  # t3 kept, t5 rejected
        ("rolled_back", 0.25, 4),  # version 2
        ("lead", 2 * 3600, 2),  # 1 h and 3 h
        ("freshness", 2 * 86_400, 3),  # 2, 1 and 4.5 days
        ("ruling", 1.25 * 86_400, 2),  # half a day and two days
        ("repair", 4 * 3600, 2),  # 2 h and 6 h
    ],
)
def test_an_indicator_is_what_one_counts_by_hand(key: str, value: float, cases: int, card: Scorecard) -> None:
    (kpi,) = [one for one in card.kpis if one.key == key]
    assert kpi.value == pytest.approx(value)
    assert kpi.cases == cases


def test_actions_and_incidents_are_counted_one_by_one(card: Scorecard) -> None:
    assert dict(card.actions) == {
        "promoted": 4, "waiting": 2, "kept": 1, "rejected": 1, "rolled_back": 1, "skipped": 1,
    }  # fmt: skip
    (data, decay) = (one for one in card.repairs if one.cause in {"data", "decay"})
    assert len(card.repairs) == 4
    assert (data.cause, data.ended, data.lasting, data.median, data.longest) == ("data", 2, 0, 14400, 21600)
    assert (decay.ended, decay.lasting, decay.median) == (0, 1, None)


def test_nothing_on_record_is_not_enough_history_for_every_indicator_and_never_zero() -> None:
    card = scorecard_of(Facts("m", T0, T0 + 28 * DAY))
    assert {one.shown() for one in card.kpis} == {"not enough history"}
    assert {one.cases for one in card.kpis} == {0}
    assert card.sentence() == "not enough history for any indicator"
    assert "not enough history" in scorecard_markdown(card)


def test_a_rate_per_week_needs_a_week_and_a_quiet_month_is_a_true_zero() -> None:
    one = (outcome("s1", "skipped", 0),)
    assert scorecard_of(Facts("m", T0, T0 + 6 * DAY, one)).value("deployments") is None
    assert scorecard_of(Facts("m", T0, T0 + 28 * DAY, one)).value("deployments") == 0


def test_only_what_happened_since_is_counted_but_a_later_word_still_settles_it() -> None:
    card = scorecard_of(Facts("m", T0 + 20 * DAY, T0 + 28 * DAY, HISTORY, TROUBLES))
    assert dict(card.actions) == {"waiting": 1, "rejected": 1, "promoted": 1}
    assert card.value("futile") == 0.5
    assert card.value("repair") is None
    # A rejection falls into the time, its waiting before it: the wait is known all the same.
    late = scorecard_of(Facts("m", T0 + 21 * DAY, T0 + 28 * DAY, HISTORY))
    assert late.value("ruling") == 2 * 86_400


def test_a_version_still_waiting_is_neither_futile_nor_useful_yet() -> None:
    facts = Facts("m", T0, T0 + 28 * DAY, (outcome("t1", "waiting", 0, 1),))
    assert scorecard_of(facts).value("futile") is None


def test_silence_is_no_person_who_decided() -> None:
    rows = (
        outcome("t1", "waiting", 0, 1),
        outcome("approval-v1", "rejected", 3, 1, actor="silence"),
    )
    card = scorecard_of(Facts("m", T0, T0 + 28 * DAY, rows))
    assert (card.value("ruling"), card.value("futile")) == (None, 1.0)


def test_a_kept_version_that_a_person_promoted_later_was_not_futile() -> None:
    rows = (outcome("t1", "kept", 0, 1), outcome("promotion-v1-x", "promoted", 1, 1, actor="ann"))
    card = scorecard_of(Facts("m", T0, T0 + 28 * DAY, rows))
    assert (card.value("futile"), card.value("automated")) == (0.0, 0.0)


def test_an_incident_that_ended_after_the_time_counts_as_lasting() -> None:
    trouble = (Trouble("data", "critical", T0, T0 + 5 * DAY),)
    (repair,) = scorecard_of(Facts("m", T0, T0 + 2 * DAY, (), trouble)).repairs
    assert (repair.ended, repair.lasting) == (0, 1)


def test_the_weekly_figure_counts_each_outcome_in_its_week() -> None:
    figure = weekly_figure(Facts("m", T0 + 2 * DAY, T0 + 28 * DAY, HISTORY))
    bars = {trace["name"]: trace["y"] for trace in figure["data"]}
    assert bars["promoted"] == [1, 0, 1, 1]  # that of day 0 lies before the time counted
    assert bars["rejected"] == [0, 0, 0, 1]
    assert bars["rolled back"] == [1, 0, 0, 0]
    assert figure["data"][0]["x"][0] == T0.isoformat()
    assert json.loads(json.dumps(figure)) == figure


ACTIONS = ["promoted", "kept", "skipped", "blocked", "refused", "waiting", "rejected", "rolled_back"]


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.floats(0, 27), st.integers(1, 5)), max_size=30))
def test_shares_are_shares_and_every_outcome_of_the_time_is_counted_once(
    history: list[tuple[str, float, int]],
) -> None:
    rows = tuple(
        outcome(f"t{number}", action, day, version, from_version=version % 5 + 1)
        for number, (action, day, version) in enumerate(sorted(history, key=lambda item: item[1]))
    )
    facts = Facts("m", T0, T0 + 28 * DAY, rows)
    card = scorecard_of(facts)
    assert sum(times for _, times in card.actions) == len(rows)
    assert sum(sum(trace["y"]) for trace in weekly_figure(facts)["data"]) == len(rows)
    for kpi in card.kpis:
        if kpi.unit == "share" and kpi.value is not None:
            assert 0 <= kpi.value <= 1
        assert (kpi.value is None) or kpi.value >= 0


# How fast code reaches service, and how fast a retraining repairs


def made_by(decision: str, day: float, version: int, commit: str, committed: float) -> Outcome:
    return outcome(decision, "promoted", day, version, commit=commit, committed_at=T0 + committed * DAY)


def test_a_commit_is_counted_once_for_the_first_version_that_served_it() -> None:
    rows = (
        made_by("a", 3, 1, "c1", 1),  # two days
        made_by("b", 9, 2, "c1", 1),  # new data on old code: no news of the code
        made_by("c", 12, 3, "c2", 8),  # four days
        outcome("d", "promoted", 13, 4),  # code that is not known
    )
    kpi = next(
        one for one in scorecard_of(Facts("m", T0, T0 + 28 * DAY, rows)).kpis if one.key == "commit_lead"
    )
    assert (kpi.value, kpi.cases) == (3 * 86_400, 2)
    later = scorecard_of(Facts("m", T0 + 8 * DAY, T0 + 28 * DAY, rows))
    assert later.value("commit_lead") == 4 * 86_400  # c1 was in service before


def windows(kind: str, days: str) -> tuple[Judged, ...]:
    """One window a day from day 1 on: x is bad, o good, a blank is not judged."""
    return tuple(
        Judged(kind, T0 + (1 + place) * DAY, mark == "x") for place, mark in enumerate(days) if mark != " "
    )


@pytest.mark.parametrize(
    ("days", "repaired"),
    [
        ("oooxx", 2.0),  # bad since day 4, promoted on day 6
        ("oxoxx", 4.0),  # one good window does not end it
        ("xooxx", 2.0),  # two do
        ("ooooo", None),
        ("xoooo", None),
        ("oox  ", 3.0),  # what was not judged does not end it either
    ],
)
def test_a_repair_lasts_from_the_first_bad_window_of_the_stretch_to_the_promotion(
    days: str, repaired: float | None
) -> None:
    rows = (outcome("a", "promoted", 0, 1), outcome("b", "promoted", 6, 2))
    facts = Facts("m", T0, T0 + 28 * DAY, rows, judged=windows("performance", days))
    found = scorecard_of(facts).value("retraining_repair")
    assert found == (None if repaired is None else repaired * 86_400)


def test_a_first_version_repairs_nothing_and_a_bad_stretch_belongs_to_one_promotion() -> None:
    judged = windows("drift", "xxoo") + windows("performance", " xxxx")
    rows = (outcome("a", "promoted", 2.5, 1), outcome("b", "promoted", 6, 2), outcome("c", "promoted", 8, 3))
    card = scorecard_of(Facts("m", T0, T0 + 28 * DAY, rows, judged=judged))
    (kpi,) = [one for one in card.kpis if one.key == "retraining_repair"]
    assert (kpi.value, kpi.cases) == (3 * 86_400, 1)  # bad since day 3, after the first began to serve


# Money

PRICES = Prices("EUR", 10.0, 5.0, 365.25 / 12, {("1", "1"): 3.0, ("0", "1"): -1.0})
ANSWERS = (
    Answered(1, "1", "1", 10),
    Answered(1, "0", "1", 4),
    Answered(2, "1", "1", 20),
    Answered(2, "1", "0", 7),  # no worth is named: 0
)


def money(**over: Any) -> dict[str, float | None]:
    known: dict[str, Any] = {
        "runs": (
            Ran("retrain", T0 + DAY, 1800.0),
            Ran("monitor", T0 + 2 * DAY, 1800.0),
            Ran("x", T0 - DAY, 9e9),
        ),
        "answered": ANSWERS,
        "gains": {2: 0.5},
        "prices": PRICES,
        **over,
    }
    rows = known.pop("outcomes", (outcome("t1", "promoted", 1, 1), outcome("t2", "promoted", 2, 2)))
    card = scorecard_of(Facts("m", T0, T0 + 28 * DAY, rows, **known))
    return {
        one.key: one.value for one in card.kpis if one.key in ("run_time", "cost", "worth", "gain", "roi")
    }


def test_cost_worth_gain_and_return_are_what_one_counts_by_hand() -> None:
    found = money()
    assert found["run_time"] == 3600
    assert found["cost"] == pytest.approx(1 * 10 + 2 * 5 + 28)
    assert found["worth"] == 10 * 3 - 4 * 1 + 20 * 3
    assert found["gain"] == 27 * 0.5  # of version 2 only: the first was better than nothing known
    assert found["roi"] == pytest.approx((13.5 - 48) / 48)


def test_time_of_a_run_inside_another_counts_once() -> None:
    hour = timedelta(hours=1)
    runs = (
        Ran("retrain", T0 + DAY, 1800.0, T0 + 1.25 * hour),  # inside the monitor's
        Ran("monitor", T0 + DAY, 3600.0, T0 + hour),
        Ran("evaluate", T0 + DAY, 3600.0, T0 + 1.5 * hour),  # begins inside and lasts beyond
        Ran("promote", T0 + DAY, 60.0, T0 + 5 * hour),
        Ran("old", T0 + DAY, 7.0),
        Ran("replay", T0 - DAY, 9e5, T0 - hour),  # not counted, so nothing is counted in it
    )
    assert money(runs=runs)["run_time"] == 3600 + 3600 + 60 + 7
    same = Ran("monitor", T0 + DAY, 10.0, T0)
    assert counted_once([same, same]) == [same]
    assert counted_once([]) == []


def test_money_that_nobody_priced_is_left_out_and_what_is_not_known_is_no_zero() -> None:
    assert money(prices=Prices()) == {"run_time": 3600}
    assert set(money(prices=Prices("EUR", 10.0))) == {"run_time", "cost"}
    nothing = money(runs=(), answered=(), gains={}, outcomes=())
    assert nothing == {"run_time": None, "cost": None, "worth": None, "gain": None, "roi": None}
    assert money(gains={})["roi"] is None  # never compared in money: no return is claimed


def test_a_return_names_what_it_assumes() -> None:
    card = scorecard_of(
        Facts("m", T0, T0 + 28 * DAY, HISTORY, answered=ANSWERS, gains={2: 0.5}, prices=PRICES)
    )
    meanings = {one.key: one.meaning for one in card.kpis}
    assert "assumes that the gain the gate measured lasted" in meanings["gain"]
    assert "only the gain" in meanings["roi"]
    assert "EUR" in scorecard_markdown(card)
