"""Times in the forms that tables have them in: one moment, whatever its spelling, type, year or unit."""

# ruff: noqa: DTZ001 - what these tests are about

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.core.errors import FetchError
from tasks.fetch import fetch_training, fetch_window
from tasks.settings import Settings
from tasks.sources.time_texts import FIRST, LAST, since_1970
from tasks.sources.times import to_utc, unreadable
from tasks.validate import validate
from tests.make import START, make_frame, make_spec, spec_block

AS_OF = START + timedelta(days=30)


def spec_at(url: object, **more: Any):
    source = {**spec_block()["source"], "url": str(url)} | more.pop("source", {})
    if "://" not in source["url"]:
        source.pop("table", None)
    return make_spec(source=source, **more)


UTC_SPEC = spec_at("a.csv", source={"timezone": "UTC"})
SPELLINGS: dict[str, Callable[[datetime], str]] = {
    "iso": lambda moment: moment.isoformat(),
    "zulu": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    "blank": lambda moment: f" {moment:%Y-%m-%d %H:%M:%S.%f}+00 ",
    "utc": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC",
    "java": lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z[UTC]",
    "comma": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S},{moment:%f}Z",
    "basic": lambda moment: f"{moment:%Y%m%dT%H%M%S.%f}Z",
    "offset": lambda moment: moment.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(),
    "local": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S.%f}",
}


