"""The store is made once, whoever asks, and keeps times and numbers whole, on SQLite and Postgres."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import SpecError, WorkflowError
from tasks.settings import Settings
from tasks.store import checks, migrations, watermarks
from tasks.store import engine as engine_module
from tasks.store.engine import close_stores, insert_new, open_store, reading, writing
from tasks.store.schema import METADATA, REVISION, UtcDateTime, dump_json
from tests.stores import BOTH, fresh_url, place

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 1, 5, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a store that does not exist yet."""
    with fresh_url(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture(scope="module")
def one_place(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("one"))


def test_a_migrated_store_has_exactly_the_tables_of_the_schema(url: str, tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with open_store(place(url, tmp_path)).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_the_newest_migration_is_the_one_the_code_expects() -> None:
    assert migrations.head() == REVISION


def test_a_store_of_the_revision_before_keeps_what_it_holds(url: str, tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    engine = sa.create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        tables = sa.inspect(connection).get_table_names()
        connection.exec_driver_sql(
            "INSERT INTO checks (model, kind, window_start, window_end, revision, outcome, summary) VALUES "
            "('churn', 'drift', '2026-01-05 00:00:00', '2026-01-06 00:00:00', 1, 'ok', '{}')"
        )
    engine.dispose()
    assert "feature_checks" not in tables
    store = open_store(place(url, tmp_path))
    assert {"feature_checks", "profiles"} <= set(sa.inspect(store).get_table_names())
    assert [check.outcome for check in checks.recent(store, "churn", "drift", 5, T0)] == []
    assert len(checks.recent(store, "churn", "drift", 5, T0 + timedelta(days=3))) == 1


def test_an_open_store_is_the_same_engine_again(url: str, tmp_path: Path) -> None:
    assert open_store(place(url, tmp_path)) is open_store(place(url, tmp_path))


def test_six_processes_make_and_migrate_one_fresh_store(url: str, tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from datetime import datetime, UTC\n"
        "from pydantic import SecretStr\n"
        "from tasks.settings import Settings\n"
        "from tasks.store import engine, migrations, watermarks\n"
        "place = Settings(state_dir=Path(sys.argv[2]), store=SecretStr(sys.argv[1]))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "store = engine.open_store(place)\n"
        "watermarks.commit(store, 'm' + sys.argv[3], datetime(2026, 1, 1, tzinfo=UTC), [], 'first')\n"
        "engine.close_stores()\n"
    )
    command = [sys.executable, "-c", script, url, str(tmp_path / "state")]
    racers = [
        subprocess.Popen(
            [*command, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for racer in racers:
        assert racer.stdout and racer.stdout.readline() == "ready\n"
    for racer in racers:  # all are loaded and wait: now they start within a millisecond
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    faults = [racer.communicate(timeout=60)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 6, faults
    store = open_store(place(url, tmp_path))
    assert all(watermarks.get(store, f"m{number}") for number in range(6))


def test_a_migration_that_breaks_off_leaves_nothing_behind(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_way(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (x INTEGER)")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(migrations, "upgrade", half_way)
        open_store(place(url, tmp_path))
    tables = sa.inspect(open_store(place(url, tmp_path))).get_table_names()
    assert set(tables) == {*METADATA.tables, "alembic_version"}


def test_a_store_of_a_newer_version_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    with open_store(place(url, tmp_path)).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    close_stores()
    with pytest.raises(SpecError, match="update the code"):
        open_store(place(url, tmp_path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://user:hunter2@db/x", "mysql"),
        ("nonsense", "not a URL"),
    ],
)
def test_a_store_other_processes_cannot_share_is_refused(wrong: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        open_store(place(wrong, tmp_path))
    assert "hunter2" not in str(caught.value)


def test_an_unreachable_postgres_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=r"postgresql at 127\.0\.0\.1") as caught:
        open_store(place("postgresql://evergreen:hunter2@127.0.0.1:1/store", tmp_path))
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database, " * 64)
    with pytest.raises(WorkflowError, match="file is not a database"):
        open_store(place(f"sqlite:///{tmp_path / 'store.db'}", tmp_path))


def test_a_place_that_cannot_hold_a_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=r"store on sqlite at .* unusable: unable to open"):
        open_store(place(f"sqlite:///{tmp_path}", tmp_path))


def test_moments_come_back_in_utc_to_the_microsecond(url: str, tmp_path: Path) -> None:
    store = open_store(place(url, tmp_path))
    east = T0.astimezone(timezone(timedelta(hours=5, minutes=30)))
    watermarks.commit(store, "m", east, ["a"], "first")
    found = watermarks.get(store, "m")
    assert found is not None
    assert (found.moment, found.moment.utcoffset()) == (T0, timedelta(0))


def test_moments_are_ordered_by_time_and_not_by_their_text(url: str, tmp_path: Path) -> None:
    table = sa.Table("moments", sa.MetaData(), sa.Column("at", UtcDateTime))
    moments = [
        T0.replace(microsecond=0),
        T0,
        T0.astimezone(timezone(timedelta(hours=-9))) + timedelta(hours=1),
    ]
    store = open_store(place(url, tmp_path))
    table.create(store)
    with writing(store) as connection:
        connection.execute(table.insert(), [{"at": moment} for moment in reversed(moments)])
        assert connection.execute(sa.select(table.c.at).order_by(table.c.at)).scalars().all() == moments
        later = sa.select(table.c.at).where(table.c.at > T0.replace(microsecond=0))
        assert set(connection.execute(later).scalars()) == set(moments[1:])


def test_a_naive_moment_is_refused_by_the_column_itself(url: str, tmp_path: Path) -> None:
    store = open_store(place(url, tmp_path))
    row = {"model": "m", "attempt": "a", "moment": datetime(2026, 1, 1), "increments": []}  # noqa: DTZ001
    with pytest.raises(sa.exc.StatementError, match="aware"), writing(store) as connection:
        connection.execute(METADATA.tables["watermarks"].insert(), row)


def test_what_is_not_finite_or_not_known_to_json_is_stored_as_plain_values() -> None:
    value = {
        "nan": float("nan"),
        "inf": np.float64("inf"),
        "numbers": np.array([1, 2]),
        "missing": pd.NA,
        "never": pd.NaT,
        "moment": T0,
        "flag": np.bool_(True),
        3: {"b", "a"},
    }
    assert dump_json(value) == (
        '{"3":["a","b"],"flag":true,"inf":null,"missing":null,"moment":"2026-01-05T12:30:15.123456+00:00",'
        '"nan":null,"never":null,"numbers":[1,2]}'
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200)
def test_every_finite_float_survives_json_bit_for_bit(number: float) -> None:
    import json

    assert json.loads(dump_json([number])) == [number]


def test_inserting_what_is_there_counts_only_what_is_new(url: str, tmp_path: Path) -> None:
    store = open_store(place(url, tmp_path))
    table = METADATA.tables["watermarks"]
    rows = [{"model": "m", "attempt": str(n), "moment": T0, "increments": []} for n in range(5)]
    with writing(store) as connection:
        assert insert_new(connection, table, rows[:3]) == 3
        assert insert_new(connection, table, rows) == 2
        assert insert_new(connection, table, []) == 0


def test_a_failed_write_keeps_nothing_of_its_block(url: str, tmp_path: Path) -> None:
    store = open_store(place(url, tmp_path))
    table = METADATA.tables["watermarks"]
    with pytest.raises(ZeroDivisionError), writing(store) as connection:
        connection.execute(table.insert(), {"model": "m", "attempt": "a", "moment": T0, "increments": []})
        _ = 1 / 0
    assert watermarks.get(store, "m") is None


def test_a_reader_and_a_writer_never_wait_for_each_other(url: str, tmp_path: Path) -> None:
    store = open_store(place(url, tmp_path))
    count = "SELECT count(*) FROM watermarks"
    with reading(store) as reader:
        assert reader.exec_driver_sql(count).scalar() == 0
        # Without write-ahead logging this commit would wait for the reader, and so for ever.
        watermarks.commit(store, "m", T0, [], "a")
        with writing(store), reading(store) as other:
            assert other.exec_driver_sql(count).scalar() == 1


@dataclass(frozen=True)
class Step:
    """A commit some attempt makes, in the order it arrives."""

    attempt: int
    hours: int


@given(st.lists(st.builds(Step, st.integers(0, 4), st.integers(0, 5)), max_size=12))
@settings(max_examples=30, deadline=None)
def test_a_watermark_never_moves_back_and_counts_an_attempt_once(
    one_place: Settings, steps: list[Step]
) -> None:
    store, model = open_store(one_place), uuid4().hex
    expected: tuple[int, int] | None = None  # hours, index of the commit that stands
    seen: set[int] = set()
    for index, step in enumerate(steps):
        watermarks.commit(store, model, T0 + timedelta(hours=step.hours), [str(index)], str(step.attempt))
        if step.attempt not in seen and (expected is None or step.hours >= expected[0]):
            expected = (step.hours, index)
            seen.add(step.attempt)
        stands = watermarks.get(store, model)
        assert stands is not None and expected is not None
        assert stands.moment == T0 + timedelta(hours=expected[0])
        assert stands.increments == [str(expected[1])]


def test_a_file_that_another_process_is_switching_is_waited_for_and_any_other_fault_is_not() -> None:
    class Cursor:
        def __init__(self, faults: list[str]):
            self.faults = faults

        def execute(self, statement: str) -> None:
            assert statement == "PRAGMA journal_mode=WAL"
            if self.faults:
                raise sqlite3.OperationalError(self.faults.pop(0))

    def switched(*faults: str) -> list[str]:
        left = list(faults)
        made = SimpleNamespace(cursor=lambda: Cursor(left), close=lambda: None)
        engine_module._keep_a_log(SimpleNamespace(raw_connection=lambda: made))
        return left

    assert switched("database is locked", "database is locked") == []
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        switched("disk I/O error")
