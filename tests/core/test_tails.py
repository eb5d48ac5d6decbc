from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks.core.drift.chance.tails import beta_binomial, hypergeometric, kolmogorov_smirnov


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 10**6), st.floats(0, 1), st.floats(0.001, 1), st.floats(-4, 6))
def test_the_hypergeometric_tail_is_scipys(total, marked, drawn, deviations):
    marked, drawn = (int(np.clip(round(part * total), 1, total - 1)) for part in (marked, drawn))
    spread = float(stats.hypergeom.std(total, marked, drawn))
    low, high = max(0, drawn - (total - marked)), min(marked, drawn)
    found = int(np.clip(round(drawn * marked / total + deviations * spread), low, high))
    exact = stats.hypergeom.sf(found - 1, total, marked, drawn)
    assert hypergeometric(found, total, marked, drawn) == pytest.approx(exact, rel=1e-6, abs=1e-12)


def test_the_hypergeometric_tail_of_millions_is_near_scipys():
    total, marked, drawn = 40_000_000, 16_000_000, 20_000_000  # a standard deviation of 2,191
    for deviations in (1, 3, 4.2):
        found = int(drawn * 0.4 + deviations * 2191)
        exact = stats.hypergeom.sf(found - 1, total, marked, drawn)
        assert hypergeometric(found, total, marked, drawn) == pytest.approx(exact, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 3000), st.floats(0.5, 500), st.floats(1, 1000), st.floats(-2, 8))
def test_the_beta_binomial_tail_is_scipys(drawn, a, ratio, deviations):
    b = a * ratio
    spread = float(stats.betabinom.std(drawn, a, b))
    found = int(np.clip(round(drawn * a / (a + b) + deviations * spread), 0, drawn))
    exact = float(stats.betabinom.sf(found - 1, drawn, a, b))
    if spread < 100:
        assert beta_binomial(found, drawn, a, b) == pytest.approx(exact, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("found", [400, 600, 900])
def test_the_beta_binomial_tail_of_many_rows_is_near_scipys(found):
    exact = stats.betabinom.sf(found - 1, 200_000, 3, 2000)
    assert beta_binomial(found, 200_000, 3, 2000) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("size", [20, 100, 412, 3000, 60_000])
def test_the_kolmogorov_smirnov_tail_is_scipys(size):
    for z in (0.4, 0.7, 1.0, 1.3, 1.45):
        exact = stats.kstwo.sf(z / np.sqrt(size), size)
        assert kolmogorov_smirnov(z / np.sqrt(size), size) == pytest.approx(
            exact, rel=0.025 if size < 100 else 0.005
        )
    for z in (1.5, 2.0, 3.0, 4.0):
        exact = stats.kstwo.sf(z / np.sqrt(size), size)
        near = 1e-6 if size <= 5000 else 0.01
        assert kolmogorov_smirnov(z / np.sqrt(size), size) == pytest.approx(exact, rel=near)


def test_distances_at_the_ends_are_certain():
    assert kolmogorov_smirnov([0.0, 1.0], 100).tolist() == [1.0, 0.0]


def test_many_at_once_are_what_they_are_alone():
    rng = np.random.default_rng(0)
    found = rng.integers(0, 20, 50)
    together = hypergeometric(found, 5000, 300, 120)
    assert together == pytest.approx([float(hypergeometric(k, 5000, 300, 120)) for k in found], rel=1e-12)
    together = kolmogorov_smirnov(found / 100, 900)
    assert together == pytest.approx([float(kolmogorov_smirnov(k / 100, 900)) for k in found], rel=1e-12)


def test_a_verdict_needs_no_scipy_stats():
    # its import takes a second of the two that a first check may take
    code = "import sys; import tasks.core.drift.verdict; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
