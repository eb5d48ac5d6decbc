from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.false_alarms import false_alarms, mixed, series

BUDGET = 0.01


def most(checks: int) -> int:
    """Return how many alarms a true rate of the budget exceeds in one of a thousand runs."""
    return int(stats.binom.ppf(0.999, checks, BUDGET))


@pytest.mark.parametrize("rows", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_hundred_undrifted_checks_of_thirty_mixed_features_alarm_within_the_budget(rows):
    rng = np.random.default_rng(rows)
    found = false_alarms("mixed", rows, mixed(rows, 100, rng, reference=10_000, people=50_000))
    assert found["budget"] == BUDGET
    # nor do tests reject more often, whatever the effect sizes that keep most of them from alarming
    assert found["rate"] * 100 <= found["warned"] * 100 <= found["rejecting"] * 100 <= most(100)


@pytest.mark.parametrize(
    ("case", "rows", "days"),
    [
        ("autocorrelated", 100, 40),
        pytest.param("clustered", 400, 20, marks=pytest.mark.slow),
        pytest.param("weekend", 100, 42, marks=pytest.mark.slow),
    ],
)
def test_rows_that_resemble_each_other_alarm_within_the_budget(case, rows, days):
    found = false_alarms(case, rows, series(case, rows, 20, np.random.default_rng(days), days=days))
    assert found["rejecting"] * 20 <= most(20)
