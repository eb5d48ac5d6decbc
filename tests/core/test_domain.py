from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tasks.core.drift.rows.domain import MOST_ROWS, PARTS, _parts, domain_reading, mann_whitney
from tasks.core.drift.rows.interactions import learn_interactions

NAMES = [f"x{place}" for place in range(12)]


def normals(rows, seed, *, rho=0.0, shift=0.0, columns=12):
    """Return standard normal columns in 64 cells each; the first two correlated, the third shifted."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns))
    x[:, 1] = rho * x[:, 0] + np.sqrt(1 - rho**2) * x[:, 1]
    x[:, 2] += shift
    return np.clip(np.floor(stats.norm.cdf(x) * 64), 0, 63).astype(np.int16)


def partners(rows, seed, *, swapped):
    """Return two categories of four values that mostly go together, and ten columns of noise."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 30, (rows, 12)).astype(np.int16)
    codes[:, 0] = rng.integers(0, 4, rows)
    codes[:, 1] = np.where(rng.random(rows) < 0.3, rng.integers(0, 4, rows), codes[:, 0] ^ swapped)
    return codes


def test_two_samples_of_one_distribution_are_not_told_apart():
    reading, leaning = domain_reading(normals(1500, 1), normals(1500, 2), NAMES)
    assert reading.value == pytest.approx(0.5, abs=0.03)
    assert reading.p_value > 0.05
    assert leaning == ()


def test_a_changed_correlation_that_no_single_column_shows_is_found_and_named():
    before, now = normals(2000, 3), normals(2000, 4, rho=0.8)
    for column in range(12):  # what measures of single columns could see
        assert stats.ks_2samp(before[:, column], now[:, column]).pvalue > 0.001
    reading, leaning = domain_reading(before, now, NAMES)
    assert reading.value > 0.65
    assert reading.p_value < 1e-12
    assert set(leaning[:2]) == {"x0", "x1"}


def test_categories_that_swap_partners_are_found_and_named():
    before, now = partners(1500, 5, swapped=0), partners(1500, 6, swapped=1)
    for column in (0, 1):
        table = np.array([np.bincount(side[:, column], minlength=4) for side in (before, now)])
        assert stats.chi2_contingency(table).pvalue > 0.001
    reading, leaning = domain_reading(before, now, NAMES)
    assert reading.value > 0.8
    assert set(leaning[:2]) == {"x0", "x1"}


def test_the_area_of_a_shift_comes_near_what_theory_allows():
    reading, leaning = domain_reading(normals(5000, 7), normals(5000, 8, shift=0.5), NAMES)
    best = stats.norm.cdf(0.5 / np.sqrt(2))  # nothing tells two such normals apart better
    assert best - 0.03 < reading.value < best + 0.015
    assert leaning == ("x2",)


@pytest.mark.parametrize(("rows", "other"), [(200, 200), pytest.param(300, 900, marks=pytest.mark.slow)])
def test_undrifted_samples_are_called_different_as_often_as_the_level_says(rows, other):
    p_values = [
        domain_reading(
            normals(rows, 2 * seed, columns=5), normals(other, 2 * seed + 1, columns=5), NAMES[:5], seed=seed
        )[0].p_value
        for seed in range(40)
    ]
    # 40 draws: beyond these counts the chance is below 0.001 (binomial)
    assert sum(p < 0.05 for p in p_values) <= stats.binom.isf(0.001, 40, 0.05)
    assert sum(p < 0.01 for p in p_values) <= stats.binom.isf(0.001, 40, 0.01)
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_the_mann_whitney_score_is_scipys():
    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=90), rng.integers(0, 4, 90).astype(float)):
        is_current = np.arange(90) >= 50
        area, z = mann_whitney(scores, is_current)
        theirs = stats.mannwhitneyu(
            scores[50:], scores[:50], alternative="greater", method="asymptotic", use_continuity=False
        )
        assert area == pytest.approx(theirs.statistic / (50 * 40))
        assert stats.norm.sf(z) == pytest.approx(theirs.pvalue)


