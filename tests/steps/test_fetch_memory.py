"""A large fetch streams, and holds its rows once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.sources import sql
from tests.make import START, make_frame, make_spec, spec_block

ROWS, NUMBERS, BATCH = 200_000, 40, 20_000
AS_OF = START + timedelta(days=30)
_POOLS: list[pa.MemoryPool] = []  # a pool must live as long as the last array that was made from it


@pytest.fixture
def arrow_memory() -> Iterator[pa.MemoryPool]:
    """A pool that counts what Arrow takes during this test, and no other."""
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    _POOLS.append(counted)
    pa.set_memory_pool(counted)
    yield counted
    pa.set_memory_pool(usual)


def test_a_large_fetch_holds_its_rows_less_than_twice(
    tmp_path: Path, settings: Settings, arrow_memory: pa.MemoryPool
) -> None:
    path = tmp_path / "rows.parquet"
    wide_rows(path)
    source = {**spec_block()["source"], "url": str(path), "table": None}
    features = {"numeric": [f"x{index}" for index in range(NUMBERS)]}
    spec = make_spec(source=source, features=features, contract={})
    before = arrow_memory.bytes_allocated()
    tracemalloc.start()
    fetched = fetch_training.fn(spec, AS_OF, settings=settings)
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = ROWS * (NUMBERS * 8 + 8 + 16 + 8)  # as Arrow: numbers, time, key with its offset, label
    assert fetched.dataset.rows == ROWS
    assert python_peak > ROWS * 8, "the measurement measures"
    assert arrow_memory.max_memory() - before > held, "the measurement measures"
    assert arrow_memory.max_memory() - before + python_peak < 1.9 * held


def test_rows_of_a_database_are_written_batch_by_batch(
    postgres_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "BATCH_ROWS", 100)
    engine = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    make_frame(1000).to_sql("customer_events", engine, index=False)
    sizes: list[int] = []
    plain = sql.shaped

    def watched(batch: pa.RecordBatch, *rest: object, **more: object) -> pa.RecordBatch:
        sizes.append(batch.num_rows)
        return plain(batch, *rest, **more)

    monkeypatch.setattr(sql, "shaped", watched)
    source = {**spec_block()["source"], "url": postgres_url}
    fetched = fetch_training.fn(make_spec(source=source), AS_OF, settings=settings)
    assert fetched.dataset.rows == 1000
    assert sizes == [100] * 10


def wide_rows(path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, ROWS, BATCH):
        ids = np.arange(start, start + BATCH)
        moments = np.datetime64(START.replace(tzinfo=None), "us") + ids * (28 * 86_400_000_000 // ROWS)
        columns = {
            "event_id": pa.array([f"e{index:010d}" for index in ids]),
            "event_time": pa.array(moments, pa.timestamp("us", "UTC")),
            "churned": rng.integers(0, 2, BATCH),
        }
        table = pa.table(columns | {f"x{index}": rng.random(BATCH) for index in range(NUMBERS)})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
