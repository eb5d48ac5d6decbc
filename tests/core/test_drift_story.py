"""The first paragraph of a drift report: what anybody should understand of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.drift.matters.harm import Harm
from tasks.core.drift.shape import Shape
from tasks.core.records.drift_rows import PastVerdict
from tasks.core.records.drift_story import apart, drift_story
from tasks.core.records.drift_words import change, named, percent, when
from tasks.core.window import Window
from tests.drifted import DAY, checked, day, drifted_spec, past, told

SPEC = drifted_spec()
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_the_paragraph_says_what_was_compared_what_came_of_it_and_what_changed() -> None:
    story = drift_story(SPEC, told(1.0), day(5))
    assert story[0] == (
        "1,500 rows of Sat 10 Jan 2026 were compared with 8,000 rows: the champion's reference rows."
    )
    assert story[1].startswith("They drifted: 6 of 12 features changed by more than chance explains")
    assert story[1].endswith("so did the model's own scores.")
    assert story[2].startswith("What changed most: ")
    assert story[2].count(" of the rows") == 3
    assert story[2].endswith("; and 3 more.")


def test_harm_is_told_with_its_interval_and_the_promise() -> None:
    story = " ".join(drift_story(SPEC, told(1.0), day(5)))
    assert (
        "It is expected to hurt: without labels roc_auc is estimated at 0.712 (0.688 to 0.738), "
        "0.801 was promised."
    ) in story
    unknown = Harm("unknown", "roc_auc", None, None, None, 0.8, "cannot be estimated: 12 rows, 50 are needed")
    story = " ".join(drift_story(SPEC, told(1.0, harm=unknown), day(5)))
    assert "Whether it hurts is not known: 12 rows, 50 are needed." in story
    assert "Whether it hurts was not estimated." in drift_story(SPEC, told(1.0, harm=None), day(5))


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (["ok", "ok"], "so far 1 of 3 did, so it waits."),
        (["drift", "ok"], "2 of the last 3 windows drifted, so the policy decides now"),
        (["drift", "undecided"], "2 of the last 3 windows drifted"),
        (["drift", "ok", "ok"], "so far 1 of 3 did"),
        ([], "so far 1 of 1 did"),
    ],
)
def test_what_happens_next_is_what_the_policy_will_see(before: list[str], said: str) -> None:
    assert said in drift_story(SPEC, checked(1.0), day(len(before)), past=past(*before))[-1]


def test_where_nobody_looked_at_earlier_windows_none_are_counted() -> None:
    said = (
        "What happens next: the loop acts when 2 of the last 3 windows drift and the newest is one of them."
    )
    assert drift_story(SPEC, checked(1.0), day(5))[-1] == said


def test_windows_that_overlap_count_once() -> None:
    weeks = [PastVerdict(Window(day(n).start, day(n + 6).end), 3, "drift") for n in range(7)]
    newest = Window(day(7).start, day(13).end)
    assert [one.window for one in apart(weeks, newest)] == [Window(day(0).start, day(6).end)]
    later = Window(day(8).start, day(14).end)
    assert [one.window.start for one in apart([*weeks, PastVerdict(newest, 3, "ok")], later)] == [
        day(1).start
    ]


def test_an_undrifted_window_is_told_calmly() -> None:
    story = drift_story(SPEC, checked(0.0), day(5))
    assert story[1] == (
        "They did not drift: whatever differs in 12 features and the model's own scores may be chance "
        "or is too small to matter."
    )
    assert story[-1].startswith("Nothing is retrained for this window")
    assert not any("What changed" in sentence for sentence in story)


def test_a_window_of_too_few_rows_has_no_verdict_and_says_why() -> None:
    story = drift_story(SPEC, checked(0.0, rows=9), day(5))
    assert story[0] == "9 rows of Sat 10 Jan 2026 were to be held against the champion's reference rows."
    assert story[1].startswith("There is no verdict: 9 rows in the window; at least 50 are needed")
    assert len(story) == 3


def test_features_of_which_nothing_can_be_said_are_counted_with_the_rows_it_would_take() -> None:
    verdict = told(0.0)
    features = tuple(
        replace(f, outcome="undecided", needed=4000 + place) if place < 2 else f
        for place, f in enumerate(verdict.features)
    )
    story = " ".join(drift_story(SPEC, replace(verdict, outcome="ok", features=features), day(5)))
    assert "Of 2 features nothing can be said; it would take 4,001 rows." in story


def test_the_model_s_own_scores_and_whole_rows_are_named_for_people() -> None:
    verdict = checked(1.0)
    joint = replace(verdict.features[0], feature="__rows__", outcome="drift")
    story = " ".join(drift_story(SPEC, replace(verdict, features=(*verdict.features, joint)), day(5)))
    assert "so did the model's own scores and how the columns hang together" in story
    assert "__" not in story
    assert named("__score__0") == "the model's score of class 1"


ROWS = ("low", "middle", "high")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ((0.4, 0.3, 0.3), (0.1, 0.2, 0.7), "runs higher: “high” in 70% of the rows, 30% before"),
        ((0.2, 0.3, 0.5), (0.6, 0.3, 0.1), "runs lower: “low” in 60% of the rows, 20% before"),
        ((0.2, 0.6, 0.2), (0.4, 0.1, 0.5), "spreads wider: “high” in 50% of the rows, 20% before"),
        ((0.4, 0.2, 0.4), (0.1, 0.8, 0.1), "is squeezed together: “middle” in 80% of the rows, 20% before"),
    ],
)
def test_a_number_moves_up_down_apart_or_together(
    before: tuple[float, ...], now: tuple[float, ...], said: str
) -> None:
    assert change(Shape("x", ROWS, before, now), ordered=True) == said


def test_what_is_missing_or_new_is_told_as_such() -> None:
    missing = Shape("x", ("low", "high", "missing"), (0.5, 0.5, 0.0), (0.4, 0.4, 0.2))
    assert change(missing, ordered=True) == "missing in 20% of the rows, 0% before"
    unseen = Shape("plan", ("basic", "not seen before"), (1.0, 0.0), (0.7, 0.3))
    assert change(unseen, ordered=False) == "values never seen before in 30% of the rows"
    assert change(Shape("x", (), (), ()), ordered=True) == "holds nothing"


@given(SHARES, SHARES, st.booleans())
def test_any_change_has_words(before: list[float], now: list[float], ordered: bool) -> None:
    size = min(len(before), len(now))
    shape = Shape("x", tuple(f"l{n}" for n in range(size)), tuple(before[:size]), tuple(now[:size]))
    assert "of the rows" in change(shape, ordered=ordered)


@given(st.floats(0, 1))
def test_a_share_is_never_told_as_none_or_all_unless_it_is(share: float) -> None:
    assert (percent(share) == "0%") == (share == 0)
    assert (percent(share) == "100%") == (share == 1)


def test_a_window_is_told_by_its_days_or_its_hours() -> None:
    assert when(Window(day(25).start, day(55).start)) == "30 Jan – 28 Feb 2026"
    assert when(Window(day(0).start - 9 * DAY, day(0).start)) == "27 Dec 2025 – 4 Jan 2026"
    assert (
        when(Window(day(0).start + DAY / 2, day(1).start + DAY / 2))
        == "5 Jan 2026 12:00 – 6 Jan 2026 12:00 UTC"
    )
    assert when(Window(day(0).start + DAY / 2, day(1).start)) == "5 Jan 2026 12:00 – 00:00 UTC"
