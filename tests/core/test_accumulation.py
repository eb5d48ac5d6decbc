from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tasks.core.policy.accumulation import ALIKE, acts_on, needed_strength
from tasks.core.policy.evidence import CheckOutcome
from tasks.core.window import Window

T0 = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
LETTERS = {"o": "ok", "w": "warn", "d": "drift", "u": "undecided"}


def checks(letters: str, *strengths: float | None) -> tuple[CheckOutcome, ...]:
    every = strengths or (None,) * len(letters)
    return tuple(
        CheckOutcome(Window(T0 + k * WEEK, T0 + (k + 1) * WEEK), LETTERS[letter], strength=strength)
        for k, (letter, strength) in enumerate(zip(letters, every, strict=True))
    )


@pytest.mark.parametrize(
    ("letters", "windows", "acts"),
    [
        ("", (1, 1), False),
        ("d", (1, 1), True),
        ("d", (2, 3), False),
        ("dud", (2, 3), True),
        ("ddo", (2, 3), False),
        ("dood", (2, 3), False),
        ("dood", (2, 4), True),
        ("www", (2, 3), False),
    ],
)
def test_without_magnitudes_m_of_the_last_n_and_the_newest_count(letters, windows, acts: bool) -> None:
    assert acts_on(checks(letters), windows, 0.01) == acts


@pytest.mark.parametrize(
    ("letters", "strengths", "acts"),
    [
        ("www", (0.9, 0.9, 0.9), True),  # each just below the limit
        ("uuu", (0.9, 0.9, 0.9), True),  # windows too small to tell anything alone
        ("ow", (0.9, 0.9), False),
        ("oww", (0.2, 0.9, 0.9), False),
        ("d", (5.0,), True),  # one enormous change waits for no second window
        ("d", (1.5,), False),
        ("do", (5.0, 0.1), False),  # and once it is over, it is no reason to act
        ("du", (5.0, None), False),
        ("od", (None, 5.0), True),
        ("odd", (0.0, 1.0, 1.0), True),  # two just enough are two of three
        ("wooww", (0.9, 0.0, 0.0, 0.9, 0.9), False),  # too long ago
    ],
)
def test_magnitudes_add_up_over_the_last_windows(letters, strengths, acts: bool) -> None:
    assert acts_on(checks(letters, *strengths), (2, 3), 0.01) == acts


def test_where_one_window_is_enough_nothing_is_added_up() -> None:
    assert not acts_on(checks("www", 0.9, 0.9, 0.9), (1, 3), 0.01)
    assert acts_on(checks("d", 1.0), (1, 3), 0.01)


def test_needed_strength_is_browns_limit_and_never_less_than_m() -> None:
    covariance = 3.263 * ALIKE + 0.710 * ALIKE**2 + 0.027 * ALIKE**3
    variance = 4 * 3 + 2 * 3 * covariance
    limit = stats.chi2.isf(0.05, 2 * 6**2 / variance) * variance / (2 * 6)
    assert needed_strength((2, 3), 0.05) == pytest.approx(limit / (-2 * np.log(0.05)))
    assert needed_strength((3, 3), 0.01) == 3.0
    assert 2 < needed_strength((2, 3), 0.01) < 2.2


@pytest.mark.parametrize("windows", [(2, 2), (2, 3), (3, 5)])
@pytest.mark.parametrize("budget", [0.01, 0.05])
@pytest.mark.parametrize("alike", [0.0, 0.1, ALIKE])
def test_without_drift_it_acts_no_more_often_than_one_check_alarms(windows, budget, alike) -> None:
    """Windows share a reference, so their p-values are alike; every effect is taken as large enough."""
    rng = np.random.default_rng(1)
    sequences, of = 40_000, windows[1]
    shared = rng.normal(size=(sequences, 1)) * np.sqrt(alike)
    p_values = stats.norm.sf(shared + np.sqrt(1 - alike) * rng.normal(size=(sequences, of)))
    strengths = np.log(p_values) / np.log(budget)
    needed = needed_strength(windows, budget)
    bad = strengths >= 1
    counted = bad[:, -1] & (bad.sum(axis=1) >= windows[0])
    added = (strengths[:, -1] >= needed / of) & (strengths.sum(axis=1) >= needed)
    some = rng.integers(0, sequences, 200)  # the arithmetic above is that of acts_on
    for row in (*np.flatnonzero(counted | added)[:50], *some):
        letters = "".join("d" if one else "o" for one in bad[row])
        assert acts_on(checks(letters, *strengths[row]), windows, budget) == (counted | added)[row]
    alarms = int((counted | added).sum())
    assert alarms <= stats.binom.ppf(0.999, sequences, budget)


@given(st.lists(st.tuples(st.sampled_from("owdu"), st.none() | st.floats(0, 10)), max_size=5))
def test_a_stronger_newest_window_never_turns_acting_into_waiting(parts) -> None:
    before = checks("".join(letter for letter, _ in parts), *(strength for _, strength in parts))
    if before and acts_on(before, (2, 3), 0.01):
        newest = CheckOutcome(before[-1].window, "drift", strength=(before[-1].strength or 0) + 1)
        assert acts_on((*before[:-1], newest), (2, 3), 0.01)
