"""What chance does to the score's error budget: against an independent source, and with known truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tasks.core.health.budget import Budget, Kept, by_chance, chance_of_a_miss, score_budget
from tasks.core.window import Window

DAY = timedelta(days=1)
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def day(place: int) -> Window:
    return Window(T0 + place * DAY, T0 + (place + 1) * DAY)


def test_misses_that_chance_adds_are_no_overspending_until_they_exceed_its_quantile() -> None:
    from scipy import stats

    chances = np.random.default_rng(2).uniform(0.05, 0.5, 12)
    truth = stats.poisson_binom(chances)
    assert [by_chance(chances, level) for level in (0.2, 0.01, 0.001)] == [
        int(truth.ppf(1 - level)) for level in (0.2, 0.01, 0.001)
    ]
    more = by_chance([0.3] * 30, 0.01)
    assert more == int(stats.binom.ppf(0.99, 30, 0.3))

    def missed(number: int) -> Budget:
        kept = [Kept(day(place), place < number, 0.3) for place in range(30)]
        return score_budget(kept, budget=0.1, period=30 * DAY, length=DAY)

    assert [missed(number).outcome for number in (2, 4, 3 + more, 4 + more, 30)] == [
        "ok", "warn", "warn", "drift", "drift",
    ]  # fmt: skip
    assert missed(10).summary()["by_chance"] == more
    assert missed(10).share == pytest.approx(1 / 3)


@pytest.mark.parametrize("rows", [100, 1000])
def test_a_model_that_keeps_its_promise_overspends_no_more_often_than_budgeted_and_a_worse_one_does(
    rows: int,
) -> None:
    rng, band = np.random.default_rng(rows), 0.02 * 0.8

    def overspent(truth: float) -> float:
        scores = rng.binomial(rows, truth, (200, 30)) / rows
        reach = 1.96 * np.sqrt(scores * (1 - scores) / rows)
        alarms = 0
        for values, wide in zip(scores, reach, strict=True):
            kept = [
                Kept(day(place), value < 0.8 - band, chance_of_a_miss(band, half, 0.95))
                for place, (value, half) in enumerate(zip(values, wide, strict=True))
            ]
            alarms += score_budget(kept, budget=0.1, period=30 * DAY, length=DAY).outcome == "drift"
        return alarms / 200

    assert overspent(0.8) <= 0.01
    assert overspent(0.65) > 0.9
