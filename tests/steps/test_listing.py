"""Folders as programs leave them: what is read, what is passed over, and what is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.errors import FetchError
from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.sources.files import FileSource
from tasks.validate import validate
from tests.make import START, make_frame, make_spec, spec_block

AS_OF = START + pd.Timedelta(days=30)


def spec_at(url: object, **source: Any):
    block = {**spec_block()["source"], "url": str(url), **source}
    block.pop("table", None)
    return make_spec(source=block)


def count(url: object, settings: Settings, **source: Any) -> int:
    return fetch_training.fn(spec_at(url, **source), AS_OF, settings=settings).dataset.rows


def test_what_programs_leave_beside_the_rows_is_passed_over_and_counted(
    tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    frame = make_frame(30)
    frame.to_parquet(folder / "a.parquet")
    (folder / "_temporary" / "0").mkdir(parents=True)
    frame.assign(event_id=lambda rows: rows["event_id"] + "x").to_parquet(folder / "_temporary/0/b.parquet")
    for name in ("._a.parquet", ".a.parquet.crc", "_SUCCESS", "notes.md"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    for name in ("empty.parquet", "empty.csv"):
        (folder / name).write_bytes(b"")
    frame.assign(event_id=lambda rows: rows["event_id"] + "y").to_csv(folder / "_rows.csv", index=False)
    assert count(folder, settings) == 60
    source = FileSource(spec_at(folder), str(folder))
    assert dict(source.skipped) == {"beside the data": 4, "empty": 2, "of another kind": 1}
    fetched = fetch_training.fn(spec_at(folder), AS_OF, settings=settings)
    assert fetched.skipped_files == 7


def test_a_folder_of_empty_files_says_so(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(FetchError, match="1 empty"):
        count(tmp_path, settings)


@pytest.mark.parametrize(
    ("log", "name"),
    [
        ("_delta_log/00000000000000000000.json", "Delta"),
        ("metadata/v1.metadata.json", "Iceberg"),
        (".hoodie/hoodie.properties", "Hudi"),
    ],
)
@pytest.mark.parametrize("glob", ["", "/*.parquet", "/**/*.parquet"])
def test_a_table_with_a_log_of_its_own_is_refused_by_name(
    log: str, name: str, glob: str, tmp_path: Path, settings: Settings
) -> None:
    table = tmp_path / "lake" / "t"
    (table / log).parent.mkdir(parents=True)
    (table / log).write_text(json.dumps({"add": {"path": "a.parquet"}}))
    make_frame(10).to_parquet(table / "a.parquet")
    with pytest.raises(FetchError, match=name):
        count(f"{table}{glob}", settings)
    plain = tmp_path / "lake" / "plain"
    plain.mkdir()
    make_frame(10).to_parquet(plain / "a.parquet")
    assert count(f"{tmp_path}/lake/plain/*.parquet", settings) == 10


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_columns_stand_in_the_names_of_folders(kind: str, tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(60).assign(plan=["basic", "a b/c%", None] * 20, region=["1", "2", "10"] * 20)
    for (plan, region), rows in frame.groupby(["plan", "region"], dropna=False):
        text = "__HIVE_DEFAULT_PARTITION__" if pd.isna(plan) else plan.replace("%", "%25").replace("/", "%2F")
        folder = tmp_path / "data" / f"plan={text}" / f"region={region}"
        folder.mkdir(parents=True)
        rest = rows.drop(columns=["plan", "region"])
        rest.to_parquet(folder / "a.parquet") if kind == "parquet" else rest.to_csv(
            folder / "a.csv", index=False
        )
    fetched = fetch_training.fn(spec_at(tmp_path / "data"), AS_OF, settings=settings)
    rows = pd.read_parquet(fetched.dataset.path).merge(frame, on="event_id", suffixes=("", "_then"))
    assert len(rows) == 60
    assert rows["plan"].fillna("none").tolist() == rows["plan_then"].fillna("none").tolist()
    assert rows["region"].tolist() == rows["region_then"].tolist()
    one = fetch_training.fn(spec_at(f"{tmp_path}/data/plan=basic/*/*.{kind}"), AS_OF, settings=settings)
    assert one.dataset.rows == 20


def test_the_time_may_stand_in_the_name_of_a_folder(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(40, days=20)
    days = frame["event_time"].dt.strftime("%Y-%m-%d")
    for day, rows in frame.groupby(days):
        folder = tmp_path / f"event_time={day}"
        folder.mkdir()
        rows.drop(columns="event_time").to_parquet(folder / "a.parquet")
    fetched = fetch_training.fn(spec_at(tmp_path, timezone="UTC"), AS_OF, settings=settings)
    read = pd.read_parquet(fetched.dataset.path)
    assert len(read) == 40
    assert set(read["event_time"].dt.strftime("%Y-%m-%d")) == set(days)
    assert validate.fn(spec_at(tmp_path), fetched.dataset, settings=settings).report.bad_rows == 0


@pytest.mark.parametrize(
    "name",
    ["export [1].csv", "a b.csv", "50%.csv", "what?.csv", "a*b.csv", "a%20b.csv", "ä (2).csv", "{x}.csv"],
)
@pytest.mark.parametrize("place", ["file", "folder", "url"])
def test_a_path_that_exists_is_taken_as_it_is(
    name: str, place: str, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / (f"{name}.d" if place == "folder" else "d")
    folder.mkdir()
    path = folder / name
    make_frame(10).to_csv(path, index=False)
    make_frame(10).assign(event_id=lambda rows: rows["event_id"] + "z").to_csv(folder / "1.csv", index=False)
    if place == "url":
        assert count(path.as_uri(), settings) == 10
    else:
        assert count(path if place == "file" else folder, settings) == (10 if place == "file" else 20)


def test_a_set_of_signs_in_a_glob_still_matches(tmp_path: Path, settings: Settings) -> None:
    for name in "123":
        make_frame(10).assign(event_id=lambda rows, n=name: rows["event_id"] + n).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    assert count(f"{tmp_path}/[12].csv", settings) == 20
    assert count(f"{tmp_path}/[!12].csv", settings) == 10
