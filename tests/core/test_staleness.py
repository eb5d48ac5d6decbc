"""The staleness estimate against sums worked by hand, and against streams whose staleness is known."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.policy.staleness import (
    StalenessRule,
    VersionLoss,
    WindowLosses,
    estimate_staleness,
    rule_of,
)
from tasks.core.window import Window
from tests.make import make_spec

T0, WEEK = datetime(2026, 1, 5, tzinfo=UTC), timedelta(days=7)
RULE = StalenessRule(price=0.4, training=4.0, age_limit=4.0, prior=0.2, prior_windows=2.0)


def judged(
    place: int, losses: dict[int, tuple[float, float]], champion: int | None = None, **more
) -> WindowLosses:
    """Window number `place` with loss and age by version; the champion is the newest unless named."""
    window = Window(T0 + place * WEEK, T0 + (place + 1) * WEEK)
    each = tuple(VersionLoss(version, loss, age) for version, (loss, age) in losses.items())
    return WindowLosses(window, window.end, champion or max(losses), each, **more)


def estimate(history: list[WindowLosses], rule: StalenessRule = RULE, *, trained: int = 0, **more):
    as_of = T0 + (history[-1].window.end - T0 if history else timedelta(0))
    return estimate_staleness(
        history, rule, as_of=as_of, trained_at=T0 + trained * WEEK, length=WEEK.total_seconds(), **more
    )


def test_the_debt_of_a_lone_champion_is_the_sum_worked_by_hand() -> None:
    # No second champion, so the slope is the prior: .2 / 4 = .05 a window of age.
    history = [judged(0, {1: (0.10, 0)}), judged(1, {1: (0.11, 1)}), judged(2, {1: (0.14, 2)})]
    second = np.mean([0.10, 0.11 / 1.05])
    third = np.mean([0.10, 0.11 / 1.05, 0.14 / 1.10])
    debt = 0.5 * 0.05 * 1 + 0.5 * (0.11 / second - 1)
    debt += 0.5 * 0.05 * 2 + 0.5 * (0.14 / third - 1)
    found = estimate(history)
    assert found.slope == pytest.approx(0.05)
    assert found.level == pytest.approx(third)
    assert found.debt == pytest.approx(debt)
    assert (found.due, found.age) == ("", 3.0)


def test_the_slope_is_the_least_squares_line_through_the_newest_with_the_prior_as_weight() -> None:
    # Version 1 is 4 windows older than version 2 and loses half as much again.
    history = [judged(4, {1: (0.15, 4), 2: (0.10, 0)})]
    weight = 2 * 4**2
    expected = (4 * 0.5 + weight * 0.05) / (4**2 + weight)
    assert estimate(history, trained=4).slope == pytest.approx(expected)
    many = [judged(4 + k, {1: (0.15 + 0.0125 * k, 4 + k), 2: (0.10 + 0.0125 * k, k)}) for k in range(60)]
    assert 0.0 < estimate(many, trained=4).slope < 0.125


def test_an_older_champion_that_is_better_gives_no_slope_and_no_debt_grows() -> None:
    history = [judged(4 + k, {1: (0.08, 4 + k), 2: (0.10, k)}) for k in range(12)]
    found = estimate(history, replace(RULE, age_limit=float("inf")), trained=4)
    assert found.slope == 0.0
    assert found.debt < 0.01
    assert found.due == ""


def test_a_fresh_model_owes_nothing_however_hard_its_window_was() -> None:
    easy = [judged(k, {1: (0.10, k)}) for k in range(3)]
    hard = judged(3, {1: (0.50, 3), 2: (0.50, 0)})
    trained = [T0 + 3 * WEEK]
    assert estimate([*easy, hard], trained=3, trainings=trained).debt == 0.0
    older = judged(3, {1: (0.50, 3)})
    assert estimate([*easy, older]).due == "debt"


def test_a_training_that_led_to_nothing_sets_the_debt_back_too() -> None:
    history = [judged(k, {1: (0.10 + 0.02 * k, k)}) for k in range(4)]
    owed = estimate(history)
    after = estimate(history, trainings=[T0 + 2 * WEEK])
    assert after.debt < owed.debt
    assert after.age == 2.0
    assert owed.age == 4.0


def test_the_worked_example_of_the_docs_is_what_the_rule_computes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "freshness.md").read_text()
    rows = [
        [float(cell) for cell in line.strip("|\n ").split("|")]
        for line in page.splitlines()
        if line.startswith("| ") and line[2].isdigit()
    ]
    assert len(rows) == 6
    rule, history = StalenessRule(), []
    for week, newest, older, slope, level, debt in rows:
        place = int(week) - 1
        history.append(judged(place, {2: (newest, float(place)), 1: (older, 8.0 + place)}))
        found = estimate(history, rule)
        assert (found.slope, found.level, found.debt) == pytest.approx((slope, level, debt), abs=6e-4)
        assert (found.due == "debt") == (place == 5)


def test_age_alone_is_due_at_its_limit_and_a_calendar_asks_for_nothing_else() -> None:
    flat = [judged(k, {1: (0.10, k)}) for k in range(3)]
    no_slope = replace(RULE, prior=0.0)
    assert estimate(flat, no_slope).due == ""
    assert estimate([*flat, judged(3, {1: (0.10, 3)})], no_slope).due == "age"
    grown = [judged(0, {1: (0.10, 0)}), judged(1, {1: (0.90, 1)})]
    assert estimate(grown).due == "debt"
    calendar = replace(RULE, every=3.0)
    assert estimate(grown, calendar).due == ""
    assert estimate([*grown, judged(2, {1: (0.1, 2)})], calendar).due == "calendar"
    assert estimate([], RULE).due == ""


def test_with_money_the_price_is_what_a_run_costs_in_windows_of_a_fresh_models_loss() -> None:
    history = [judged(k, {1: (0.10, k)}, money=50.0) for k in range(2)]
    no_slope = replace(RULE, prior=0.0, age_limit=float("inf"))
    assert estimate(history, no_slope, price=20.0).price == pytest.approx(20 / 50)
    assert estimate(history, no_slope, price=20.0).currency_price == 20.0
    assert estimate(history, no_slope).price == 0.4
    unvalued = [replace(losses, money=None) for losses in history]
    assert estimate(unvalued, no_slope, price=20.0).price == 0.4


def test_what_is_written_to_the_store_comes_back() -> None:
    losses = judged(2, {1: (0.2, 2.5), 3: (0.1, 0)}, money=3.5)
    text = json.dumps(losses.summary(), allow_nan=False)
    assert WindowLosses.from_summary(losses.window, json.loads(text)) == losses
    json.dumps(estimate([losses]).summary(), allow_nan=False)
    json.dumps(estimate([]).summary(), allow_nan=False)


def test_the_constants_follow_from_the_spec() -> None:
    plain = rule_of(make_spec(window={"training": "56d", "check": "7d"}))
    assert (plain.training, plain.age_limit, plain.every, plain.price) == (8.0, 8.0, None, 0.4)
    given_ones = make_spec(
        window={"training": "56d", "check": "7d"}, retrain={"max_age": "14d", "every": "28d", "price": 1.5}
    )
    assert (rule_of(given_ones).age_limit, rule_of(given_ones).every, rule_of(given_ones).price) == (
        2.0,
        4.0,
        1.5,
    )
    never = make_spec(window={"training": "56d", "check": "7d"}, retrain={"max_age": "never"})
    assert rule_of(never).age_limit == float("inf")


def test_the_estimate_finds_the_slope_of_a_simulated_stream_and_none_where_there_is_none() -> None:
    # Models of every 6th window over 120 windows; the error rate grows by 4 % a window of age, 2,000 rows.
    rng = np.random.default_rng(3)

    def stream(slope: float) -> list[WindowLosses]:
        history = []
        for place in range(120):
            versions = range(max(0, place // 6 - 5), place // 6 + 1)
            hardness = 0.2 * (1 + 0.3 * np.sin(place / 5))
            losses = {}
            for version in versions:
                age = place - 6 * version
                errors = rng.binomial(2000, min(0.9, hardness * (1 + slope * age))) / 2000
                losses[version + 1] = (float(errors), float(age))
            history.append(judged(place, losses))
        return history

    rule = replace(RULE, training=8.0)
    assert estimate(stream(0.04), rule, trained=114).slope == pytest.approx(0.034, abs=0.01)
    assert estimate(stream(0.0), rule, trained=114).slope < 0.003


@given(
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30),
    st.floats(0.001, 1000.0),
)
def test_the_unit_of_the_loss_changes_nothing(values: list[float], unit: float) -> None:
    first, second = (
        estimate([judged(k, {1: (value * factor, k)}) for k, value in enumerate(values)])
        for factor in (1.0, unit)
    )
    assert first.debt == pytest.approx(second.debt, rel=1e-6, abs=1e-9)
    assert first.due == second.due or abs(first.debt - first.price) < 1e-6
