from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from tasks.core.drift.matters.label_mix import label_mix
from tasks.core.drift.measures.base import chance
from tasks.core.policy.label_shift import LabelShift, label_shift

GOOD = {"no": 1400, "yes": 600}


def shift(current: dict, **over: object) -> LabelShift:
    facts = {"scores_moved": False, "inputs_moved": False, "fell": False, "alpha": 0.01, **over}
    return label_shift(GOOD, current, **facts)


def test_the_numbers_are_those_of_the_formulas() -> None:
    found = shift({"no": 500, "yes": 500})
    p, q = np.array([0.7, 0.3]), np.array([0.5, 0.5])
    noise = chance(np.array([[1400, 600], [500, 500.0]]))
    assert found.psi == pytest.approx(np.sum((q - p) * np.log(q / p)) - noise)
    assert found.jensen_shannon == pytest.approx(jensenshannon(p, q, base=2), abs=0.003)
    assert found.total_variation == pytest.approx(0.2)
    theirs = chi2_contingency([[1400, 600], [500, 500]], correction=False)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert (found.rows, found.reference_rows, found.threshold) == (1000, 2000, 0.1)


@pytest.mark.parametrize(
    ("current", "over", "outcome", "branch"),
    [
        ({"no": 700, "yes": 300}, {}, "ok", "none"),
        ({"no": 990, "yes": 10}, {}, "drift", "fault"),
        ({"no": 990, "yes": 10}, {"inputs_moved": None, "scores_moved": None}, "drift", "unexplained"),
        ({"no": 990, "yes": 10}, {"inputs_moved": None}, "drift", "fault"),
        ({"no": 300, "yes": 700}, {"inputs_moved": None}, "drift", "unexplained"),
        ({"no": 300, "yes": 700}, {"inputs_moved": True, "scores_moved": True}, "drift", "population"),
        ({"no": 400, "yes": 600}, {"inputs_moved": True}, "drift", "population"),
        ({"no": 530, "yes": 470}, {"fell": True}, "drift", "concept"),
        ({"no": 600, "yes": 400}, {"fell": True}, "warn", "concept"),
        ({"no": 600, "yes": 400}, {"fell": False}, "warn", "unexplained"),
        ({"no": 600, "yes": 400}, {"inputs_moved": None, "fell": True}, "warn", "unexplained"),
        ({"no": 10, "yes": 10}, {}, "undecided", "none"),
        ({}, {}, "undecided", "none"),
    ],
)
def test_each_branch_has_its_pattern(current, over, outcome: str, branch: str) -> None:
    found = shift(current, **over)
    assert (found.outcome, found.branch) == (outcome, branch), found.reason
    assert found.reason


def test_labels_of_one_class_on_both_sides_have_not_moved() -> None:
    found = label_shift(
        {"a": 500}, {"a": 100}, scores_moved=False, inputs_moved=False, fell=False, alpha=0.01
    )
    assert (found.outcome, found.psi, found.p_value) == ("ok", 0.0, 1.0)


def test_labels_that_did_not_move_look_moved_no_more_often_than_allowed() -> None:
    rng = np.random.default_rng(0)
    found = [shift({"no": 300 - k, "yes": k}).outcome for k in rng.binomial(300, 0.3, 300).tolist()]
    assert found.count("ok") >= 291, "three are to be expected; nine happen once in a thousand runs"


def play(seed: int, kind: str, rows: int = 1500) -> LabelShift:
    """Train, then one window in which a known thing happened; what moved is told as a drift check would.

    A concept that moves over a fifth of the labels under still inputs is taken for a fault: a person looks.
    """
    rng = np.random.default_rng(seed)

    def draw(count: int, centre: float, slope: float, level: float) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(centre, 1, count)
        return x, (rng.random(count) < 1 / (1 + np.exp(-(slope * x + level)))).astype(int)

    before, trained = draw(6000, 0.0, 1.5, -1.0)
    x, y = draw(rows, 1.0 if kind == "population" else 0.0, 1.5, -0.3 if kind == "concept" else -1.0)
    if kind == "fault":
        y = np.where(rng.random(rows) < 0.95, 0, y)
    score = 1 / (1 + np.exp(-(1.5 * x - 1.0)))
    moved = abs(x.mean() - before.mean()) > 0.2  # what a drift check of input and score says here
    promised = -np.mean((1 / (1 + np.exp(-(1.5 * before - 1.0))) - trained) ** 2)
    fell = -np.mean((score - y) ** 2) < 1.05 * promised
    mix = label_mix(trained, numbers=False)
    return label_shift(
        mix.counts, mix.of(y), scores_moved=moved, inputs_moved=moved, fell=bool(fell), alpha=0.01
    )


@pytest.mark.parametrize("kind", ["fault", "population", "concept", "none"])
def test_a_labelling_fault_is_told_from_drift_of_population_and_concept(kind: str) -> None:
    found = [play(seed, kind) for seed in range(60)]
    right = sum(one.branch == kind for one in found)
    assert right >= 57, [one.branch for one in found]
    assert {one.outcome for one in found if one.branch == "fault"} <= {"drift"}


def test_a_number_as_label_is_compared_by_tenths() -> None:
    rng = np.random.default_rng(3)
    mix = label_mix(rng.normal(size=3000), numbers=True)
    said = {"numbers": True, "scores_moved": False, "inputs_moved": False, "fell": True, "alpha": 0.01}
    assert label_shift(mix.counts, mix.of(rng.normal(size=500)), **said).outcome == "ok"
    moved = label_shift(mix.counts, mix.of(rng.normal(0.5, 1, 500)), **said)
    assert moved.outcome == "drift"
    assert moved.branch in {"concept", "fault"}
