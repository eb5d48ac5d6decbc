from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from tasks.core.drift.counting.bins import Bins
from tasks.core.drift.past.calendar import CHAMPION, choose, find_pattern, slot_of
from tasks.core.drift.past.cycles import find_cycle
from tasks.core.drift.past.history import HEAD, History
from tasks.core.drift.profile import SCORE, build_reference, profile_frame
from tasks.core.drift.verdict import judge
from tasks.core.window import Window
from tests.make import make_spec

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
EDGES = tuple(norm.ppf(np.arange(1, 64) / 64))


def history_of(means, *, rows=200, length=DAY, seed=0, present=None):
    """Blocks of normal rows: means[block, feature] in deviations, counted in 64 cells."""
    rng = np.random.default_rng(seed)
    kept = np.arange(len(means)) if present is None else np.flatnonzero(present)
    rows = np.broadcast_to(rows, len(means))[kept].astype(np.int64)
    features = {}
    for place in range(means.shape[1]):
        ends = norm.cdf(np.array([-np.inf, *EDGES, np.inf]) - means[kept, place][:, None])
        cells = rng.multinomial(rows, np.diff(ends, axis=1))
        head = np.zeros((len(kept), HEAD), dtype=np.int64)
        head[:, 0] = rows
        features[f"f{place}"] = np.hstack([head, cells])
    starts = tuple(MONDAY + int(block) * length for block in kept)
    return History("x", starts, length, rows, features, dict.fromkeys(features, 64))


def pattern_of(means, **over):
    bins = tuple(Bins(f"f{place}", "numeric", EDGES) for place in range(means.shape[1]))
    return find_pattern(history_of(means, **over), bins)


def autoregression(rng, blocks, features, phi=0.9):
    noise = rng.normal(size=(blocks + 100, features))
    for block in range(1, len(noise)):
        noise[block] = phi * noise[block - 1] + noise[block] * np.sqrt(1 - phi**2)
    return noise[100:]


