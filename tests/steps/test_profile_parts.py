"""Profiles of files, cursors and parts are those of their rows, in memory that does not grow with them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from tasks.core.dataset import Dataset
from tasks.core.drift.profile import SCORE, Reference, build_reference, profile_frame
from tasks.core.errors import DriftError
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.drift import check_drift, count_window
from tasks.drifting import profile as module
from tasks.drifting.profile import (
    Part,
    partitions,
    profile_cursor,
    profile_parquet,
    profile_part,
    profile_rows,
    reduce_profiles,
)
from tasks.settings import Settings
from tasks.sources.sql import SqlSource
from tests.make import START, make_frame, make_spec, spec_block

SPEC = make_spec()
SENSITIVE = make_spec(features={**spec_block()["features"], "sensitive": ["region"]})
KEY = b"secret"
_POOLS: list[pa.MemoryPool] = []  # a pool must live as long as the last array that was made from it


def reference_for(spec: ModelSpec = SPEC, *, scored: bool = False, key: bytes | None = None) -> Reference:
    scores = score(make_frame(500, seed=9)) if scored else None
    return build_reference(make_frame(500, seed=9), spec, scores=scores, key=key, deep=False)


def score(frame: pd.DataFrame) -> np.ndarray:
    assert frame["plan"].dtype == object, "a model gets texts, as it was fitted on"
    return frame["spend"].to_numpy() / (1 + frame["tenure"].to_numpy())


@pytest.fixture
def rows(tmp_path: Path) -> tuple[str, pd.DataFrame]:
    """A file of several row groups, with nulls and unseen values, and its rows."""
    frame = make_frame(1000, seed=1)
    frame.loc[::7, "spend"] = np.nan
    frame.loc[::11, "plan"] = None
    frame.loc[::13, "region"] = "elsewhere"
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path, row_group_size=150)
    return str(path), frame


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_is_profiled_as_its_rows(rows, threads):
    path, frame = rows
    reference = reference_for()
    assert profile_parquet(path, reference, threads=threads) == profile_frame(frame, reference)


@pytest.mark.parametrize("spec", [SPEC, SENSITIVE], ids=["plain", "sensitive"])
def test_a_file_is_profiled_with_scores_and_keys_as_its_rows(rows, spec, monkeypatch):
    path, frame = rows
    monkeypatch.setattr(module, "_SCORED_ROWS", 64)
    key = KEY if spec is SENSITIVE else None
    reference = reference_for(spec, scored=True, key=key)
    profile = profile_parquet(path, reference, score=score, key=key)
    assert profile == profile_frame(frame, reference, scores=score(frame), key=key)
    assert profile.features[SCORE].nulls == frame["spend"].isna().sum()
    unscored = profile_parquet(path, reference, score=lambda _: None, key=key)
    assert SCORE not in unscored.features


def test_a_score_that_fails_is_no_unreadable_file(rows):
    def failing(frame: pd.DataFrame) -> np.ndarray:
        raise OSError("the model's own trouble")

    with pytest.raises(OSError, match="own trouble"):
        profile_parquet(rows[0], reference_for(), score=failing)


def test_a_file_on_s3_is_profiled_as_its_rows(rows, s3_bucket, s3_endpoint, settings):
    path, frame = rows
    url = f"s3://{s3_bucket}/rows.parquet"
    files, inside = module.filesystem(url, settings)
    with files.open_output_stream(inside) as stream:
        stream.write(Path(path).read_bytes())
    reference = reference_for(scored=True)
    assert profile_parquet(url, reference, settings=settings) == profile_frame(frame, reference)
    scored = profile_parquet(url, reference, score=score, settings=settings)
    assert scored == profile_frame(frame, reference, scores=score(frame))
    assert sum(part.rows for part in partitions(url, rows_per_part=300, settings=settings)) == len(frame)
    with pytest.raises(DriftError, match=r"no readable Parquet file none\.parquet"):
        profile_parquet(f"s3://{s3_bucket}/none.parquet", reference, settings=settings)


def test_several_files_add_up_and_a_column_that_one_lacks_is_named(rows, tmp_path):
    path, frame = rows
    other = make_frame(80, seed=4).drop(columns="tenure")
    other.to_parquet(tmp_path / "other.parquet")
    reference = reference_for()
    profile = profile_parquet([path, str(tmp_path / "other.parquet")], reference)
    assert profile == profile_frame(frame, reference) + profile_frame(other, reference)
    assert profile.features == profile_frame(pd.concat([frame, other]), reference).features
    assert profile.absent == ("tenure",)


def test_parts_hold_every_row_group_once_and_add_up_in_any_order(rows, tmp_path):
    path, frame = rows
    reference = reference_for()
    parts = partitions(path, rows_per_part=300)
    assert [part.groups for part in parts] == [(0, 1), (2, 3), (4, 5), (6,)]
    assert [part.rows for part in parts] == [300, 300, 300, 100]
    profiles = [profile_rows(part, reference) for part in parts]
    random.Random(0).shuffle(profiles)
    assert reduce_profiles(profiles) == profile_frame(frame, reference)
    assert partitions(path, rows_per_part=None) == [Part(path, (0, 1, 2, 3, 4, 5, 6), 1000)]


@pytest.mark.engine
def test_a_flow_maps_parts_over_its_task_runner(rows, tmp_path, prefect_api):
    from prefect import flow, unmapped
    from prefect.task_runners import ThreadPoolTaskRunner

    path, frame = rows
    reference = reference_for(SENSITIVE, key=KEY)
    (tmp_path / "reference.json").write_text(reference.to_json())
    settings = Settings(state_dir=tmp_path / "state", mask_key=KEY.decode())

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
    def profile_all():
        found = profile_part.map(
            partitions(path, rows_per_part=300),
            unmapped(str(tmp_path / "reference.json")),
            settings=unmapped(settings),
        )
        return reduce_profiles(found.result())

    assert profile_all() == profile_frame(frame, reference, key=KEY)


def test_a_large_window_is_counted_in_parts_by_the_flow_and_judged_as_a_whole(
    rows, tmp_path, prefect_api, monkeypatch
):
    from prefect import flow

    path, frame = rows
    reference = reference_for()
    (tmp_path / "reference.json").write_text(reference.to_json())
    window = Dataset(path, len(frame), "0" * 64, Window(START, START + timedelta(days=7)))
    monkeypatch.setattr(module, "partitions", partial(partitions, rows_per_part=300))

    @flow
    def check(expected):
        found = count_window(SPEC, window, str(tmp_path / "reference.json"))
        assert found == expected
        return check_drift(SPEC, window, str(tmp_path / "reference.json"), profile=found)

    assert check(profile_frame(frame, reference)).rows == len(frame)
    monkeypatch.setattr(module, "partitions", partitions)
    assert count_window(SPEC, window, str(tmp_path / "reference.json")) is None, "small: counted by the check"


def test_batches_of_a_database_cursor_are_profiled_as_its_rows(tmp_path, monkeypatch):
    frame = make_frame(500, seed=2)
    frame.loc[:120, "plan"] = None  # a first batch without one text has another type
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    frame.assign(event_time=frame["event_time"].astype(str)).to_sql("customer_events", engine, index=False)
    monkeypatch.setattr("tasks.sources.sql.BATCH_ROWS", 100)
    spec = make_spec(source={**spec_block()["source"], "url": url})
    reference = reference_for()
    batches = list(SqlSource(spec, url).batches(spec.columns, ()))
    assert len(batches) == 5
    assert profile_cursor(iter(batches), reference) == profile_frame(frame, reference)


def test_a_cursor_is_read_no_further_ahead_than_there_are_threads():
    pulled, done = 0, 0
    ahead = []

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal pulled
        for _ in range(20):
            pulled += 1
            yield pa.RecordBatch.from_pandas(make_frame(10))

    def counted(frame: pd.DataFrame) -> None:
        nonlocal done
        ahead.append(pulled - done)
        done += 1

    assert profile_cursor(batches(), reference_for(), score=counted, threads=2).rows == 200
    assert max(ahead) == 1


def test_no_rows_are_the_zero_of_the_sum(tmp_path, rows):
    reference = reference_for()
    make_frame(10).iloc[:0].to_parquet(tmp_path / "none.parquet")
    nothing = profile_parquet(str(tmp_path / "none.parquet"), reference)
    assert nothing.rows == 0
    assert profile_cursor([], reference) == profile_parquet([], reference)
    whole = profile_parquet(rows[0], reference)
    assert whole + nothing == nothing + whole == whole
    assert partitions(str(tmp_path / "none.parquet"))[-1].rows == 0
    with pytest.raises(DriftError, match="no profile"):
        reduce_profiles([])


def test_rows_without_any_feature_are_counted_as_absent(tmp_path):
    pq.write_table(pa.table({"other": [1, 2, 3]}), tmp_path / "rows.parquet")
    profile = profile_parquet(str(tmp_path / "rows.parquet"), reference_for())
    assert profile.rows == 3
    assert profile.absent == ("plan", "region", "spend", "tenure")


@pytest.mark.parametrize("text", [None, b"", b"PAR1 and then nothing of the kind PAR1"])
def test_a_file_that_cannot_be_read_is_named_and_refused(tmp_path, text):
    path = tmp_path / "rows.parquet"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(DriftError, match=r"no readable Parquet file rows\.parquet"):
        profile_parquet(str(path), reference_for())
    with pytest.raises(DriftError, match=r"no readable Parquet file rows\.parquet"):
        partitions(str(path))


def test_a_file_cut_off_within_its_pages_is_refused(rows, tmp_path):
    # the footer is whole, what it points to is not: no count may come of it
    text = bytearray(Path(rows[0]).read_bytes())
    column = pq.read_metadata(rows[0]).row_group(3).column(3)
    begin = column.dictionary_page_offset
    assert column.path_in_schema == "spend"
    text[begin : begin + column.total_compressed_size] = bytes(column.total_compressed_size)
    path = tmp_path / "damaged.parquet"
    path.write_bytes(bytes(text))
    with pytest.raises(DriftError, match=r"no readable Parquet file damaged\.parquet"):
        profile_parquet(str(path), reference_for())


@pytest.mark.parametrize("mapped", [True, False])
def test_ten_times_the_rows_take_no_more_memory(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(module, "BATCH_ROWS", 4096)
    monkeypatch.setattr(module, "_MAPPED", 2**40 if mapped else 0)
    frame = make_frame(20_000)
    reference = reference_for()
    peaks = []
    for times in (1, 10):
        path = tmp_path / f"{times}.parquet"
        with pq.ParquetWriter(path, pa.Schema.from_pandas(frame)) as writer:
            for _ in range(times):
                writer.write_table(pa.Table.from_pandas(frame))
        pool = pa.proxy_memory_pool(pa.default_memory_pool())
        _POOLS.append(pool)
        usual = pa.default_memory_pool()
        pa.set_memory_pool(pool)
        try:
            assert profile_parquet(str(path), reference, threads=1).rows == times * len(frame)
        finally:
            pa.set_memory_pool(usual)
        peaks.append(pool.max_memory())
    assert 0 < peaks[1] < 1.2 * peaks[0]