def moments_of(values: pa.Array, spec=UTC_SPEC) -> list[datetime | None]:
    return to_utc(values, "event_time", spec).to_pylist()


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    moments=st.lists(st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)), min_size=1, max_size=4),
    spelling=st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=4, max_size=4),
)
def test_a_moment_is_the_same_in_any_spelling(moments: list[datetime], spelling: list[str]) -> None:
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    texts = [SPELLINGS[kind](moment) for kind, moment in zip(spelling, aware, strict=False)]
    assert moments_of(pa.array(texts)) == aware


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20260131", datetime(2026, 1, 31)),
        ("20260131T0800Z", datetime(2026, 1, 31, 8)),
        ("20260131080000", datetime(2026, 1, 31, 8)),
        ("2026-01-31Z", datetime(2026, 1, 31)),
        ("2026-01-31", datetime(2026, 1, 31)),
        ("1899-12-31 23:59", datetime(1899, 12, 31, 23, 59)),
        ("0001-01-01", datetime(1, 1, 1)),
        ("0001-01-01T00:00:00+05:00", datetime(1, 1, 1)),
        ("9999-12-31 23:59:59.999999", LAST),
        ("9999-12-31 23:00:00-05", LAST),
        ("infinity", LAST),
        ("-Infinity", FIRST),
        ("0000-00-00 00:00:00", None),
        ("2026-02-30", None),
        ("yesterday", None),
        ("1767600000", None),
        ("", None),
        (None, None),
    ],
)
def test_texts_are_read_or_counted_as_unreadable(text: str | None, moment: datetime | None) -> None:
    raw = pa.array([text], pa.string())
    read = to_utc(raw, "event_time", UTC_SPEC)
    expected = None if moment is None else moment.replace(tzinfo=UTC)
    assert read.to_pylist() == [expected]
    assert unreadable(raw, read).to_pylist() == [bool(text) and moment is None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", ["int64", "double", "text", "decimal"])
def test_numbers_are_times_where_their_unit_is_declared(unit: str, kind: str) -> None:
    moments = [datetime(2026, 1, 5, 8, tzinfo=UTC), datetime(1965, 3, 1, tzinfo=UTC)]
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [int(moment.timestamp()) * per for moment in moments]
    values = {
        "int64": pa.array(counts),
        "double": pa.array([float(count) for count in counts]),
        "text": pa.array([str(count) for count in counts]),
        "decimal": pa.array(counts).cast(pa.decimal128(38, 0)),
    }[kind]
    spec = spec_at("a.csv", source={"timestamp_unit": unit})
    assert moments_of(values, spec) == moments
    if kind != "text":
        with pytest.raises(FetchError, match="timestamp_unit"):
            moments_of(values)


@example(number=1.8e302, unit="s")
@given(
    number=st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=True),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_no_number_is_beyond_the_years_that_python_has(number: float, unit: str) -> None:
    (moment,) = since_1970(pa.array([number]), unit).to_pylist()
    assert (moment is None) == (not math.isfinite(number))
    assert moment is None or FIRST <= moment <= LAST


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_timestamps_beyond_all_years_are_their_ends(unit: str, zone: str | None) -> None:
    values = pa.array([2**63 - 1, -(2**63) + 1, None]).cast(pa.timestamp(unit, zone))
    low, high, none = moments_of(values)[1], moments_of(values)[0], moments_of(values)[2]
    assert none is None
    assert high is not None
    assert low is not None
    assert (high.year == 9999, low.year == 1) == (unit != "ns", unit != "ns")
    days = pa.array([2**31 - 1, -(2**31) + 1], pa.int32()).cast(pa.date32())
    assert [moment and moment.year for moment in moments_of(days)] == [9999, 1]


@pytest.mark.parametrize("kind", ["csv", "parquet", "sqlite", "postgres"])
def test_one_unreadable_time_is_one_bad_row(
    kind: str, tmp_path: Path, settings: Settings, postgres_url: str
) -> None:
    frame = make_frame(400, days=28)
    texts = frame["event_time"].dt.strftime("%Y-%m-%d %H:%M:%SZ").astype(object).copy()
    texts[3], texts[4], texts[5] = "0000-00-00 00:00:00", None, "soon"
    frame["event_time"] = texts
    path = tmp_path / f"a.{kind}"
    if kind in ("csv", "parquet"):
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        spec = spec_at(path)
    else:
        url = f"sqlite:///{path}" if kind == "sqlite" else postgres_url
        frame.to_sql(
            "customer_events",
            sa.create_engine(url, poolclass=sa.pool.NullPool),
            index=False,
            if_exists="replace",
        )
        spec = spec_at(url)
    fetched = fetch_training.fn(spec, AS_OF, settings=settings)
    assert (fetched.dataset.rows, fetched.undated_rows) == (397, 3)
    checked = validate.fn(spec, fetched.dataset, settings=settings)
    assert checked.report.reasons == {"event_time:missing_value": 2}
    assert checked.report.outcome == "quarantine"
    assert checked.quarantine is not None
    assert set(pd.read_parquet(checked.quarantine)["event_id"]) == set(frame["event_id"][[3, 5]])
    strict = spec_at(spec.source.url, contract={"max_bad_share": 0.001})
    with pytest.raises(FetchError, match="no time"):
        fetch_training.fn(strict, AS_OF, settings=settings)


@pytest.mark.parametrize("kind", ["parquet", "sqlite"])
def test_rows_of_the_future_are_counted_wherever_it_stands(
    kind: str, tmp_path: Path, settings: Settings
) -> None:
    frame = make_frame(100, days=20)
    frame["updated_at"] = frame["event_time"]
    frame.loc[3, "updated_at"] = pd.Timestamp("2027-01-01", tz="UTC")
    frame.loc[4, "event_time"] = pd.Timestamp("2027-01-01", tz="UTC")
    frame.loc[5, ["updated_at", "event_time"]] = pd.Timestamp("2027-01-01", tz="UTC")
    path = tmp_path / "a.parquet"
    url = f"sqlite:///{tmp_path / 'a.db'}" if kind == "sqlite" else str(path)
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        texts = {
            name: frame[name].map(lambda moment: moment.isoformat()) for name in ("event_time", "updated_at")
        }
        frame.assign(**texts).to_sql(
            "customer_events", sa.create_engine(url, poolclass=sa.pool.NullPool), index=False
        )
    fetched = fetch_training.fn(spec_at(url, source={"updated": "updated_at"}), AS_OF, settings=settings)
    assert (fetched.future_rows, fetched.dataset.rows) == (3, 97)


def test_int96_of_far_years_stays_where_it_is(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(50, days=20)
    times = [moment.to_pydatetime().replace(tzinfo=None) for moment in frame["event_time"]]
    times[7], times[8], times[9] = datetime(9999, 12, 31), datetime(2610, 8, 4), datetime(1, 1, 1)
    table = pa.Table.from_pandas(frame.drop(columns="event_time"))
    table = table.append_column("event_time", pa.array(times, pa.timestamp("us")))
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, store_schema=False)
    fetched = fetch_training.fn(spec_at(path, source={"timezone": "UTC"}), AS_OF, settings=settings)
    assert (fetched.future_rows, fetched.dataset.rows) == (2, 47)


@pytest.mark.parametrize("declared", ["timestamptz", "timestamp", "date"])
def test_postgres_times_without_end_are_future_and_past(
    declared: str, settings: Settings, postgres_url: str
) -> None:
    frame = make_frame(50, days=20)
    if declared == "date":
        frame["event_time"] = frame["event_time"].dt.floor("D")
    engine = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    frame.to_sql("customer_events", engine, index=False, if_exists="replace")
    with engine.begin() as connection:
        connection.exec_driver_sql("SET timezone TO 'UTC'")
        connection.exec_driver_sql(f"ALTER TABLE customer_events ALTER event_time TYPE {declared}")
        for place, text in enumerate(["infinity", "-infinity", "294276-01-01", "0044-03-15 BC"]):
            key = frame["event_id"][place]
            connection.exec_driver_sql(
                f"UPDATE customer_events SET event_time = '{text}' WHERE event_id = '{key}'"
            )
    spec = spec_at(postgres_url, source={"timezone": "UTC"})
    fetched = fetch_training.fn(spec, AS_OF, settings=settings)
    assert (fetched.future_rows, fetched.dataset.rows) == (2, 46)
    window = fetched.dataset.window
    assert fetch_window.fn(spec, window, AS_OF, settings=settings).rows == 46