def weekend(blocks, per_day=1):
    return ((np.arange(blocks) // per_day) % 7 >= 5).astype(float)[:, None]


NO_PATTERN = {
    "pure noise": lambda rng, k: np.zeros((k, 5)),
    "AR(0.9)": lambda rng, k: 0.5 * autoregression(rng, k, 5),
    "AR(0.9) common to all features": lambda rng, k: 0.5 * autoregression(rng, k, 1) * np.ones(5),
    "a random walk": lambda rng, k: np.cumsum(0.1 * rng.normal(size=(k, 5)), axis=0),
    "a trend": lambda rng, k: np.linspace(0, 2, k)[:, None] * np.ones(5),
    "a break": lambda rng, k: (np.arange(k) > rng.integers(5, k - 5))[:, None] * np.ones(5),
}


@pytest.mark.parametrize("name", NO_PATTERN)
def test_no_pattern_is_found_where_there_is_none(name):
    # 10 features, 300 runs each at 21, 28 and 90 days: 2 false patterns in 6,300, both of 28 days of AR(0.9)
    for blocks in (28, 90):
        found = []
        for seed in range(20):
            means = NO_PATTERN[name](np.random.default_rng(seed), blocks)
            found.append(pattern_of(means, seed=seed)[0])
        assert found.count("none") >= 19, blocks


def test_days_without_rows_and_days_of_few_rows_are_no_pattern():
    for seed in range(15):
        means = 0.5 * autoregression(np.random.default_rng(seed), 90, 5)
        assert pattern_of(means, present=weekend(90)[:, 0] == 0, seed=seed)[0] == "none"
        few = np.where(weekend(90)[:, 0] == 1, 10, 200)
        assert pattern_of(np.zeros((90, 5)), rows=few, seed=seed)[0] == "none"


def test_a_weekend_effect_is_found_in_four_weeks_and_told_in_plain_words():
    means = weekend(28) * [1, 0, 0, 0]
    pattern, why = pattern_of(means)
    assert pattern == "weekday"
    assert why.startswith("f0 follows the weekday, which explains ")


def test_a_weekend_effect_is_found_beside_a_trend_slow_drift_and_missing_days():
    rng = np.random.default_rng(0)
    trend, slow = np.linspace(0, 2, 90)[:, None], 0.3 * autoregression(rng, 90, 3)
    present = rng.random(90) < 0.85
    assert pattern_of(weekend(90) + trend + slow, present=present)[0] == "weekday"


def test_a_pattern_too_small_to_matter_is_none_however_certain():
    pattern, why = pattern_of(0.08 * weekend(90) * [1, 0], rows=1_000_000)
    assert pattern == "none"
    assert why == "none of 2 features follows the weekday beyond chance and by enough to matter"


def test_a_share_of_missing_values_that_follows_the_week_is_a_pattern():
    history = history_of(np.zeros((56, 1)))
    gone = (weekend(56)[:, 0] * 0.3 * history.cells("f0")[:, 10:50].sum(axis=1)).astype(int)
    table = history.features["f0"]
    for block, missing in enumerate(gone):
        left = np.random.default_rng(block).multivariate_hypergeometric(
            table[block, HEAD:], int(table[block, HEAD:].sum() - missing)
        )
        table[block, HEAD:], table[block, 1] = left, missing
    assert find_pattern(history, (Bins("f0", "numeric", EDGES),))[0] == "weekday"


@pytest.mark.parametrize(
    ("hour", "week", "expected"),
    [(0.7, 0, "hour"), (0, 1, "weekday"), (0.7, 1, "weekday_hour"), (0, 0, "none")],
)
def test_blocks_of_an_hour_may_differ_by_hour_by_weekday_or_by_both(hour, week, expected):
    blocks = 24 * 28
    daily = np.sin(2 * np.pi * np.arange(blocks) / 24)[:, None]
    means = hour * daily * [1, 0] + week * weekend(blocks, 24) * [1, 1]
    assert pattern_of(means, rows=50, length=HOUR)[0] == expected


@pytest.mark.parametrize("length", [timedelta(days=7), timedelta(days=14), timedelta(hours=36), 5 * HOUR])
def test_windows_that_have_no_place_in_a_week_or_day_have_no_pattern(length):
    pattern, why = pattern_of(weekend(90), length=length)
    assert pattern == "none"
    assert "no place in a week or a day" in why


def test_less_than_three_weeks_or_no_times_are_said_to_be_too_little():
    assert pattern_of(weekend(20)) == ("none", "the history is too short to tell a pattern by weekday")
    timeless = replace(history_of(weekend(28)), starts=(), length=None)
    assert find_pattern(timeless, (Bins("f0", "numeric", EDGES),)) == (
        "none",
        "the times of the rows are not known",
    )


def test_features_of_one_value_or_none_have_no_cycle():
    days = np.arange(28)
    assert find_cycle(np.full((28, 1), 7), days, 7) is None
    assert find_cycle(np.full((28, 2), 7), days, 7) is None
    assert find_cycle(np.zeros((28, 3), dtype=np.int64), days, 7) is None


def test_the_p_value_of_a_cycle_is_uniform_or_larger_in_noise():
    # an F-test per line of the spectrum, times three lines: never more often below p than p
    rng = np.random.default_rng(0)
    found = [find_cycle(rng.multinomial(300, [0.1] * 10, 84), np.arange(84), 7).p_value for _ in range(500)]
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(found) <= level) <= level + 2.6 * np.sqrt(level * (1 - level) / 500)


def test_a_place_in_the_calendar():
    sunday = MONDAY + 6 * DAY
    assert [slot_of(MONDAY + d * DAY, DAY, "weekday") for d in range(7)] == list(range(7))
    assert slot_of(sunday, 2 * DAY, "weekday") == 6
    assert slot_of(sunday + timedelta(minutes=-5), DAY, "weekday") == 6  # a little off is the nearest
    assert slot_of(sunday + 23 * HOUR, HOUR, "hour") == 23
    assert slot_of(sunday + 12 * HOUR, 6 * HOUR, "hour") == 2
    assert slot_of(sunday + 23 * HOUR, HOUR, "weekday_hour") == 167
    assert slot_of(sunday + 23 * HOUR, HOUR, "weekday") == 6
    assert slot_of(sunday, DAY, "none") == 0


def spec_of(mode="auto", *, check="1d", min_rows=50):
    return make_spec(
        features={"numeric": ["x"], "categorical": []},
        contract={},
        window={"training": "90d", "check": check},
        drift={"reference": mode, "min_rows": min_rows, "rolling": 3, "windows": [2, 3]},
    )


def rows_of(days, *, begin=MONDAY, per_day=200, effect=1.0, seed=0):
    rng = np.random.default_rng(seed)
    times = pd.Series(pd.date_range(begin, periods=days * per_day, freq=DAY / per_day))
    off = (times.dt.weekday >= 5).to_numpy() * effect
    return pd.DataFrame({"x": rng.normal(size=len(times)) + off}), times


def found(reference, pattern):
    """The reference as if its calibration had found this pattern."""
    return replace(reference, calibration=replace(reference.calibration, pattern=pattern))


@pytest.fixture(scope="module")
def reference():
    frame, times = rows_of(84)
    return build_reference(frame, spec_of(), times=times)


def day(number):
    return Window(MONDAY + number * DAY, MONDAY + (number + 1) * DAY)


def test_a_weekend_effect_alarms_on_28_of_28_days_against_one_pool_and_on_none_against_the_same_weekday():
    # the article's case, with an effect so large that the pool looks like neither a workday nor a weekend
    spec, alarms = spec_of(), {"pool": 0, "same weekday": 0}
    past, when = rows_of(84, effect=3.0)
    whole = build_reference(past, spec, times=when)
    assert whole.pattern == "weekday"
    pool = replace(whole, calibration=None, history=None)
    frame, times = rows_of(28, begin=MONDAY + 84 * DAY, effect=3.0, seed=5)
    for number in range(84, 112):
        window = day(number)
        inside = (times >= window.start) & (times < window.end)
        profile = profile_frame(frame[inside.to_numpy()], whole)
        against = choose(whole, window, spec)
        assert against.kind == "calendar"
        alarms["pool"] += judge(pool, profile, spec).outcome == "drift"
        alarms["same weekday"] += judge(whole, profile, spec, against=against).outcome == "drift"
    assert alarms == {"pool": 28, "same weekday": 0}


def test_a_window_is_compared_with_the_same_weekday_where_the_history_shows_a_pattern(reference):
    against = choose(reference, day(89), spec_of())
    assert (against.kind, against.reason) == ("calendar", "the 12 Saturdays of the champion's 84 days")
    assert {reference.history.starts[block].weekday() for block in against.blocks} == {5}
    assert against.profile == reference.history.profile(against.blocks)
    assert choose(reference, day(89), spec_of("calendar")) == against
    assert choose(reference, day(89), spec_of("champion")).profile == reference.profile


def test_without_a_pattern_auto_says_nothing_and_calendar_says_why(reference):
    plain = found(reference, "none")
    auto, calendar = (choose(plain, day(89), spec_of(mode)) for mode in ("auto", "calendar"))
    assert (auto.kind, auto.reason, auto.profile) == ("champion", CHAMPION, plain.profile)
    assert calendar.reason == f"{CHAMPION}: its history shows no pattern by weekday or hour"


@pytest.mark.parametrize(
    ("window", "min_rows", "why"),
    [
        (None, 50, "the window's time is not known"),
        (
            Window(MONDAY, MONDAY + 7 * DAY),
            50,
            "a window of 7 days is no slot of a history in blocks of 1 day",
        ),
        (Window(MONDAY, MONDAY + HOUR), 50, "a window of 1 hour is no slot of a history in blocks of 1 day"),
        (Window(MONDAY + 6 * HOUR, MONDAY + 30 * HOUR), 50, "starts at 06:00 UTC, between two blocks"),
        (day(89), 3000, "its history has 12 Saturdays with 2400 rows, too few"),
    ],
)
def test_a_window_without_a_slot_is_compared_with_the_champion_and_the_reason_says_why(
    reference, window, min_rows, why
):
    against = choose(reference, window, spec_of(min_rows=min_rows))
    assert (against.kind, against.profile) == ("champion", reference.profile)
    assert why in against.reason


def test_scores_the_history_does_not_know_are_the_champions():
    frame, times = rows_of(84)
    spec = spec_of()
    scored = build_reference(frame, spec, times=times, scores=np.linspace(0, 1, 500))
    against = choose(found(scored, "weekday"), day(89), spec)
    assert against.profile.features[SCORE] == scored.profile.features[SCORE]
    assert against.profile.features["x"].rows == against.profile.rows == 2400


def test_a_rolling_reference_is_the_sum_of_the_newest_windows_before(reference):
    frame, times = rows_of(10, begin=MONDAY + 84 * DAY, seed=2)
    days = [profile_frame(part, reference) for _, part in frame.groupby(times.dt.date)]
    against = choose(reference, day(94), spec_of("rolling"), earlier=days)
    assert (against.kind, against.reason) == ("rolling", "the 3 windows before")
    assert against.profile == days[7] + days[8] + days[9]


def test_windows_of_another_version_or_too_few_are_no_rolling_reference(reference):
    frame, times = rows_of(4, begin=MONDAY + 84 * DAY, seed=2)
    days = [profile_frame(part, reference) for _, part in frame.groupby(times.dt.date)]
    alien = replace(days[0], reference_id="another")
    against = choose(reference, day(94), spec_of("rolling"), earlier=[alien, *days[1:]])
    assert against.reason == "the 3 windows before; 1 of other versions or without rows left out"
    few = choose(reference, day(94), spec_of("rolling"), earlier=[alien, *days[2:]])
    assert few.kind == "champion"
    assert "only 2 earlier windows to compare with; 1 of other versions" in few.reason


def test_rolling_windows_some_of_which_were_not_scored_leave_the_scores_to_the_champion():
    frame, times = rows_of(84)
    spec = spec_of("rolling")
    scored = build_reference(frame, spec, times=times, scores=np.linspace(0, 1, 500))
    windows = [profile_frame(frame[:60], scored, scores=np.full(60, 0.5)) for _ in range(2)]
    windows.append(profile_frame(frame[:60], scored))
    against = choose(scored, day(89), spec, earlier=windows)
    assert against.profile.features[SCORE] == scored.profile.features[SCORE]
    assert against.profile.features["x"].rows == 180
