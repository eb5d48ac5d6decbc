"""A prediction takes the most specific label that fits it, then the newest; counts agree with the rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.coverage import coverage, heard_of, unlabelled_since, unseen_by_training
from tasks.store.engine import open_store
from tasks.store.evidence import label_counts
from tasks.store.labels import Label, labels_record, matured
from tasks.store.told import NO_SUCH, Told, hear_told
from tests.stores import BOTH, fresh_store
from tests.told import served, standing, tell

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = Window(T0, T0 + 7 * DAY)


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_store(Settings(state_dir=tmp_path_factory.mktemp("one")))


def test_a_label_for_one_prediction_leaves_the_others_of_its_key_alone(store: Engine) -> None:
    served(store, ["a", "a", "b"], [0, 1, 2])
    tell(store, Label("a", 1, T0 + 8 * DAY, prediction_id="p1"))
    assert standing(store) == {"p1": 1}


def test_a_label_for_key_and_time_is_for_the_predictions_of_that_event(store: Engine) -> None:
    served(store, ["a", "a", "a", "b"], [0, 1, 1, 1])
    tell(store, Label("a", 1, T0 + 8 * DAY, event_time=T0 + DAY))
    assert standing(store) == {"p1": 1, "p2": 1}


def test_the_most_specific_label_wins_however_old_it_is_and_then_the_newest(store: Engine) -> None:
    served(store, ["a", "a", "a"], [0, 1, 2])
    tell(
        store,
        Label("a", "id", T0 + 8 * DAY, prediction_id="p1"),
        Label("a", "time", T0 + 9 * DAY, event_time=T0 + DAY),
        Label("a", "time", T0 + 9 * DAY, event_time=T0 + 2 * DAY),
        Label("a", "key", T0 + 10 * DAY),
        Label("a", "newer", T0 + 11 * DAY),
    )
    assert standing(store) == {"p0": "newer", "p1": "id", "p2": "time"}
    assert standing(store, as_of=T0 + 10 * DAY) == {"p0": "key", "p1": "id", "p2": "time"}
    assert standing(store, as_of=T0 + 8 * DAY) == {"p1": "id"}
    assert label_counts(store, "churn", WEEK, T0 + 12 * DAY) == {"newer": 1, "id": 1, "time": 1}


def test_telling_again_changes_nothing_and_a_correction_keeps_both(store: Engine) -> None:
    served(store, ["a"], [0])
    first, then = Label("a", 0, T0 + 8 * DAY), Label("a", 1, T0 + 9 * DAY)
    assert tell(store, first) == ["new"]
    assert tell(store, first, first) == ["same", "same"]
    assert tell(store, then) == ["corrected"]
    assert tell(store, first, then, Label("a", 1, T0 + 20 * DAY)) == ["same", "same", "same"]
    assert tell(store, Label("a", 1, T0 + 8.5 * DAY)) == ["outdated"]
    assert tell(store, Label("a", 0, T0 + 21 * DAY), Label("a", 1, T0 + 22 * DAY)) == ["corrected"] * 2
    with store.connect() as connection:
        kept = connection.exec_driver_sql("SELECT label, source, heard_at FROM labels ORDER BY id").all()
    assert [int(row[0]) for row in kept] == [0, 1, 1, 0, 1]
    assert {row[1] for row in kept} == {"api"}


def test_a_boolean_is_not_the_number_one(store: Engine) -> None:
    served(store, ["a"], [0])
    assert tell(store, Label("a", 1, T0 + 8 * DAY), Label("a", True, T0 + 9 * DAY)) == ["new", "corrected"]
    assert tell(store, Label("a", 1.0, T0 + 8 * DAY)) == ["same"]


def test_what_is_told_finds_its_prediction_or_waits_for_it(store: Engine) -> None:
    served(store, ["a", "a", "b"], [0, 1, 2])
    now = T0 + 5 * DAY
    told = [
        Told(1, prediction_id="p0"),
        Told(1, prediction_id="p9"),
        Told(1, key="a", event_time=T0 + DAY),
        Told(1, key="a", event_time=T0 + 3 * DAY),
        Told(1, key="c"),
        Told(1, key="b", known_at=T0 + DAY),
        Told(1, key="b", known_at=T0 + 2 * DAY - timedelta(seconds=30)),
        Told(1, key="a", event_time=T0 + 6 * DAY),
    ]
    found = hear_told(store, "churn", told, now=now)
    assert [one.outcome for one in found] == [
        *("new", "refused", "new", "kept_for_later", "kept_for_later", "refused", "new", "refused"),
    ]
    assert found[1].problem == NO_SUCH
    assert found[5].problem == found[7].problem == "it was known before the event happened"
    assert standing(store) == {"p0": 1, "p1": 1, "p2": 1}
    again = hear_told(store, "churn", told, now=now + timedelta(hours=1))
    assert {one.outcome for one in again} == {"same", "refused"}
    with store.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM labels").scalar() == 5
    served(store, ["x", "x", "x", "c"], [0, 0, 0, 4])
    assert standing(store) == {"p0": 1, "p1": 1, "p2": 1, "p3": 1}, "the label that waited met its prediction"


def test_coverage_counts_delays_corrections_and_labels_without_a_prediction(store: Engine) -> None:
    served(store, list("abcd"), [0, 1, 2, 3])
    tell(
        store,
        Label("a", 0, T0 + 2 * DAY),
        Label("a", 1, T0 + 9 * DAY),
        Label("b", 0, T0 + 5 * DAY, prediction_id="p1"),
        Label("c", 0, T0 + 40 * DAY),
        Label("nobody", 0, T0 + 3 * DAY),
        Label("nobody", 1, T0 + 4 * DAY),
        Label("at another time", 0, T0 + 20 * DAY, event_time=T0 + DAY),
        Label("another week", 0, T0 + 20 * DAY),
    )
    found = coverage(store, "churn", WEEK, as_of=T0 + 30 * DAY)
    assert (found.predictions, found.labelled, found.corrected, found.unmatched) == (4, 2, 1, 2)
    assert sorted(found.delays) == [2 * 86_400, 4 * 86_400]
    nothing = coverage(store, "churn", WEEK.before(), as_of=T0 + 30 * DAY)
    assert (nothing.predictions, nothing.labelled, len(nothing.delays)) == (0, 0, 0)
    assert unlabelled_since(store, "churn", WEEK, as_of=T0 + 30 * DAY) == T0 + 2 * DAY
    assert unlabelled_since(store, "churn", Window(T0, T0 + DAY), as_of=T0 + 30 * DAY) is None


def test_labels_heard_of_only_ever_grow(store: Engine) -> None:
    served(store, list("ab"), [0, 3])
    days = [Window(T0, T0 + DAY), Window(T0 + 3 * DAY, T0 + 4 * DAY)]
    late = T0 + 30 * DAY
    assert heard_of(store, "churn", days, version=1, as_of=late) == [0, 0]
    tell(store, Label("a", 0, T0 + 8 * DAY), Label("a", 1, T0 + 9 * DAY), Label("b", 1, T0 + 9 * DAY))
    assert heard_of(store, "churn", days, version=1, as_of=late) == [2, 1]
    assert heard_of(store, "churn", days, version=2, as_of=late) == [0, 0]
    assert heard_of(store, "churn", days, version=None, as_of=T0 + 8 * DAY) == [1, 0]


def test_training_has_not_seen_newer_events_nor_labels_told_after_it(store: Engine) -> None:
    served(
        store, ["seen", "late", "fetched late", "new", "new", "unlabelled", "unripe"], [0, 1, 1, 3, 4, 4, 6]
    )
    until, maturity, now = T0 + 2 * DAY, DAY, T0 + 6 * DAY
    tell(store, Label("seen", 0, T0 + DAY), Label("late", 0, T0 + 4 * DAY), Label("new", 0, T0 + 5 * DAY))
    tell(store, Label("seen", 1, T0 + 5 * DAY), Label("unripe", 0, T0 + 6 * DAY))
    tell(store, Label("fetched late", 0, T0 + 4 * DAY), source="fetch")
    reach = Window(T0 - 10 * DAY, now - maturity)

    def unseen(**over: Any) -> int:
        given = {"trained_until": until, "maturity": maturity, "as_of": now, **over}
        return unseen_by_training(store, "churn", reach, **given)

    assert unseen() == 2, "late and new; the two predictions of one row are one"
    assert unseen(as_of=T0 + 4 * DAY) == 1
    assert unseen(trained_until=T0 + 4.5 * DAY) == 0
    assert unseen(trained_until=T0 - DAY) == 4


def test_callers_who_tell_the_same_at_once_tell_it_once(store: Engine) -> None:
    keys = [f"k{n}" for n in range(40)]
    served(store, keys, [0.1 * n for n in range(40)])
    told = [Told(1, key=key) for key in keys]
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(lambda _: hear_told(store, "churn", told, now=T0 + 8 * DAY), range(6)))
    assert Counter(one.outcome for heard in said for one in heard) == {"new": 40, "same": 200}
    assert len(standing(store)) == 40


def test_labels_of_one_call_are_taken_in_their_order_and_those_of_one_moment_too(store: Engine) -> None:
    served(store, ["a"], [0])
    now = T0 + 8 * DAY
    found = hear_told(store, "churn", [Told(0, key="a"), Told(1, key="a"), Told(1, key="a")], now=now)
    assert [one.outcome for one in found] == ["new", "corrected", "same"]
    assert standing(store) == {"p0": 1}


@st.composite
def _arrival(draw: st.DrawFn) -> tuple[int, Label]:
    key, day = draw(st.sampled_from("ab")), draw(st.integers(0, 4))
    known = T0 + (8 + day) * DAY
    what = draw(st.sampled_from(["key", "time", "id"]))
    event = T0 + draw(st.integers(0, 1)) * DAY if what == "time" else None
    number = draw(st.integers(0, 3))
    if what == "id":
        key = "aabb"[number]
    identity = f"p{number}" if what == "id" else None
    return day, Label(key, draw(st.integers(0, 2)), known, identity, event)


def _at(day: int, label: int) -> tuple[int, Label]:
    return 0, Label("a", label, T0 + (8 + day) * DAY)


@example([_at(0, 1), _at(1, 1), _at(0, 0)])  # confirmed, then what was first known is corrected
@given(st.lists(_arrival(), min_size=1, max_size=14))
@effort(max_examples=25, deadline=None)
def test_matured_and_counts_agree_with_a_plain_reading(
    one_store: Engine, arrivals: list[tuple[int, Label]]
) -> None:
    model = uuid4().hex
    events = [0, 1, 0, 1]
    served(one_store, "aabb", events, model=model)
    kept = list[tuple[int, Label]]()  # what was known already when it came is not kept
    for place, (_, label) in enumerate(arrivals):
        tell(one_store, label, model=model)
        before = [
            (one.known_at, number, one.label)
            for number, one in kept
            if one.target == label.target and one.known_at <= label.known_at
        ]
        if not before or max(before)[-1] != label.label:
            kept.append((place, label))
    for day in range(5):
        as_of = T0 + (8 + day) * DAY
        expected = {}
        for number, (key, event) in enumerate(zip("aabb", events, strict=True)):
            fitting = [
                (
                    2 if one.prediction_id else 1 if one.event_time else 0,
                    one.known_at,
                    place,
                    one.label,
                )
                for place, one in kept
                if one.row_key == key
                and one.prediction_id in (None, f"p{number}")
                and one.event_time in (None, T0 + event * DAY)
                and one.known_at <= as_of
            ]
            if fitting:
                expected[f"p{number}"] = max(fitting)[-1]
        frame = matured(one_store, model, WEEK, as_of=as_of)
        assert dict(zip(frame["prediction_id"], frame["label"], strict=True)) == expected
        assert label_counts(one_store, model, WEEK, as_of) == Counter(expected.values())
        assert coverage(one_store, model, WEEK, as_of=as_of).labelled == len(expected)


def _a_hundred_thousand(store: Engine, rows: int) -> None:
    keys = [f"k{n}" for n in range(rows)]
    served(store, keys, np.linspace(0, 6.9, rows).tolist())
    frame = pd.DataFrame({"row_key": keys, "label": np.arange(rows) % 2})
    labels_record(store, "churn", frame, T0 + 8 * DAY)


@pytest.mark.slow
def test_a_hundred_thousand_predictions_meet_their_labels_in_seconds(store: Engine) -> None:
    _a_hundred_thousand(store, 100_000)
    for ask in (
        lambda: len(matured(store, "churn", WEEK, as_of=T0 + 9 * DAY)),
        lambda: sum(label_counts(store, "churn", WEEK, T0 + 9 * DAY).values()),
        lambda: coverage(store, "churn", WEEK, as_of=T0 + 9 * DAY).labelled,
        lambda: heard_of(store, "churn", [WEEK], version=1, as_of=T0 + 9 * DAY)[0],
    ):
        began = time.monotonic()
        assert ask() == 100_000
        assert time.monotonic() - began < 10  # a second or two on a machine of its own
