from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import TrainingError
from tasks.core.model.split import split_rows
from tests.make import START, make_frame, make_spec, spec_block

END = START + timedelta(days=28)
GROUPED = make_spec(source={**spec_block()["source"], "group": "customer"})


def rows(moments: list[int], customers: list[str | None] | None = None) -> pd.DataFrame:
    """Rows at these hours after START, keyed by position."""
    return pd.DataFrame(
        {
            "event_id": [f"k{i}" for i in range(len(moments))],
            "event_time": pd.to_datetime([START + timedelta(hours=m) for m in moments], utc=True),
            "customer": customers or [f"c{i}" for i in range(len(moments))],
            "churned": 0,
        }
    )


def test_the_newest_fifth_is_the_holdout_when_no_length_is_named() -> None:
    split = split_rows(rows(list(range(10))), make_spec(), END)
    assert split.holdout["event_id"].tolist() == ["k8", "k9"]
    assert split.train["event_id"].tolist() == [f"k{i}" for i in range(8)]
    assert split.cut == START + timedelta(hours=8)


def test_a_named_holdout_is_counted_back_from_the_end_of_the_window() -> None:
    spec = make_spec(window={"training": "28d", "check": "7d", "holdout": "7d"})
    split = split_rows(make_frame(280), spec, END)
    assert split.cut == END - timedelta(days=7)
    assert (len(split.train), len(split.holdout)) == (210, 70)


def test_rows_of_one_moment_stay_together_in_the_holdout() -> None:
    split = split_rows(rows([0, 1, 2, 3, 4, 5, 6, 6, 6, 6]), make_spec(), END)
    assert split.holdout["event_id"].tolist() == ["k6", "k7", "k8", "k9"]


def test_many_rows_at_the_first_moment_leave_the_later_ones_as_holdout() -> None:
    split = split_rows(rows([0] * 9 + [5]), make_spec(), END)
    assert split.holdout["event_id"].tolist() == ["k9"]


def test_an_entity_of_the_holdout_leaves_the_training_rows() -> None:
    frame = rows(list(range(10)), ["a", "b", "a", "c", "d", "e", None, "f", "a", None])
    split = split_rows(frame, GROUPED, END)
    assert split.dropped_for_group == 2
    assert split.train["event_id"].tolist() == ["k1", "k3", "k4", "k5", "k6", "k7"]  # no entity is no entity


def test_a_key_never_stands_on_both_sides() -> None:
    frame = rows(list(range(10)))
    frame.loc[0, "event_id"] = "k9"
    split = split_rows(frame, make_spec(), END)
    assert "k9" not in set(split.train["event_id"]) and split.dropped_for_group == 1


def test_rows_of_the_anchor_leave_the_training_rows_and_move_no_cut() -> None:
    frame = rows(list(range(10)))
    split = split_rows(frame, make_spec(), END, anchor_keys=["k1", "k9", "gone"])
    plain = split_rows(frame, make_spec(), END)
    assert split.train["event_id"].tolist() == ["k0", *(f"k{i}" for i in range(2, 8))]
    assert (split.anchored, split.dropped_for_group, split.cut) == (1, 0, plain.cut)
    assert split.holdout.equals(plain.holdout)  # the anchor's own rows may still be judged on there


def test_a_key_that_changed_its_type_is_still_of_the_anchor() -> None:
    frame = rows(list(range(10))).assign(event_id=range(10))
    assert split_rows(frame, make_spec(), END, anchor_keys=["3", "4"]).anchored == 2
    assert split_rows(frame, make_spec(), END, anchor_keys=[3, 4]).anchored == 2
    assert split_rows(frame, make_spec(), END, anchor_keys=[3.0, "4"]).anchored == 2
    numbers = frame.assign(event_id=frame["event_id"].astype("float64"))
    assert split_rows(numbers, make_spec(), END, anchor_keys=["3", 4]).anchored == 2
    texts = frame.assign(event_id=frame["event_id"].astype(str))
    assert split_rows(texts, make_spec(), END, anchor_keys=[3.0, None, float("nan")]).anchored == 1


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abcdefgh")), min_size=2, max_size=60),
    st.randoms(use_true_random=False),
)
def test_a_split_loses_only_shared_entities_and_never_looks_ahead(drawn, random) -> None:
    frame = rows([moment for moment, _ in drawn], [entity for _, entity in drawn])
    try:
        split = split_rows(frame, GROUPED, END)
    except TrainingError:
        return
    assert len(split.train) + len(split.holdout) + split.dropped_for_group == len(frame)
    assert split.train["event_time"].max() < split.cut <= split.holdout["event_time"].min()
    assert not set(split.train["customer"]) & set(split.holdout["customer"])
    order = list(range(len(frame)))
    random.shuffle(order)
    again = split_rows(frame.iloc[order], GROUPED, END)
    assert again.train.equals(split.train) and again.holdout.equals(split.holdout)


def test_the_callers_frame_is_left_alone() -> None:
    frame = rows([3, 1, 2, 0, 4])
    before = frame.copy(deep=True)
    split_rows(frame, make_spec(), END)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("frame", "spec", "end", "words"),
    [
        (rows([]), make_spec(), END, "0 labelled rows"),
        (rows([1]), make_spec(), END, "1 labelled rows"),
        (rows([2, 2, 2]), make_spec(), END, "no row before"),
        (rows([0, 1]), make_spec(window={"training": "28d", "holdout": "1d"}), END, "no row since"),
        (rows([0, 1], ["a", "a"]), GROUPED, END, "entities of the holdout"),
    ],
)
def test_what_cannot_be_split_is_said_plainly(frame, spec, end: datetime, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        split_rows(frame, spec, end)


def test_an_anchor_that_leaves_nothing_to_learn_from_is_named() -> None:
    with pytest.raises(TrainingError, match="all older rows left out: 8 of the anchor"):
        split_rows(rows(list(range(10))), make_spec(), END, anchor_keys=[f"k{i}" for i in range(10)])


def test_a_missing_timestamp_is_refused_rather_than_sorted_last() -> None:
    frame = rows([0, 1, 2])
    frame.loc[1, "event_time"] = pd.NaT
    with pytest.raises(TrainingError, match="1 rows without a timestamp"):
        split_rows(frame, make_spec(), datetime(2026, 3, 1, tzinfo=UTC))
