"""Rows that several columns identify together, or that nothing identifies."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from serving.answer import _key_of
from serving.request import BadRows, RowChecker
from tasks.core.errors import ContractError, SpecError
from tasks.core.spec import ModelSpec, parse_spec
from tasks.fetch import commit_watermark, fetch_training, fetch_window
from tasks.settings import Settings
from tasks.validate import validate
from tests.make import START, make_frame, make_spec, spec_block

AT = START + timedelta(days=30)


def frame_of(rows: int = 90) -> pd.DataFrame:
    """Rows of 30 stores with three visits each; neither column identifies a row alone."""
    frame = make_frame(rows).drop(columns="event_id")
    frame["store"], frame["visit"] = [i % 30 for i in range(rows)], [f"v{i // 30}" for i in range(rows)]
    return frame


def spec_of(url: str | Path, key: object = ("store", "visit"), **source) -> ModelSpec:
    given = list(key) if isinstance(key, tuple) else key
    return make_spec(source={"url": str(url), "key": given, "timestamp": "event_time", **source})


def rows_of(spec: ModelSpec, settings: Settings, at=AT) -> pd.DataFrame:
    got = fetch_training.fn(spec, at, settings=settings)
    checked = validate.fn(spec, got.dataset, settings=settings)
    assert checked.report.outcome == "ok", checked.report.sentence()
    return pd.read_parquet(checked.dataset.path)


@pytest.mark.parametrize("kind", ["parquet", "csv", "sql"])
def test_columns_that_identify_a_row_together_make_one_key_in_every_kind_of_source(
    kind: str, tmp_path: Path, settings: Settings
) -> None:
    frame = frame_of()
    doubled = pd.concat([frame, frame.head(3)])  # copies, which one key brings down to one
    if kind == "sql":
        url = f"sqlite:///{tmp_path / 'rows.db'}"
        doubled.to_sql("visits", sa.create_engine(url), index=False)
        spec = spec_of(url, table="visits", timezone="UTC")
    else:
        path = tmp_path / f"rows.{kind}"
        doubled.to_parquet(path) if kind == "parquet" else doubled.to_csv(path, index=False)
        spec = spec_of(path)
    assert sorted(rows_of(spec, settings)["store+visit"]) == sorted(
        f"{store}|{visit}" for store, visit in zip(frame["store"], frame["visit"], strict=True)
    )
    window = fetch_window.fn(
        spec, fetch_training.fn(spec, AT, settings=settings).dataset.window, AT, settings=settings
    )
    assert window.rows == 90 and "store+visit" in pd.read_parquet(window.path)


def test_a_key_is_the_same_whatever_type_a_file_gives_its_parts(tmp_path: Path, settings: Settings) -> None:
    frame, folder = frame_of(), tmp_path / "rows"
    folder.mkdir()
    frame.to_parquet(folder / "a.parquet")
    frame.assign(store=frame["store"].astype(float)).to_parquet(folder / "b.parquet")
    frame.assign(store=frame["store"].astype(str) + "  ").to_parquet(folder / "c.parquet")
    assert len(rows_of(spec_of(folder), settings)) == 90


def test_a_row_without_one_part_of_its_key_is_a_bad_row(tmp_path: Path, settings: Settings) -> None:
    frame = frame_of(300)
    frame["visit"] = [f"v{i}" for i in range(300)]
    frame.loc[4, "visit"] = None
    frame.to_parquet(tmp_path / "rows.parquet")
    spec = spec_of(tmp_path / "rows.parquet")
    checked = validate.fn(spec, fetch_training.fn(spec, AT, settings=settings).dataset, settings=settings)
    assert checked.report.bad_rows == 1 and checked.report.outcome == "quarantine"
    frame.drop(columns="visit").to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ContractError, match="'visit'"):
        fetch_training.fn(spec, AT, settings=settings)


def test_a_database_is_read_on_from_where_it_was_with_a_joined_key(
    tmp_path: Path, settings: Settings
) -> None:
    frame, url = frame_of(), f"sqlite:///{tmp_path / 'rows.db'}"
    engine = sa.create_engine(url)
    frame.head(60).to_sql("visits", engine, index=False)
    spec = spec_of(url, table="visits", timezone="UTC")
    first = fetch_training.fn(spec, frame["event_time"][59] + timedelta(days=3), settings=settings)
    commit_watermark.fn(spec, first, "one", settings=settings)
    frame.tail(30).to_sql("visits", engine, index=False, if_exists="append")
    second = fetch_training.fn(spec, AT, settings=settings)
    assert (first.dataset.rows, second.dataset.rows, second.new_rows) == (60, 90, 30)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_rows_without_a_key_are_known_by_what_is_in_them(
    kind: str, tmp_path: Path, settings: Settings
) -> None:
    frame = make_frame(60).drop(columns="event_id")
    frame.loc[3, "plan"] = None
    doubled = pd.concat([frame, frame.head(5)])
    path = tmp_path / f"rows.{kind}"
    doubled.to_parquet(path) if kind == "parquet" else doubled.to_csv(path, index=False)
    spec = spec_of(path, "row")
    found = rows_of(spec, settings)
    assert len(found) == found["row"].nunique() == 60
    corrected = doubled.assign(churned=1 - doubled["churned"])  # a label is no part of what a row is
    corrected.to_parquet(path) if kind == "parquet" else corrected.to_csv(path, index=False)
    assert set(rows_of(spec, settings)["row"]) == set(found["row"])


def test_a_column_called_row_stays_the_key_it_always_was(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(60).rename(columns={"event_id": "row"})
    frame.to_parquet(tmp_path / "rows.parquet")
    assert set(rows_of(spec_of(tmp_path / "rows.parquet", "row"), settings)["row"]) == set(frame["row"])


def test_labels_of_a_second_place_meet_their_rows_by_all_columns_of_the_key(
    tmp_path: Path, settings: Settings
) -> None:
    frame = frame_of()
    frame.drop(columns="churned").to_parquet(tmp_path / "rows.parquet")
    truth = frame[["store", "visit", "churned"]].rename(columns={"store": "shop", "churned": "left"})
    truth.sample(frac=1, random_state=0).to_csv(tmp_path / "labels.csv", index=False)
    labels = {"url": str(tmp_path / "labels.csv"), "key": ["shop", "visit"], "column": "left"}
    spec = make_spec(
        source={"url": str(tmp_path / "rows.parquet"), "key": ["store", "visit"], "timestamp": "event_time"},
        label={"column": "churned", "maturity": "2d", "source": labels},
    )
    found = rows_of(spec, settings).sort_values("event_time")
    assert found["churned"].tolist() == frame["churned"].tolist()


@pytest.mark.parametrize(
    ("key", "label"),
    [
        (["store", "churned"], {}),
        (["store", "store"], {}),
        ([], {}),
        ("row", {"source": {"url": "l.csv", "key": "id", "column": "y"}}),
        (["store", "visit"], {"source": {"url": "l.csv", "key": "id", "column": "y"}}),
    ],
)
def test_a_key_that_cannot_identify_rows_is_refused_when_the_block_is_read(key: object, label: dict) -> None:
    block = spec_block(
        source={"url": "rows.parquet", "key": key, "timestamp": "event_time"},
        label={"column": "churned", "maturity": "2d", **label},
    )
    with pytest.raises(SpecError):
        parse_spec(block)


def test_the_block_survives_being_written_down() -> None:
    spec = spec_of("rows.parquet")
    assert parse_spec(spec.model_dump(mode="json")) == spec
    assert spec.model_dump(mode="json")["source"]["key"] == ["store", "visit"]
    assert parse_spec(spec_of("r.parquet", ("id",)).model_dump(mode="json")).source.key == "id"


def test_a_request_may_give_the_parts_of_the_key_or_the_key() -> None:
    spec = spec_of("rows.parquet")
    checker = RowChecker(spec)
    row = {"tenure": 1.0, "spend": 2.0, "plan": "pro", "region": "north"}
    for given in ({"store": "7", "visit": "v1"}, {"store+visit": "7|v1"}):
        (read,) = checker.check([{**row, **given}])
        assert _key_of(spec, read) == "7|v1"
    (read,) = checker.check([row])
    assert _key_of(spec, read) is None
    with pytest.raises(BadRows):
        checker.check([{**row, "shop": 1}])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_in_the_key_has_the_same_text_in_a_file_and_in_a_request(
    unit: str, tmp_path: Path, settings: Settings
) -> None:
    frame = frame_of()
    frame["event_time"] = frame["event_time"].dt.floor("s").astype(f"datetime64[{unit}, UTC]")
    frame.to_parquet(tmp_path / "rows.parquet")
    spec = spec_of(tmp_path / "rows.parquet", ("store", "event_time"))
    moment = frame["event_time"][7].isoformat()
    features = {"tenure": 1.0, "spend": 2.0, "plan": "pro", "region": "north"}
    (read,) = RowChecker(spec).check([{**features, "store": "7", "event_time": moment}])
    assert _key_of(spec, read) in set(rows_of(spec, settings)["store+event_time"])
