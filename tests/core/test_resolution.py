"""What a drift check can tell at all, and how strong what it found is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.chance.power import needed_blocks, smallest_p
from tasks.core.drift.measures.base import Reading
from tasks.core.drift.profile import Reference, build_reference, profile_frame
from tasks.core.drift.strength import strength_of
from tasks.core.drift.verdict import DriftVerdict, judge
from tests.drifting import check, mixed_frame, mixed_reference, mixed_spec
from tests.make import make_spec

ROWS = 200
SPEC = make_spec(features={"numeric": ["x", "y"]}, contract={}, window={"training": "91d", "check": "7d"})
# Weeks of which the sixth lies far out: how much weeks differ is then hardly known.
FEW = [0.3, -0.8, 0.1, 0.6, -0.4, 2.5]
MANY = [0.3, -0.4, 0.1, 0.6, -0.4, 0.5, -0.2, -0.7, 0.0, 0.4, -0.1, 0.2, -0.3]


def weekly(levels: list[float]) -> Reference:
    """Return a reference of weeks that lie at these levels."""
    rng = np.random.default_rng(0)
    at = np.repeat(np.column_stack([levels, levels[::-1]]), ROWS, axis=0)
    frame = pd.DataFrame(at + rng.normal(size=at.shape), columns=["x", "y"])
    step = pd.Timedelta("7D") / ROWS
    times = pd.Series(pd.date_range("2026-01-05", periods=len(frame), freq=step, tz="UTC"))
    return build_reference(frame, SPEC, times=times)


def window(reference: Reference, shift: float) -> DriftVerdict:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(shift, 1, ROWS), "y": rng.normal(0, 1, ROWS)})
    return judge(reference, profile_frame(frame, reference), SPEC)


@pytest.fixture(scope="module")
def blind() -> Reference:
    return weekly(FEW)


def test_a_history_that_cannot_show_a_complete_change_is_undecided_and_says_what_it_would_take(blind) -> None:
    verdict = window(blind, 0.0)
    assert verdict.outcome == "undecided"
    feature = verdict.features[0]
    assert (feature.outcome, feature.resolvable) == ("undecided", False)
    assert feature.needed_blocks > len(FEW)
    assert f"about {feature.needed_blocks} would do" in feature.reason
    assert (verdict.inputs_moved, verdict.scores_moved) == (None, None)


def test_an_effect_far_beyond_its_limit_that_cannot_be_resolved_is_a_warning_with_its_name(blind) -> None:
    verdict = window(blind, 4.0)
    psi = next(m for m in verdict.features[0].measures if m.measure == "psi")
    assert psi.value > 5 * psi.threshold
    assert verdict.outcome == "warn"
    assert verdict.features[0].outcome == "warn"
    assert "x: " in verdict.reason
    assert verdict.inputs_moved is True


def test_the_same_change_is_found_where_weeks_differ_less() -> None:
    calm = weekly(MANY)
    assert window(calm, 4.0).outcome == "drift"
    assert window(calm, 0.0).outcome == "ok"
    assert window(calm, 0.0).inputs_moved is False


def test_a_change_that_matters_and_hides_among_windows_that_differ_is_not_called_ok() -> None:
    calm = weekly(MANY)
    verdict = window(calm, 0.8)
    psi = next(m for m in verdict.features[0].measures if m.measure == "psi")
    assert psi.threshold < psi.value < verdict.features[0].detectable
    assert verdict.outcome == "undecided"


@pytest.mark.parametrize("dof", [1.5, 3.0, 12.0])
def test_the_smallest_p_value_is_that_of_samples_without_a_common_group(dof: float) -> None:
    few = Dispersion(8.0, dof, 13, rows=400.0, spread=3.0, top=20.0)
    groups = np.array([[1000.0, 0.0], [0.0, 200.0]])
    statistic = stats.chi2_contingency(groups, correction=False).statistic
    assert statistic == pytest.approx(1200)
    factor = float(few.between(1000, 200))
    chi = stats.f.sf(statistic / factor, 1, dof)
    assert smallest_p(2, 1000, 200, few, numeric=False) == pytest.approx(chi)
    assert smallest_p(2, 1000, 200, few, numeric=True) <= chi


def test_so_many_blocks_as_are_said_to_be_needed_do_resolve() -> None:
    few = Dispersion(8.0, 3.0, 13, rows=400.0, spread=3.0, top=20.0)
    blocks = needed_blocks(8, 1e-5, 5000, 400, few, numeric=True)
    more = replace(few, dof=3.0 * blocks / 13, apart_dof=blocks / 13)
    assert smallest_p(8, 5000, 400, few, numeric=True) > 1e-5 >= smallest_p(8, 5000, 400, more, numeric=True)
    hopeless = replace(few, factor=400.0, top=400.0, rows=1.0, growth=1.0)
    assert needed_blocks(8, 1e-5, 5000, 400, hopeless, numeric=True) is None


@pytest.mark.parametrize("rows", [60, 1000])
def test_a_check_is_drift_exactly_where_its_strength_is_at_least_1(rows: int) -> None:
    rng = np.random.default_rng(rows)
    spec, reference = mixed_spec(), mixed_reference()
    found = []
    for shift in (0.0, 0.2, 0.35, 0.45, 0.6, 1.0, 3.0):
        frame = mixed_frame(rows, rng)
        frame["n0"] += shift
        verdict = judge(reference, profile_frame(frame, reference), spec)
        assert (verdict.outcome == "drift") == (verdict.strength >= 1), shift
        found.append(verdict.strength)
    assert found[0] < 1 < found[-1]
    assert sum(strength >= 1 for strength in found) >= 2


def test_strength_is_the_smaller_of_rarity_and_size() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=100_000)
    hair = check(reference, rng.normal(0.05, 1, 100_000))
    assert hair.strength == 0, "a hair's breadth at a p-value near zero"
    below = check(reference, rng.normal(0.38, 1, 100_000))
    assert 0.6 < below.strength < 1
    measures = below.features[0].measures
    assert below.strength == pytest.approx(max(m.value / m.threshold for m in measures if m.value))
    rare = check(rng.normal(size=300), rng.normal(0.47, 1, 50))
    assert 0 < rare.strength < 1
    assert check(reference[:1000], rng.normal(size=40)).strength is None


def test_the_p_value_behind_a_strength_is_the_checks_own_in_proportion_to_its_budget() -> None:
    rng = np.random.default_rng(5)
    verdict = check(rng.normal(size=400), rng.normal(0.8, 1, 60))
    tests = [m.p_value for f in verdict.features for m in f.measures if m.p_value is not None]
    smallest = stats.false_discovery_control(tests).min()
    rarity = np.log(smallest) / np.log(0.01)
    size = max(m.value / m.threshold for m in verdict.features[0].measures if m.measure != "missing_share")
    assert strength_of(verdict.features, 0.01, 0.01) == pytest.approx(min(rarity, size))
    stricter = strength_of(verdict.features, 0.001, 0.01)
    assert stricter == pytest.approx(min(np.log(smallest * 10) / np.log(0.01), size))


def test_whole_rows_count_from_what_chance_gives() -> None:
    rng = np.random.default_rng(0)
    reference = build_reference(pd.DataFrame({"x": rng.normal(size=2000), "y": rng.normal(size=2000)}), SPEC)
    profile = profile_frame(pd.DataFrame({"x": rng.normal(size=500), "y": rng.normal(size=500)}), reference)
    none = judge(reference, profile, SPEC, joint=Reading(0.5, 1e-12))
    some = judge(reference, profile, SPEC, joint=Reading(0.95, 1e-12))
    assert none.strength < 0.5
    assert (some.outcome, some.strength >= 1, some.inputs_moved) == ("drift", True, True)
