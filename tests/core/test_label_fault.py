from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from tasks.core.policy import label_fault
from tasks.core.policy.evidence import CheckOutcome
from tasks.core.policy.label_fault import (
    LabelledWindow,
    LabelSuspicion,
    SuspectWindow,
    suspect,
    suspect_windows,
    windows_to_look_at,
    without_suspects,
    without_windows,
)
from tasks.core.window import Window
from tests.make import make_frame, make_spec

GOOD = {0: 1400, 1: 600}


def judged(
    reference: dict, current: dict, scores: bool | None, inputs: bool | None, **more: bool
) -> LabelSuspicion | None:
    return suspect(reference, current, scores_moved=scores, inputs_moved=inputs, **more)


def test_labels_that_are_nearly_all_zero_are_suspected_and_the_reason_says_by_how_much() -> None:
    found = judged(GOOD, {0: 1960, 1: 40}, False, False)
    assert (
        found.reason == "label '1' fell from 30.0% to 2.0% of the rows while inputs and scores did not move"
    )


def test_labels_that_flipped_are_suspected() -> None:
    assert judged(GOOD, {0: 600, 1: 1400}, False, False) is not None


def test_a_jump_that_the_scores_foresaw_is_the_world_and_no_fault() -> None:
    assert judged(GOOD, {0: 1960, 1: 40}, True, False) is None
    assert judged(GOOD, {0: 600, 1: 1400}, True, True) is None


def test_with_moved_inputs_only_a_class_that_vanished_is_suspected() -> None:
    assert judged(GOOD, {0: 600, 1: 1400}, False, True) is None
    gone = judged(GOOD, {0: 2000}, False, True)
    assert (gone.kind, gone.label, gone.stayed) == ("vanished", "1", "the scores")


def test_a_rare_class_that_vanished_is_suspected_though_few_rows_moved() -> None:
    assert judged({"no": 19_000, "yes": 1000}, {"no": 2000}, False, False) is not None
    assert judged({"no": 1980, "yes": 20}, {"no": 100}, False, False) is None, "one row was to be expected"


def test_a_class_that_trebled_is_a_change_of_the_world_to_be_learnt() -> None:
    assert judged({"no": 9800, "yes": 200}, {"no": 1880, "yes": 120}, False, False) is None


def test_a_label_never_seen_before_that_takes_over_is_suspected() -> None:
    found = judged(GOOD, {"unknown": 1900, 0: 100}, False, False)
    assert found is not None


def test_a_small_or_chance_change_is_no_fault() -> None:
    assert judged(GOOD, {0: 1300, 1: 700}, False, False) is None, "five points"
    assert judged(GOOD, {0: 20, 1: 20}, False, False) is None, "twenty points on forty rows"


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
    assert judged(reference, current, False, False) is None


@pytest.mark.parametrize("kind", [str, float, np.int64, lambda label: label, bool])
def test_equal_labels_of_different_types_are_the_same_label(kind) -> None:
    assert judged(GOOD, {kind(label): rows for label, rows in GOOD.items()}, False, False) is None


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
        good += judged({0: 1000 - before, 1: before}, {0: rows - now, 1: now}, False, False) is not None
        left = rng.binomial(500, 0.02 * share)
        if share > 0.1:
            faulty += judged({0: 1000 - before, 1: before}, {0: 500 - left, 1: left}, False, False) is None
    assert good == 0, "at 1e-4 and a large effect, chance alone should not do it in 400 windows"
    assert faulty == 0


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3000), max_size=4),
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3000), max_size=5),
)
def test_moved_scores_always_clear_and_equal_mixes_are_never_suspected(before: dict, now: dict) -> None:
    assert judged(before, now, True, False) is None
    assert judged(before, before, False, False) is None
    calm = judged(before, now, False, False)
    if calm is None:
        assert judged(before, now, False, True) is None, "moved inputs never add a suspicion"


@pytest.mark.parametrize(("scores", "inputs"), [(None, None), (None, False), (False, None)])
def test_a_jump_is_only_suspected_where_inputs_and_scores_are_known_to_have_stayed(scores, inputs) -> None:
    assert judged(GOOD, {0: 600, 1: 1400}, scores, inputs) is None
    assert judged(GOOD, {0: 600, 1: 1400}, False, False) is not None


def test_a_vanished_class_needs_scores_that_are_known_to_have_stayed() -> None:
    assert judged(GOOD, {0: 2000}, None, False) is None
    assert judged(GOOD, {0: 2000}, None, None) is None
    assert judged(GOOD, {0: 2000}, False, None) is not None


def test_a_cell_of_numbers_is_no_class_that_could_vanish() -> None:
    tenths = {f"cell {place}": 500 for place in range(10)}
    capped = {**tenths, "cell 9": 0}
    assert judged(tenths, capped, False, True, numbers=True) is None
    assert judged(tenths, capped, False, True) is not None
    shifted = {"cell 9": 3000, "cell 8": 2000}
    assert judged(tenths, shifted, False, False, numbers=True).kind == "jump"


