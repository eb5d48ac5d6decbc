from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.drift.holm import share_budget

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_holm_agrees_with_a_table_worked_by_hand():
    # ordered: 0.003 <= 0.05/4, 0.012 <= 0.05/3, 0.03 > 0.05/2: stop; 0.04 falls with it
    levels = share_budget({"a": 0.03, "b": 0.003, "c": 0.04, "d": 0.012}, 0.05)
    assert {test for test, level in levels.items() if level.rejects} == {"b", "d"}
    assert [round(levels[test].alpha, 4) for test in "bdac"] == [0.0125, 0.0167, 0.025, 0.05]


@given(p_lists, st.floats(0.001, 0.4))
def test_holm_rejects_all_that_bonferroni_does_and_nothing_above_the_budget(p_values, budget):
    levels = share_budget(dict(enumerate(p_values)), budget)
    for place, p_value in enumerate(p_values):
        if p_value <= budget / len(p_values):
            assert levels[place].rejects
        if p_value > budget:
            assert not levels[place].rejects


def test_no_tests_give_no_levels():
    assert share_budget({}, 0.01) == {}