def test_equal_scores_tell_nothing():
    assert mann_whitney(np.zeros(20), np.arange(20) >= 5) == (0.5, 0.0)


def test_nulls_invalid_and_unseen_cells_are_values_of_their_own():
    before, now = normals(800, 9), normals(800, 10)
    for cell in (-1, -2, 900):
        changed = now.copy()
        changed[:200, 4] = cell
        reading, leaning = domain_reading(before, changed, NAMES)
        assert reading.p_value < 1e-6
        assert leaning[0] == "x4"


def test_constant_columns_and_nothing_but_constants_do_no_harm():
    before, now = normals(400, 11), normals(400, 12)
    before[:, 3:] = now[:, 3:] = 5
    assert domain_reading(before, now, NAMES)[0].p_value > 0.01
    same = np.full((300, 2), 7, dtype=np.int16)
    reading, _ = domain_reading(same, same, NAMES[:2])
    assert (reading.value, reading.p_value) == (0.5, 0.5)


def test_one_column_is_enough_and_columns_exchanged_are_seen():
    one = [f[:, :1] for f in (normals(500, 13), normals(500, 14))]
    assert domain_reading(one[0], one[1], NAMES[:1])[0].p_value > 0.01
    before, now = normals(600, 15), normals(600, 16)
    before[:, 5] //= 8
    now[:, 5] //= 8
    now[:, [4, 5]] = now[:, [5, 4]]
    reading, leaning = domain_reading(before, now, NAMES)
    assert reading.value > 0.9
    assert set(leaning) <= {"x4", "x5"}


def test_few_rows_and_wrong_columns_are_told():
    reading, leaning = domain_reading(normals(199, 1), normals(500, 2), NAMES)
    assert (reading.value, reading.p_value, leaning) == (None, None, ())
    assert "200 rows" in reading.note
    with pytest.raises(ValueError, match="other columns"):
        domain_reading(normals(300, 1), normals(300, 2), NAMES[:3])


def test_the_same_seed_gives_the_same_reading_and_large_samples_are_cut():
    before, now = normals(MOST_ROWS + 700, 1, columns=3), normals(300, 2, columns=3)
    first = domain_reading(before, now, NAMES[:3], seed=4)
    assert first == domain_reading(before, now, NAMES[:3], seed=4)
    assert first[0] != domain_reading(before, now, NAMES[:3], seed=5)[0]


def test_of_very_many_columns_those_that_differ_are_used():
    before, now = normals(300, 1, columns=400), normals(300, 2, columns=400, shift=1.5)
    reading, leaning = domain_reading(before, now, [f"x{place}" for place in range(400)])
    assert reading.p_value < 1e-6
    assert leaning[0] == "x2"


def test_every_part_holds_as_many_rows_of_either_sample():
    is_current = np.arange(1000) >= 800
    part = _parts(is_current, np.random.default_rng(0))
    assert [np.bincount(part[is_current == side]).tolist() for side in (False, True)] == [
        [800 // PARTS] * PARTS,
        [200 // PARTS] * PARTS,
    ]


def test_the_pair_whose_correlation_changed_comes_first():
    codes = np.vstack([normals(500, 1), normals(500, 2, rho=0.6)])
    learnt = learn_interactions(codes, np.arange(1000) >= 500, 3)
    assert learnt.pairs[0] == (0, 1)
    column = learnt.columns(codes)[:, 0]
    assert column[500:].mean() > column[:500].mean()
    assert learnt.columns(codes[:0]).shape == (0, len(learnt.pairs))


def test_no_pair_is_added_where_none_changed_beyond_chance():
    codes = np.vstack([normals(500, 1), normals(500, 2, shift=1)])
    assert learn_interactions(codes, np.arange(1000) >= 500, 6).pairs == ()
