from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from tasks.core.policy import label_fault
from tasks.core.policy.label_fault import suspect

GOOD = {0: 1400, 1: 600}


def test_labels_that_are_nearly_all_zero_are_suspected_and_the_reason_says_by_how_much() -> None:
    found = suspect(GOOD, {0: 1960, 1: 40}, False, False)
    assert found == "label '1' fell from 30.0% to 2.0% of the rows while inputs and scores did not move"


def test_labels_that_flipped_are_suspected() -> None:
    assert suspect(GOOD, {0: 600, 1: 1400}, False, False) is not None


def test_a_jump_that_the_scores_foresaw_is_the_world_and_no_fault() -> None:
    assert suspect(GOOD, {0: 1960, 1: 40}, True, False) is None
    assert suspect(GOOD, {0: 600, 1: 1400}, True, True) is None


def test_with_moved_inputs_only_a_class_that_vanished_is_suspected() -> None:
    assert suspect(GOOD, {0: 600, 1: 1400}, False, True) is None
    assert "while the scores did not move" in suspect(GOOD, {0: 2000}, False, True)


def test_a_rare_class_that_vanished_is_suspected_though_few_rows_moved() -> None:
    assert suspect({"no": 19_000, "yes": 1000}, {"no": 2000}, False, False) is not None
    assert suspect({"no": 1980, "yes": 20}, {"no": 100}, False, False) is None, "one row was to be expected"


def test_a_class_that_trebled_is_a_change_of_the_world_to_be_learnt() -> None:
    assert suspect({"no": 9800, "yes": 200}, {"no": 1880, "yes": 120}, False, False) is None


def test_a_label_never_seen_before_that_takes_over_is_suspected() -> None:
    found = suspect(GOOD, {"unknown": 1900, 0: 100}, False, False)
    assert found is not None


def test_a_small_or_chance_change_is_no_fault() -> None:
    assert suspect(GOOD, {0: 1300, 1: 700}, False, False) is None, "five points"
    assert suspect(GOOD, {0: 20, 1: 20}, False, False) is None, "twenty points on forty rows"


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        ({}, {}),
        (GOOD, {}),
        ({}, GOOD),
        (GOOD, {0: 29}),
        ({0: 5, 1: 5}, {0: 2000}),
        ({0: 500}, {1: 500}),
        ({0: 500, 1: 0}, {1: 500}),
    ],
    ids=["nothing", "no labels", "no reference", "29 labels", "tiny reference", "one class", "one with rows"],
)
def test_too_little_to_tell_is_no_suspicion(reference: dict, current: dict) -> None:
    assert suspect(reference, current, False, False) is None


@pytest.mark.parametrize("kind", [str, float, np.int64, lambda label: label, bool])
def test_equal_labels_of_different_types_are_the_same_label(kind) -> None:
    assert suspect(GOOD, {kind(label): rows for label, rows in GOOD.items()}, False, False) is None


def test_the_test_of_homogeneity_is_scipys() -> None:
    reference, current = label_fault.side_by_side({"a": 50, "b": 30, "c": 20}, {"a": 20, "b": 25, "c": 25})
    theirs = chi2_contingency([[50, 30, 20], [20, 25, 25]], correction=False)
    assert label_fault.homogeneity(reference, current) == pytest.approx(theirs.pvalue)


def test_good_labels_are_hardly_ever_suspected_and_a_fault_always_is() -> None:
    rng = np.random.default_rng(0)
    good = faulty = 0
    for _ in range(400):
        share = rng.uniform(0.05, 0.5)
        rows = int(rng.choice([30, 100, 500]))
        before, now = rng.binomial(1000, share), rng.binomial(rows, share)
        good += suspect({0: 1000 - before, 1: before}, {0: rows - now, 1: now}, False, False) is not None
        left = rng.binomial(500, 0.02 * share)
        if share > 0.1:
            faulty += suspect({0: 1000 - before, 1: before}, {0: 500 - left, 1: left}, False, False) is None
    assert good == 0, "at 1e-4 and a large effect, chance alone should not do it in 400 windows"
    assert faulty == 0


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3000), max_size=4),
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3000), max_size=5),
)
def test_moved_scores_always_clear_and_equal_mixes_are_never_suspected(before: dict, now: dict) -> None:
    assert suspect(before, now, True, False) is None
    assert suspect(before, before, False, False) is None
    calm = suspect(before, now, False, False)
    if calm is None:
        assert suspect(before, now, False, True) is None, "moved inputs never add a suspicion"
