"""One row per key, whatever order the versions arrive in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.rows import Resolution, resolve
from tests.make import make_frame, make_spec, spec_block

T0 = datetime(2026, 1, 5, tzinfo=UTC)
SOURCE = spec_block()["source"]
PLAIN = make_spec()
STAMPED = make_spec(source={**SOURCE, "updated": "updated_at"})


def version(
    key: str | None, hours: int = 0, *, spend: float | None = 1.0, written: int | None = None
) -> dict:
    row = {
        "event_id": key,
        "event_time": T0 + timedelta(hours=hours),
        "tenure": 1.0,
        "spend": spend,
        "plan": "pro",
        "region": "north",
        "churned": 0,
    }
    return row if written is None else {**row, "updated_at": T0 + timedelta(hours=written)}


def frame_of(*rows: dict) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for name in {"event_time", "updated_at"} & set(frame.columns):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


def test_the_row_written_last_wins_even_when_its_timestamp_is_earlier() -> None:
    frame = frame_of(version("a", 5, spend=1.0, written=6), version("a", 3, spend=2.0, written=9))
    rows, resolution = resolve(frame, STAMPED)
    assert rows["spend"].tolist() == [2.0]
    assert resolution == Resolution(duplicates=0, corrections=1)


def test_without_a_time_of_writing_the_later_timestamp_wins() -> None:
    rows, resolution = resolve(frame_of(version("a", 5, spend=1.0), version("a", 3, spend=2.0)), PLAIN)
    assert rows["spend"].tolist() == [1.0]
    assert resolution == Resolution(duplicates=0, corrections=1)


def test_a_row_never_stamped_loses_to_a_stamped_one() -> None:
    frame = frame_of(version("a", 5, spend=1.0, written=0), version("a", 3, spend=2.0, written=1))
    frame.loc[0, "updated_at"] = pd.NaT
    rows, _ = resolve(frame, STAMPED)
    assert rows["spend"].tolist() == [2.0]


def test_rows_sent_twice_count_as_duplicates_even_when_only_the_time_of_writing_differs() -> None:
    rows, resolution = resolve(
        frame_of(version("a", written=1), version("a", written=2), version("b", written=2)), STAMPED
    )
    assert rows["event_id"].tolist() == ["a", "b"]
    assert resolution == Resolution(duplicates=1, corrections=0)


def test_rows_come_sorted_by_timestamp_then_key() -> None:
    rows, _ = resolve(frame_of(version("c", 1), version("b", 2), version("a", 2), version("d", 0)), PLAIN)
    assert rows["event_id"].tolist() == ["d", "c", "a", "b"]


def test_different_rows_without_a_key_are_all_kept_and_equal_ones_once() -> None:
    frame = frame_of(
        version(None, spend=1.0), version(None, spend=2.0), version(None, spend=1.0), version("a")
    )
    rows, resolution = resolve(frame, PLAIN)
    assert rows["event_id"].isna().sum() == 2
    assert len(rows) == 3
    assert resolution == Resolution(duplicates=1, corrections=0)


def test_nulls_are_equal_to_nulls_and_different_from_values() -> None:
    same, counted = resolve(frame_of(version("a", spend=None), version("a", spend=None)), PLAIN)
    assert (len(same), counted.duplicates) == (1, 1)
    _, differing = resolve(frame_of(version("a", spend=None), version("a", spend=0.0)), PLAIN)
    assert differing.corrections == 1


def test_the_number_type_of_a_column_does_not_change_which_row_wins() -> None:
    frame = frame_of(version("a", spend=1.0), version("a", spend=2.0), version("a", spend=3.0))
    winners = {
        resolve(frame.astype({"spend": kind}), PLAIN)[0]["spend"].astype(float).item()
        for kind in ("float64", "int64", "Int64", "float32")
    }
    assert len(winners) == 1


def test_a_frame_with_unique_keys_comes_back_unchanged_and_unshared() -> None:
    frame = make_frame(200)
    before = frame.copy(deep=True)
    rows, resolution = resolve(frame, PLAIN)
    pd.testing.assert_frame_equal(rows, frame)
    pd.testing.assert_frame_equal(frame, before)
    assert resolution == Resolution()


@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_frame_and_one_row_come_back(rows: int) -> None:
    frame = make_frame(5).head(rows)
    kept, resolution = resolve(frame, PLAIN)
    assert len(kept) == rows
    assert resolution == Resolution()
    assert list(kept.columns) == list(frame.columns)


versions = st.lists(
    st.builds(
        version,
        st.sampled_from(["a", "b", "c", "é", None]),
        st.integers(0, 2),
        spend=st.sampled_from([None, 0.0, 1.0]),
        written=st.integers(0, 2),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(versions, st.randoms(use_true_random=False), st.booleans())
def test_the_result_does_not_depend_on_the_order_of_arrival(rows, random, stamped) -> None:
    spec = STAMPED if stamped else PLAIN
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, counted = resolve(frame_of(*rows), spec)
    second, again = resolve(frame_of(*shuffled), spec)
    compared = spec.columns
    pd.testing.assert_frame_equal(first[compared], second[compared])
    assert counted == again
    assert len(first) + counted.duplicates + counted.corrections == len(rows)


@settings(max_examples=40, deadline=None)
@given(versions)
def test_the_winner_is_one_that_a_plain_sort_would_choose(rows) -> None:
    kept, _ = resolve(frame_of(*rows), STAMPED)
    for key, moment in kept.loc[kept["event_id"].notna(), ["event_id", "updated_at"]].to_numpy():
        same = [row for row in rows if row["event_id"] == key]
        newest = max((row["updated_at"], row["event_time"]) for row in same)
        assert moment == newest[0]
    assert kept["event_id"].dropna().is_unique
    assert set(kept["event_id"].dropna()) == {row["event_id"] for row in rows if row["event_id"]}


def test_many_corrected_rows_resolve_to_what_a_groupby_finds() -> None:
    count = 200_000
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "event_id": rng.integers(0, count // 2, count),
            "event_time": pd.to_datetime(rng.integers(0, 10**6, count), unit="s", utc=True),
            "tenure": rng.random(count),
            "spend": rng.random(count),
            "plan": rng.choice(["a", "b"], count),
            "region": "north",
            "churned": 0,
        }
    )
    kept, resolution = resolve(frame, PLAIN)
    latest = frame.groupby("event_id")["event_time"].max()
    assert len(kept) == len(latest)
    assert (kept.set_index("event_id")["event_time"].sort_index() == latest.sort_index()).all()
    assert resolution.corrections == count - len(latest)
