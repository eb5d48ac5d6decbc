"""What a backtest advises, on scores whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.replay.advice import Advice, advise, fresh_loss, settings_of
from tasks.core.replay.advice_text import advice_details, advice_sentence
from tasks.core.replay.backtest import CALENDARS
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.blocks import block_interval, block_length, resampled_means
from tasks.core.replay.frontier import calendar_step, line_at
from tasks.core.spec import parse_spec
from tests.backtests import LEVELS, made_backtest
from tests.make import make_spec, spec_block

SPEC = make_spec(metric="accuracy", window={"training": "56d", "check": "7d"}, retrain={"price": 0.4})


def moved(**over: tuple[float, int]) -> dict[str, tuple[float, int]]:
    return {**LEVELS, **over}


# The line of fixed calendars.


def test_the_line_is_what_numpy_interpolates_between_calendars_and_ends_with_them() -> None:
    policies = made_backtest().policies
    for retrainings in range(81):
        expected = np.interp(retrainings, [0, 20, 80], [0.70, 0.74, 0.80])
        assert line_at(policies, retrainings) == pytest.approx(expected)
    assert line_at(policies, 81) is None
    assert line_at([policy for policy in policies if policy.name == "loop"], 15) is None


def test_of_calendars_with_as_many_retrainings_the_better_makes_the_line() -> None:
    policies = [PolicyResult("every 8 windows", 0.6, 1, 0.0), PolicyResult("every 16 windows", 0.7, 1, 0.0)]
    assert line_at(policies, 1) == 0.7
    assert line_at([*policies, PolicyResult("never", None, 0, 0.0)], 0) is None


def test_fixed_calendars_are_told_from_other_policies_by_name() -> None:
    assert [calendar_step(name) for name in CALENDARS] == [0, 16, 8, 4, 2, 1]
    assert {calendar_step(name) for name in ("on decay", "loop", "every 0 windows", "every x windows")} == {
        None
    }


# Blocks.


@given(st.integers(4, 2000), st.floats(0.1, 500))
def test_blocks_leave_at_least_four_of_them(windows: int, training: float) -> None:
    block = block_length(windows, training)
    assert 1 <= block <= windows // 4
    assert block_length(min(windows, 3), training) == 0


def test_resampled_means_vary_as_the_means_of_all_blocks_on_the_circle_do() -> None:
    rng = np.random.default_rng(1)
    values = lfilter([1], [1, -0.6], rng.normal(size=60))
    block = 5
    circle = np.concatenate([values, values])
    block_means = np.array([circle[start : start + block].mean() for start in range(60)])
    drawn = resampled_means(values[:, None], block, resamples=20_000, seed=0)[:, 0]
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.01)
    assert drawn.var() == pytest.approx(block_means.var() / (60 / block), rel=0.05)


def test_single_windows_as_blocks_are_the_ordinary_bootstrap() -> None:
    values = np.random.default_rng(2).normal(size=(80, 1))
    drawn = resampled_means(values, 1, resamples=20_000, seed=0)[:, 0]
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(80), rel=0.02)


def test_windows_without_a_score_are_left_out_of_a_mean() -> None:
    values = np.array([[1.0, np.nan], [1.0, 2.0], [1.0, np.nan], [1.0, 2.0]] * 5)
    drawn = resampled_means(values, 2, resamples=50, seed=0)
    assert drawn == pytest.approx(np.tile([1.0, 2.0], (50, 1)))


@pytest.mark.parametrize(("memory", "windows", "least"), [(0.0, 52, 0.92), (0.4, 52, 0.90), (0.4, 125, 0.90)])
def test_intervals_of_means_of_dependent_windows_cover_the_truth(
    memory: float, windows: int, least: float
) -> None:
    rng, covered, block = np.random.default_rng(3), 0, block_length(windows, 8)
    for turn in range(300):
        values = lfilter([1], [1, -memory], rng.normal(size=windows + 50))[50:]
        means = resampled_means(values[:, None], block, resamples=300, seed=turn)[:, 0]
        interval = block_interval(float(values.mean()), means, windows=windows, block=block)
        covered += interval.low <= 0 <= interval.high
    assert least <= covered / 300 <= 0.99


def test_an_interval_from_too_few_blocks_cannot_be_told() -> None:
    assert not block_interval(0.5, np.empty(0), windows=3, block=0).is_known
    assert not block_interval(0.5, np.array([0.4, 0.6]), windows=4, block=4).is_known


# The advice.


def test_a_loop_far_above_the_line_is_advised_and_shown() -> None:
    advice = advise(made_backtest(), SPEC)
    loop = advice.policy("loop")
    assert advice.advised == advice.best == "loop"
    assert loop is not None
    assert loop.line == pytest.approx(0.73)
    assert loop.above.value == pytest.approx(0.02)
    assert 0.01 < loop.above.low < 0.02 < loop.above.high < 0.03
    assert advice.rivals == ()
    assert loop.best_share == 1.0


def test_net_value_is_the_score_less_the_price_of_retrainings() -> None:
    advice = advise(made_backtest(), SPEC)
    assert fresh_loss(made_backtest()) == pytest.approx(0.2)  # of every window
    assert advice.price == pytest.approx(0.4 * 0.2)
    assert advice.price_windows == 0.4
    for name, (score, retrainings) in LEVELS.items():
        policy = advice.policy(name)
        assert policy is not None
        assert policy.net == pytest.approx(score - 0.08 * retrainings / 84)
        loop_net = 0.75 - 0.08 * 15 / 84
        assert policy.behind.value == pytest.approx(loop_net - policy.net)


def test_of_an_error_the_loss_is_the_error() -> None:
    result = made_backtest(
        {"never": (-50.0, 0), "every window": (-40.0, 80)}, metric="neg_mean_absolute_error"
    )
    assert fresh_loss(result) == pytest.approx(40.0)
    assert fresh_loss(made_backtest({"never": (1.2, 0)}, metric="r2")) == 0.0
    assert fresh_loss(Backtest("m", "r2", 1, (PolicyResult("never", None, 0, 0.0),))) is None


@pytest.mark.parametrize(
    ("price", "best"), [(0.0001, "every window"), (0.5, "every 4 windows"), (50.0, "never")]
)
def test_the_dearer_a_retraining_the_rarer_the_calendar_advised(price: float, best: str) -> None:
    levels = {"never": (0.70, 0), "every 4 windows": (0.78, 20), "every window": (0.80, 83)}
    spec = SPEC.model_copy(update={"retrain": SPEC.retrain.model_copy(update={"price": price})})
    advice = advise(made_backtest(levels), spec)
    assert advice.advised == advice.best == best
    assert advice.rivals == ()


def test_a_calendar_shown_better_than_the_loop_is_advised_instead() -> None:
    advice = advise(made_backtest(moved(loop=(0.70, 15))), SPEC)
    assert advice.advised == advice.best
    assert advice.advised != "loop"
    loop = advice.policy("loop")
    assert loop is not None
    assert loop.behind.low > 0
    assert loop.best_share == 0.0


def test_a_hair_more_than_the_loop_is_not_distinguishable_and_the_loop_stays() -> None:
    levels = moved(**{"loop": (0.7500, 15), "loop without second opinion": (0.7502, 15)})
    advice = advise(made_backtest(levels), SPEC)
    assert advice.best == "loop without second opinion"
    assert advice.advised == "loop"
    assert "loop without second opinion" in advice.rivals
    loop, other = advice.policy("loop"), advice.policy("loop without second opinion")
    assert loop is not None
    assert other is not None
    assert 0.1 < (loop.best_share or 0) < (other.best_share or 0) < 0.9
    assert "too seldom" in " ".join(advice_details(advice))


def test_a_loop_on_the_line_is_said_to_be_not_distinguishable_from_calendars() -> None:
    advice = advise(made_backtest(moved(loop=(0.7301, 15))), SPEC)
    loop = advice.policy("loop")
    assert loop is not None
    assert loop.above.low < 0 < loop.above.high
    if advice.advised == "loop":
        assert "not distinguishable from fixed calendars" in advice_sentence(advice)


def test_what_is_likely_is_advised_and_said_to_be_not_shown() -> None:
    levels = {"never": (0.70, 0), "every 4 windows": (0.752, 15), "loop": (0.75, 15)}
    advice = advise(made_backtest(levels, noise=0.008), SPEC)
    loop = advice.policy("loop")
    assert loop is not None
    assert loop.behind.low < 0 < loop.behind.value
    assert advice.advised == "every 4 windows"
    assert "loop" in advice.rivals
    assert "likely but not shown" in advice_sentence(advice)


def test_where_all_policies_are_equal_another_than_the_loop_is_seldom_advised() -> None:
    equal = dict.fromkeys(LEVELS, (0.75, 0))
    rng, other = np.random.default_rng(4), 0
    for _ in range(100):
        result = made_backtest(equal, seed=int(rng.integers(1 << 30)))
        shifted = tuple(
            replace(policy, scores=tuple(np.add(policy.scores, luck)), mean_score=0.75 + luck)
            for policy, luck in zip(result.policies, rng.normal(0, 0.01 / np.sqrt(84), 6), strict=True)
        )
        other += advise(replace(result, policies=shifted), SPEC, resamples=400).advised != "loop"
    assert other <= 40  # a tenth for each of five others, which have the loop in common


def test_the_same_seed_gives_the_same_advice_and_another_nearly_the_same() -> None:
    first, again, other = (advise(made_backtest(), SPEC, seed=seed) for seed in (0, 0, 1))
    assert first.to_json() == again.to_json()
    low, high = (advice.policy("loop").above.low for advice in (first, other))  # type: ignore[union-attr]
    assert low != high
    assert low == pytest.approx(high, abs=0.001)


def test_where_answers_have_a_worth_the_price_is_money() -> None:
    spec = make_spec(
        metric="accuracy", window={"training": "56d", "check": "7d"},
        costs={"currency": "EUR", "per_retraining": 300, "per_hour": 3600},
    )  # fmt: skip
    result = made_backtest()
    paid = replace(
        result,
        policies=tuple(
            replace(policy, money=tuple(1000 * np.array(policy.scores))) for policy in result.policies
        ),
    )
    advice = advise(paid, spec)
    assert (advice.unit, advice.price, advice.price_windows) == ("EUR", 300, None)
    loop = advice.policy("loop")
    assert loop is not None
    assert loop.net == pytest.approx(750 - (300 * 15 + 0.5 * 16) / 84)


def test_without_scores_per_window_means_are_compared_and_nothing_is_said_to_be_sure() -> None:
    result = made_backtest()
    bare = replace(result, policies=tuple(replace(policy, scores=()) for policy in result.policies))
    advice = advise(bare, SPEC)
    assert advice.block == 0
    assert advice.advised == "loop"
    assert all(policy.best_share is None and not policy.behind.is_known for policy in advice.policies)
    assert advice.policy("loop").above == Interval(
        pytest.approx(0.02), *2 * [pytest.approx(np.nan, nan_ok=True)]
    )  # type: ignore[union-attr]
    json.dumps(advice.to_json(), allow_nan=False)
    assert "nobody can say how sure" in " ".join(advice_details(advice))


def test_a_backtest_without_any_score_advises_nothing() -> None:
    advice = advise(Backtest("m", "r2", 1, (PolicyResult("never", None, 0, 0.1),)), SPEC)
    assert advice.advised is None
    assert advice.settings == {}
    assert advice.yaml() == ""
    assert "nothing to advise" in advice_sentence(advice)
    assert advice_details(advice) == []
    json.dumps(advice.to_json(), allow_nan=False)


def test_a_policy_no_setting_makes_is_compared_and_never_advised() -> None:
    advice = advise(made_backtest(moved(**{"on decay": (0.90, 1)})), SPEC)
    best = advice.policy("on decay")
    assert best is not None
    assert (best.net or 0) > max(policy.net or 0 for policy in advice.policies if policy.name != "on decay")
    assert advice.best != "on decay"
    assert best.best_share is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("never", {"retrain": {"budget_per_week": 0}}),
        ("every 4 windows", {"retrain": {"every": "28d"}, "serving": {"second_opinion": "off"}}),
        ("every window", {"retrain": {"every": "7d"}, "window": {"rows": "sliding"}}),
        (
            "loop",
            {"retrain": {"price": 0.4}, "window": {"rows": "fading"}, "serving": {"second_opinion": "auto"}},
        ),
        ("loop without second opinion", {"serving": {"second_opinion": "off"}, "window": {"rows": "fading"}}),
        ("loop without fading", {"window": {"rows": "sliding"}, "serving": {"second_opinion": "auto"}}),
        ("loop without staleness", {"retrain": {"price": 100.0, "max_age": "never"}}),
        ("loop without refit", {"gate": {"refit": False}, "retrain": {"price": 0.4}}),
    ],
)
def test_the_settings_of_a_policy_are_a_valid_part_of_a_block(name: str, expected: dict[str, Any]) -> None:
    made = settings_of(name, SPEC)
    assert made is not None
    assert {part: made[part] for part in expected} == expected
    text = Advice("accuracy", "accuracy", 0.0, 0.1, 1, 0, 0, (), name, name, (), made).yaml()
    read = yaml.safe_load(text)
    assert read == made
    block = spec_block(window={"training": "56d", "check": "7d"})
    merged = parse_spec(
        {**block, **{part: {**block.get(part, {}), **values} for part, values in read.items()}}
    )
    for part, values in made.items():
        for key, value in values.items():
            assert getattr(getattr(merged, part), key) == value


def test_a_loop_that_already_follows_a_calendar_keeps_it() -> None:
    spec = make_spec(window={"training": "56d", "check": "7d"}, retrain={"every": "14d"})
    assert (settings_of("loop", spec) or {})["retrain"] == {"every": "14d"}
    assert settings_of("loop without gate", spec) is None
    assert settings_of("on decay", spec) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(0, 5), st.floats(0.01, 100))
def test_every_backtest_however_short_gets_advice_that_json_can_hold(
    windows: int, gaps: int, price: float
) -> None:
    result = made_backtest(windows=windows)
    policies = tuple(
        replace(
            policy, scores=tuple(None if place < gaps else score for place, score in enumerate(policy.scores))
        )
        for policy in result.policies
    )
    spec = SPEC.model_copy(update={"retrain": SPEC.retrain.model_copy(update={"price": price})})
    advice = advise(replace(result, policies=policies), spec, resamples=50)
    json.dumps(advice.to_json(), allow_nan=False)
    assert advice_sentence(advice).endswith(".")
    assert "nan" not in " ".join([advice_sentence(advice), *advice_details(advice)])
