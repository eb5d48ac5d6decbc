from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tasks.core.drift.chance.benjamini_hochberg import adjusted, share_budget

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_benjamini_hochberg_agrees_with_a_table_worked_by_hand():
    # ordered: 0.003 <= .05/4, 0.024 <= 2 * .05/4, 0.039 > 3 * .05/4 = .0375, 0.9
    levels = share_budget({"a": 0.039, "b": 0.003, "c": 0.9, "d": 0.024}, 0.05)
    assert {test for test, level in levels.items() if level.rejects} == {"b", "d"}
    assert {level.alpha for level in levels.values()} == {0.025}


def test_a_late_test_that_rejects_takes_the_earlier_ones_with_it():
    # the first alone would not: .04 > .05/3; the third does: .045 <= .05
    levels = share_budget({"a": 0.04, "b": 0.041, "c": 0.045}, 0.05)
    assert all(level.rejects for level in levels.values())


@given(p_lists, st.floats(0.001, 0.4))
def test_those_reject_whose_adjusted_p_value_scipy_puts_at_or_below_the_level(p_values, level):
    levels = share_budget(dict(enumerate(p_values)), level)
    exact = stats.false_discovery_control(p_values, method="bh")
    for place, p_value in enumerate(p_values):
        if abs(exact[place] - level) > 1e-12:
            assert levels[place].rejects == (exact[place] <= level)
        assert levels[place].rejects == (p_value <= levels[place].alpha and any(exact <= level + 1e-12))


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.integers(0, 4))
def test_adjusted_levels_are_scipys_and_skip_what_was_not_tested(p_values, absent):
    row = np.array(p_values)
    assert adjusted(row[None])[0] == pytest.approx(stats.false_discovery_control(row, method="bh"), abs=1e-12)
    row[absent] = np.nan
    rest = np.delete(row, absent)
    found = adjusted(row[None])[0]
    assert np.isnan(found[absent])
    assert np.delete(found, absent) == pytest.approx(stats.false_discovery_control(rest), abs=1e-12)


def test_no_tests_give_no_levels():
    assert share_budget({}, 0.01) == {}
