"""Rows in clusters: how they are made, and whether the error of a difference follows them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.evaluation.clusters import BLOCKS, cluster_codes, clustered_difference
from tasks.core.evaluation.scoring import Scored, statistic

START = datetime(2026, 1, 5, tzinfo=UTC)


def labels(rows: int, seed: int, share: float = 0.85) -> tuple[Scored, Scored]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    pair = []
    for _ in range(2):
        chance = np.clip(rng.normal(0.5 + 0.25 * (2 * y - 1), 0.2), 0.01, 0.99)
        answer = np.where(rng.random(rows) < share, y, 1 - y)
        pair.append(Scored(y, answer, np.column_stack([1 - chance, chance]), (0, 1)))
    return pair[0], pair[1]


def numbers(rows: int, seed: int) -> tuple[Scored, Scored]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=rows)
    return Scored(y, y + rng.normal(size=rows)), Scored(y, y + 1.1 * rng.normal(size=rows))


@given(st.integers(0, 300), st.integers(1, 20))
def test_time_blocks_are_contiguous_and_of_even_size_whatever_the_order_of_the_rows(rows, blocks):
    order = np.random.default_rng(rows).permutation(rows)
    times = pd.Series([START + timedelta(hours=int(hour)) for hour in order], dtype="datetime64[ns, UTC]")
    codes = cluster_codes(times, blocks=blocks)
    assert (np.diff(codes[np.argsort(order)]) >= 0).all()
    sizes = np.bincount(codes)
    assert len(sizes) == min(blocks, rows) and (not rows or sizes.max() - sizes.min() <= 1)


def test_rows_of_one_moment_stay_together_unless_there_are_hardly_any_moments():
    days = np.repeat([START + timedelta(days=day) for day in range(30)], 7)
    codes = cluster_codes(days)
    assert all(len(set(codes[days == day])) == 1 for day in set(days))
    assert len(set(codes)) == BLOCKS
    assert len(set(cluster_codes([START] * 100))) == BLOCKS


def test_groups_are_clusters_a_missing_group_is_a_row_of_its_own_and_too_few_groups_are_none():
    groups = np.array(["a", "b", None, "c", "a", np.nan, "d"], dtype=object)
    codes = cluster_codes(range(7), groups)
    assert codes[0] == codes[4] and len(set(codes)) == 6
    few = cluster_codes(range(24), ["a", "b"] * 12, blocks=4)
    assert np.bincount(few).tolist() == [6] * 4


def test_a_missing_time_comes_last():
    times = pd.Series([pd.NaT, *(START + timedelta(hours=hour) for hour in range(7))])
    assert cluster_codes(times, blocks=2).tolist() == [1, 0, 0, 0, 0, 1, 1, 1]


def test_independent_rows_have_the_error_of_a_mean_and_no_design_effect():
    challenger, champion = labels(400, 3)
    result = clustered_difference(challenger, champion, "accuracy", np.arange(400))
    gains = (challenger.prediction == challenger.y_true) * 1.0 - (champion.prediction == champion.y_true)
    assert result.value == pytest.approx(gains.mean())
    assert result.standard_error == pytest.approx(gains.std(ddof=1) / math.sqrt(400))
    assert (result.design_effect, result.degrees_of_freedom) == pytest.approx((1.0, 399))


def test_rows_copied_four_times_have_a_design_effect_of_four():
    challenger, champion = numbers(250, 5)
    copied = [
        Scored(np.repeat(scored.y_true, 4), np.repeat(scored.prediction, 4))
        for scored in (challenger, champion)
    ]
    metric = "neg_mean_absolute_error"
    result = clustered_difference(copied[0], copied[1], metric, np.repeat(np.arange(250), 4))
    single = clustered_difference(challenger, champion, metric, np.arange(250))
    assert result.standard_error == pytest.approx(single.standard_error)
    assert result.design_effect == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "roc_auc", "neg_log_loss", "average_precision"])
def test_leaving_out_clusters_gives_the_jackknife_of_the_metric_itself(metric):
    challenger, champion = labels(120, 7)
    codes = cluster_codes(range(120))
    result = clustered_difference(challenger, champion, metric, codes)
    own, other = (statistic(scored, metric) for scored in (challenger, champion))
    values = np.array([own((codes != c) * 1.0) - other((codes != c) * 1.0) for c in range(BLOCKS)])
    spread = math.sqrt((BLOCKS - 1) / BLOCKS * ((values - values.mean()) ** 2).sum())
    assert result.value == pytest.approx(own(None) - other(None))
    assert result.standard_error >= spread * (1 - 1e-9)
    if result.design_effect > 1:
        assert result.standard_error == pytest.approx(spread)


@pytest.mark.parametrize("metric", ["neg_root_mean_squared_error", "r2", "neg_median_absolute_error"])
def test_a_weight_counts_as_so_many_copies_of_the_row_in_its_cluster(metric):
    challenger, champion = numbers(90, 11)
    codes, weights = cluster_codes(range(90), blocks=10), np.tile([1.0, 2.0, 3.0], 30)
    times = weights.astype(int)
    copied = [
        Scored(np.repeat(scored.y_true, times), np.repeat(scored.prediction, times))
        for scored in (challenger, champion)
    ]
    weighted = clustered_difference(challenger, champion, metric, codes, weights=weights)
    repeated = clustered_difference(copied[0], copied[1], metric, np.repeat(codes, times))
    assert weighted.value == pytest.approx(repeated.value)
    assert weighted.degrees_of_freedom == pytest.approx(repeated.degrees_of_freedom)


def test_many_clusters_are_put_together_and_cost_no_more_than_a_hundred_removals():
    challenger, champion = labels(3000, 13)
    exact = clustered_difference(challenger, champion, "accuracy", np.arange(3000))
    gains = (challenger.prediction == challenger.y_true) * 1.0 - (champion.prediction == champion.y_true)
    assert exact.standard_error == pytest.approx(gains.std(ddof=1) / math.sqrt(3000), rel=0.15)
    area = clustered_difference(challenger, champion, "roc_auc", np.arange(3000))
    assert (area.clusters, area.degrees_of_freedom) == (3000, 99)


def test_one_large_cluster_leaves_few_degrees_of_freedom():
    codes = np.concatenate([np.zeros(50, int), np.arange(1, 51)])
    result = clustered_difference(*labels(100, 17), "accuracy", codes)
    assert result.clusters == 51 and result.degrees_of_freedom == pytest.approx(100**2 / 2550 - 1)


def test_what_rests_on_one_cluster_cannot_be_told():
    challenger, champion = labels(60, 19)
    assert math.isnan(
        clustered_difference(challenger, champion, "accuracy", np.zeros(60, int)).standard_error
    )
    assert math.isnan(clustered_difference(*labels(0, 1), "accuracy", np.zeros(0, int)).value)
    y = np.repeat([1, 0], [5, 55])
    alone = [Scored(y, scored.prediction, scored.probabilities, (0, 1)) for scored in (challenger, champion)]
    result = clustered_difference(alone[0], alone[1], "roc_auc", cluster_codes(range(60)))
    assert math.isfinite(result.value) and math.isnan(result.interval(0.95).low)
    with pytest.raises(ValueError, match="one entry per row"):
        clustered_difference(challenger, champion, "accuracy", np.zeros(59, int))


def test_models_that_say_the_same_have_no_difference_and_no_error():
    challenger, _ = labels(60, 23)
    result = clustered_difference(challenger, challenger, "accuracy", cluster_codes(range(60)))
    assert (result.value, result.standard_error, result.p_better, result.design_effect) == (0, 0, 0.5, 1)