# Windows of a history.

T0 = datetime(1968, 1, 1, tzinfo=UTC)  # before 1970, as histories may be
WEEK = timedelta(days=7)


def week(number: int) -> Window:
    return Window(T0 + number * WEEK, T0 + (number + 1) * WEEK)


def weeks(*shares: float, stayed: bool | None = True, rows: int = 400) -> list[LabelledWindow]:
    """One window per share of ones; `stayed` is what is known of its inputs and scores."""
    moved = None if stayed is None else not stayed
    return [
        LabelledWindow(week(place), {0: rows - round(rows * share), 1: round(rows * share)}, moved, moved)
        for place, share in enumerate(shares)
    ]


def suspects(history: list[LabelledWindow], at: int, **label: object) -> list[int]:
    """Return the numbers of the windows that are suspect at the end of week `at`."""
    spec = make_spec(
        label={"column": "churned", "maturity": "0d", **label}, window={"training": "91d", "check": "7d"}
    )
    return [round((s.window.start - T0) / WEEK) for s in suspect_windows(history, spec, week(at).end)]


def test_a_suspect_window_blocks_its_own_rows_and_no_longer_than_the_limit() -> None:
    history = weeks(0.3, 0.3, 0.3, 0.3, 0.02, 0.3, 0.3, 0.3, 0.3)
    assert [suspects(history, at) for at in range(3, 9)] == [[], [4], [4], [4], [], []]
    assert suspects(history, 5, max_block="7d") == []
    assert suspects(history, 8, max_block="91d") == [4]
    assert suspects(history, 4, max_block="0d") == []


def test_a_run_of_suspect_windows_is_one_change_and_its_rows_are_all_used_after_the_limit() -> None:
    history = weeks(0.3, 0.3, 0.3, 0.3, 0.3, 0.3, *[0.7] * 8)
    found = [suspects(history, at) for at in range(5, 14)]
    assert found[:4] == [[], [6], [6, 7], [6, 7, 8]]
    assert found[4:] == [[]] * 5, "nobody corrected it in three windows: the world changed"


def test_what_is_not_known_to_have_stayed_blocks_nothing() -> None:
    shares = (0.3, 0.3, 0.3, 0.3, 0.02, 0.3)
    assert suspects(weeks(*shares, stayed=None), 4) == []
    assert suspects(weeks(*shares, stayed=False), 4) == []


def test_labels_that_are_not_mature_are_not_judged() -> None:
    history = weeks(0.3, 0.3, 0.3, 0.3, 1.0)
    assert suspects(history, 4, maturity="3d") == []
    assert suspects(history, 5, maturity="3d") == [4]


@pytest.mark.parametrize("stayed", [True, False, None])
def test_seasonal_numbers_that_move_with_the_inputs_are_not_blocked(stayed: bool | None) -> None:
    rng = np.random.default_rng(0)
    history = []
    for place in range(30):
        season = 10 * np.sin(2 * np.pi * place / 26)
        labels = Counter(rng.normal(season, 1, 300).round(3).tolist())
        moved = None if stayed is None else not stayed
        history.append(LabelledWindow(week(place), labels, moved, moved))
    spec = make_spec(
        task="regression",
        metric="r2",
        estimator={"class": "sklearn.linear_model.Ridge"},
        window={"training": "91d", "check": "7d"},
    )
    found = [suspect_windows(history, spec, week(at).end + WEEK) for at in range(8, 30)]
    assert any(found) == (stayed is True), "numbers that move by themselves are suspect, in tenths"


def test_windows_to_look_at_reach_back_as_far_as_a_suspicion_and_what_is_usual_do() -> None:
    spec = make_spec(window={"training": "91d", "check": "7d"})  # labels mature after two days
    spans = windows_to_look_at(week(30), spec, week(30).end)
    newest = Window(week(30).start - timedelta(days=2), week(30).end - timedelta(days=2))
    assert spans[-1] == newest, "the labels of the last two days are not mature"
    assert spans[0] == newest.before(3 + 4 + 6)
    assert windows_to_look_at(week(30), spec, week(31).end)[-1] == week(30)
    assert list(spans) == sorted(spans)


def test_rows_of_suspect_windows_are_left_out_and_nothing_else() -> None:
    frame = make_frame(700, start=T0, days=35)
    left = without_windows(frame, "event_time", [week(1), week(3)])
    assert len(left) == 420
    assert left["event_time"].map(lambda at: (at - T0) // WEEK).isin([0, 2, 4]).all()
    assert without_windows(frame, "event_time", []).equals(frame)
    assert len(frame) == 700


def test_a_performance_check_of_suspect_labels_proves_nothing() -> None:
    checks = (CheckOutcome(week(0), "ok"), CheckOutcome(week(1), "drift", "far below", strength=2.0))
    doubt = [SuspectWindow(week(1), "label '1' fell", week(4).end)]
    first, second = without_suspects(checks, doubt)
    assert first == checks[0]
    assert (second.outcome, second.strength) == ("undecided", None)
    assert without_suspects(checks, []) == checks
