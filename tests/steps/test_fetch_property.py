"""No row lost, none twice: any history of a source gives the training rows that one full fetch gives."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.core.spec import ModelSpec
from tasks.fetch import Fetched, commit_watermark, fetch_training
from tasks.settings import Settings
from tests.make import make_spec, spec_block

T0 = datetime(2026, 1, 5, tzinfo=UTC)
KEYS = [f"k{i}" for i in range(6)]
COLUMNS = "event_id, event_time, updated_at, tenure, spend, plan, region, churned"


def spec_of(url: str, table: str, *, stamped: bool, timezone: str | None = None) -> ModelSpec:
    source = {
        **spec_block()["source"],
        "url": url,
        "table": table,
        "overlap": "6h",
        "timezone": timezone,
    } | ({"updated": "updated_at"} if stamped else {})
    return make_spec(
        source=source, label={"column": "churned", "maturity": "1d"}, window={"training": "1d"}
    )  # fading: four of them


@dataclass(frozen=True)
class Row:
    """One version of a row; `spend` tells versions apart."""

    key: str
    event: datetime
    written: datetime | None
    spend: float | None
    churned: int | None = 0


@dataclass
class World:
    """A table, and the clock of the place that fetches from it."""

    engine: sa.Engine
    table: str
    spec: ModelSpec
    settings: Settings
    upsert: bool
    text: bool
    now: datetime = T0
    versions: list[Row] = field(default_factory=list)
    commits: int = 0
    last: Fetched | None = None

    def store(self, row: Row) -> None:
        """Put one version in the table: appended, or in place of the older ones."""
        if self.upsert:
            self.remove(row.key)
        self.versions.append(row)
        with self.engine.begin() as connection:
            connection.execute(
                sa.text(
                    f"INSERT INTO {self.table} ({COLUMNS}) VALUES "
                    "(:key, :event, :written, 1.0, :spend, 'pro', 'north', :churned)"
                ),
                {
                    "key": row.key,
                    "event": row.event.isoformat() if self.text else row.event,
                    "written": row.written.isoformat() if self.text and row.written else row.written,
                    "spend": row.spend,
                    "churned": row.churned,
                },
            )

    def remove(self, key: str) -> None:
        """Delete every version of one key."""
        self.versions = [row for row in self.versions if row.key != key]
        with self.engine.begin() as connection:
            connection.execute(sa.text(f"DELETE FROM {self.table} WHERE event_id = :key"), {"key": key})

    def fetch(self, *, afresh: bool = False) -> Fetched:
        """Fetch as this model does, or as a model does that never fetched before."""
        spec = self.spec.model_copy(update={"name": "fresh"}) if afresh else self.spec
        return fetch_training.fn(spec, self.now, settings=self.settings)

    def expected(self) -> list[tuple[str, datetime, float | None]]:
        """The same by hand: the newest known version of each key, if it lies in the window."""
        end = self.now - timedelta(days=1)
        start = end - timedelta(days=4)
        stamped = self.spec.source.updated is not None
        never = datetime.min.replace(tzinfo=UTC)
        newest: dict[str, list[Row]] = {}
        for row in self.versions:
            if stamped and row.written is not None and row.written > self.now:
                continue
            if not stamped and not start <= row.event < end:
                continue
            newest.setdefault(row.key, []).append(row)
        rows = []
        for key, versions in newest.items():
            order = [((row.written or never) if stamped else never, row.event) for row in versions]
            ties = [row for row, rank in zip(versions, order, strict=True) if rank == max(order)]
            if start <= ties[0].event < end:
                spends = {row.spend for row in ties}
                rows.append((ties[0].event, key, spends))
        return sorted(rows, key=lambda row: row[:2])


def rows_of(fetched: Fetched) -> pd.DataFrame:
    return pd.read_parquet(fetched.dataset.path)


def check(world: World, fetched: Fetched) -> None:
    rows = rows_of(fetched)
    expected = world.expected()
    assert list(zip(rows["event_time"], rows["event_id"], strict=True)) == [row[:2] for row in expected]
    for spend, (_, _, allowed) in zip(rows["spend"], expected, strict=True):
        assert (None if pd.isna(spend) else spend) in allowed
    fresh = world.fetch(afresh=True)
    pd.testing.assert_frame_equal(rows, rows_of(fresh), check_dtype=False)
    if len(rows):
        assert fetched.dataset.sha256 == fresh.dataset.sha256


# Around the edge of the window and its overlap more often than elsewhere, and now and then in the future.
hours_ago = st.one_of(st.integers(-30, 130), st.integers(22, 32))
# What can happen: (kind, key, hours between the event and now, spend)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(KEYS), hours_ago, st.integers(0, 3)),
        st.tuples(st.just("never stamped"), st.sampled_from(KEYS), st.integers(0, 130), st.integers(0, 3)),
        st.tuples(st.just("replicated"), st.sampled_from(KEYS), st.integers(0, 130), st.integers(0, 3)),
        st.tuples(st.just("correct"), st.sampled_from(KEYS), st.integers(-2, 2), st.integers(0, 3)),
        st.tuples(st.just("duplicate"), st.sampled_from(KEYS), st.just(0), st.just(0)),
        st.tuples(st.just("relabel"), st.sampled_from(KEYS), st.just(0), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.sampled_from(KEYS), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.sampled_from([0, 1, 5, 24, 30]), st.just(0)),
        st.tuples(st.just("fetch"), st.just(""), st.just(0), st.sampled_from([0, 1, 2])),
    ),
    min_size=4,
    max_size=25,
)


def play(world: World, history: list[tuple[str, str, int, int]]) -> None:
    """Let it happen, and compare every fetch with the rule and with a place that never fetched before."""
    for kind, key, hours, number in [*history, ("wait", "", 30, 0), ("fetch", "", 0, 2)]:
        if kind == "wait":
            world.now += timedelta(hours=hours)
        elif kind == "fetch":
            fetch_and_commit(world, number)
        else:
            change(world, kind, key, hours, float(number))


def fetch_and_commit(world: World, how: int) -> None:
    """Fetch and commit (2), after a crash that committed nothing (1), or crash for good (0)."""
    fetched = world.fetch()
    check(world, fetched)
    if how == 1:
        fetched = world.fetch()
        check(world, fetched)
    if how:
        world.commits += 1
        for _ in range(2):
            attempt = f"attempt-{world.commits}"
            commit_watermark.fn(world.spec, fetched, attempt, settings=world.settings)


def change(world: World, kind: str, key: str, hours: int, spend: float) -> None:
    """Change one key of the table."""
    mine = [row for row in world.versions if row.key == key]
    event = world.now - timedelta(hours=hours)
    if kind == "arrive":
        world.store(Row(key, event, world.now, spend))
    elif kind == "never stamped":
        world.store(Row(key, event, world.now if mine else None, spend))
    elif kind == "replicated":
        if not mine and not world.upsert:  # appears long after it says it was written
            world.store(Row(key, event, world.now - timedelta(hours=20), spend))
    elif not mine:
        return
    elif kind == "delete":
        if world.upsert:
            world.remove(key)
    elif kind == "duplicate":
        world.store(mine[-1])
    elif kind == "correct":
        moved = mine[-1].event + timedelta(hours=12 * hours)
        world.store(Row(key, moved, world.now, spend, mine[-1].churned))
    else:  # the label changes, the timestamp does not
        world.store(replace(mine[-1], written=world.now, churned=int(spend) % 2, spend=None))


EXAMPLES = int(os.environ.get("EVERGREEN_TEST_EXAMPLES", "4"))


def quiet(examples: int):
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return hypothesis_settings(
        max_examples=examples, deadline=None, suppress_health_check=checks, print_blob=False
    )


def run_on(
    engine: sa.Engine, types: str, spec: ModelSpec, place: Settings, history, *, upsert: bool, text: bool
) -> None:
    """Play one history on an empty table, as a model that nobody knows yet."""
    table = str(spec.source.table)
    spec = spec.model_copy(update={"name": f"m{uuid.uuid4().hex[:12]}"})
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
        connection.execute(
            sa.text(
                f"CREATE TABLE {table} (event_id TEXT, event_time {types}, updated_at {types}, "
                "tenure DOUBLE PRECISION, spend DOUBLE PRECISION, plan TEXT, region TEXT, churned INTEGER)"
            )
        )
    play(World(engine, table, spec, place, upsert=upsert, text=text), history)


@pytest.mark.parametrize("stamped", [True, False], ids=["with-updated", "without-updated"])
@pytest.mark.parametrize("upsert", [True, False], ids=["rows-replaced", "rows-appended"])
def test_any_history_of_a_sqlite_source_trains_on_what_one_full_fetch_gives(
    tmp_path: Path, settings: Settings, stamped: bool, upsert: bool
) -> None:
    url = f"sqlite:///{tmp_path / 'source.db'}"
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    spec = spec_of(url, "events", stamped=stamped)

    @quiet(EXAMPLES)
    @given(steps)
    def holds(history) -> None:
        run_on(engine, "TEXT", spec, settings, history, upsert=upsert, text=True)

    holds()


@pytest.mark.parametrize("stamped", [True, False], ids=["with-updated", "without-updated"])
@pytest.mark.parametrize("upsert", [True, False], ids=["rows-replaced", "rows-appended"])
def test_any_history_of_a_postgres_source_trains_on_what_one_full_fetch_gives(
    postgres_url: str, settings: Settings, stamped: bool, upsert: bool
) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    spec = spec_of(postgres_url, "events", stamped=stamped)

    @quiet(EXAMPLES)
    @given(steps)
    def holds(history) -> None:
        run_on(engine, "TIMESTAMPTZ", spec, settings, history, upsert=upsert, text=False)

    holds()


@pytest.mark.parametrize("stamped", [True, False], ids=["with-updated", "without-updated"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_row_overwritten_within_the_overlap_counts_as_it_stands_now(
    postgres_url: str, settings: Settings, stamped: bool, order: int
) -> None:
    """With the same times as before, so that only reading the stretch again can tell old from new."""
    engine = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    spec = spec_of(postgres_url, "events", stamped=stamped)
    history = [
        step
        for index, key in enumerate(KEYS[:3])
        for step in (
            ("arrive", key, 26, index),
            ("fetch", "", 0, 2),
            ("arrive", key, 26, index + order),
            ("fetch", "", 0, 2),
        )
    ]
    run_on(engine, "TIMESTAMPTZ", spec, settings, history, upsert=True, text=False)


def test_the_increments_say_what_they_cover(postgres_url: str, settings: Settings) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    spec = spec_of(postgres_url, "events", stamped=False)
    history = [("arrive", key, 40, 1) for key in KEYS]
    run_on(engine, "TIMESTAMPTZ", spec, settings, history, upsert=False, text=False)
    fetched = fetch_training.fn(spec, T0 + timedelta(hours=31), settings=settings)
    raw = json.loads((settings.root / "rows" / "churn" / fetched.increment / "increment.json").read_text())
    assert raw["column"] == "event_time"
    assert datetime.fromisoformat(raw["high"]) == fetched.dataset.window.end
    assert raw["checksum"].startswith("6:")
