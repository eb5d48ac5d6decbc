"""Old predictions move to files and stay readable: whatever dies, none is lost and none is twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from tasks.compact import compact_log, kept_from
from tasks.core.errors import StoreError
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import partition_files, partitions, predictions
from tasks.store.engine import open_store, reading, writing
from tasks.store.partitions import of_window, read_log
from tasks.store.recorded import insert_predictions
from tasks.store.schema import predictions as table
from tests.make import make_spec
from tests.stores import BOTH, fresh_url, place

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=60, hours=5)
EVER = Window(START.replace(year=2000), START.replace(year=2999))
SPEC = make_spec(
    serving={"keep": "40d", "keep_files": None},
    window={"training": "28d", "check": "1d"},
    label={"column": "churned", "maturity": "2d"},
)
UNTIL = START + timedelta(days=20)


@pytest.fixture(params=BOTH)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with fresh_url(request.param, request, tmp_path) as url:
        yield place(url, tmp_path)


def row(number: int, moment: datetime, **over: Any) -> dict[str, Any]:
    return {
        "model": SPEC.name, "prediction_id": f"p{number:04}", "version": 1 + number % 2,
        "row_key": f"k{number}", "event_time": moment,
        "served_at": moment + timedelta(seconds=1), "prediction": number % 2 == 0,
        "score": None if number % 7 == 0 else [0.1 + number / 1e4, 0.2], "route": None,
        "inputs": None if number % 5 == 0 else {"plan": "prö", "spend": number / 3},
        "latency_ms": None if number % 3 == 0 else 1.5, **over,
    }  # fmt: skip


def fill(settings: Settings, *, days: int = 60, per_day: int = 4) -> pd.DataFrame:
    """Log some predictions a day and return the whole log."""
    step = timedelta(days=1) / per_day
    rows = [row(number, START + number * step) for number in range(days * per_day)]
    rows.append(row(9_999, START, model="other"))
    with writing(open_store(settings)) as connection:
        insert_predictions(connection, rows)
    return log_of(settings)


def log_of(settings: Settings, window: Window = EVER) -> pd.DataFrame:
    return read_log(open_store(settings), SPEC.name, window, settings=settings, with_inputs=True)


def in_database(settings: Settings, model: str = SPEC.name) -> int:
    with reading(open_store(settings)) as connection:
        query = sa.select(sa.func.count()).where(table.c.model == model)
        return int(connection.execute(query).scalar_one())


def compact(settings: Settings, spec: Any = SPEC, *, as_of: datetime = NOW, dry_run: bool = False) -> Any:
    return compact_log.fn(spec, as_of=as_of, dry_run=dry_run, settings=settings)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_old_days_move_whole_and_the_log_reads_as_before(here: Settings) -> None:
    before = fill(here)
    plain = predictions.read(open_store(here), SPEC.name, EVER, with_inputs=True)
    same(before[plain.columns], plain)
    dry = compact(here, dry_run=True)
    assert (dry.rows, dry.days, dry.is_dry, in_database(here)) == (80, 20, True, 240)
    assert "would move 80 predictions of 20 days before 2026-01-21" in dry.sentence()
    done = compact(here)
    assert (done.rows, done.days, len(done.files), done.until) == (80, 20, 20, UNTIL)
    assert done.files[0] == "predictions/churn/day=2026-01-01/part-0.parquet"
    assert (Path(here.artifact_root) / done.files[0]).is_file()
    assert (in_database(here), in_database(here, "other")) == (160, 1)
    same(log_of(here), before)
    edge = Window(START + timedelta(days=2, hours=7), START + timedelta(days=21, hours=1))
    inside = before[(before["event_time"] >= edge.start) & (before["event_time"] < edge.end)]
    same(log_of(here, edge), inside.reset_index(drop=True))
    assert compact(here).rows == 0
    assert {(one.state, one.part) for one in of_window(open_store(here), SPEC.name)} == {("moved", 0)}


def test_late_rows_of_a_moved_day_become_a_further_part_and_rows_that_come_again_are_no_doubles(
    here: Settings,
) -> None:
    before = fill(here)
    compact(here)
    late = row(5_000, START + timedelta(days=3, hours=1))
    again = row(12, START + timedelta(days=3), prediction="other")
    with writing(open_store(here)) as connection:
        insert_predictions(connection, [late, again])
    expected = log_of(here)
    assert len(expected) == len(before) + 1
    assert expected.set_index("prediction_id").loc["p0012", "prediction"] is True  # the first one stays
    done = compact(here)
    assert (done.rows, done.files, done.doubles) == (
        1,
        ("predictions/churn/day=2026-01-04/part-1.parquet",),
        1,
    )
    assert in_database(here) == 160
    same(log_of(here), expected)


class Died(BaseException):
    """Stands for kill -9: nothing that handles errors handles it."""


def _steps() -> list[tuple[Any, str]]:
    return [
        (partitions, "_write"),
        (partitions, "keep"),
        (partitions, "check"),
        (partitions, "_delete"),
        (partitions, "ids_in"),
        (partitions, "write_part"),
        (partitions, "move_out"),
        (partitions, "remove_doubles"),
        (partition_files, "_copy"),
    ]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_at_any_step_and_another_run_end_as_one_run_does(
    here: Settings, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    spec = SPEC.model_copy(update={"serving": SPEC.serving.model_copy(update={"keep": "57d"})})
    before = fill(here)
    for module, name in _steps():
        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying(getattr(module, name), when))
            as_of = NOW + timedelta(days=3)
            with pytest.raises(Died):
                compact(here, spec, as_of=as_of)
        same(log_of(here), before)
        spec = spec.model_copy(update={"serving": spec.serving.model_copy(update={"keep": "56d"})})
    compact(here, spec, as_of=NOW + timedelta(days=3))
    same(log_of(here), before)
    parts = of_window(open_store(here), SPEC.name)
    assert {one.state for one in parts} == {"moved"}
    assert sum(one.rows for one in parts) + in_database(here) == len(before)
    assert len({(one.window, one.part) for one in parts}) == len(parts)
    files = sorted(Path(here.artifact_root, "predictions").rglob("*.parquet"))
    assert len(files) == len(parts)


def dying(step: Callable[..., Any], when: str) -> Callable[..., Any]:
    def died(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            step(*args, **kwargs)
        raise Died

    return died


def test_a_file_that_is_not_what_was_written_removes_nothing_and_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(settings, days=25)
    real = partitions.keep

    def torn(draft: Path, *args: Any, **kwargs: Any) -> None:
        draft.write_bytes(draft.read_bytes()[:-1])
        real(draft, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(partitions, "keep", torn)
        with pytest.raises(StoreError, match="another digest"):
            compact(settings)
    assert in_database(settings) == 100
    done = compact(settings)
    assert done.rows == 80
    path = Path(settings.artifact_root) / done.files[3]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="another digest"):
        log_of(settings)
    path.unlink()
    with pytest.raises(StoreError, match="FileNotFoundError"):
        log_of(settings)


def test_a_noted_file_that_is_gone_before_its_rows_were_removed_is_written_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(settings)
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "move_out", dying(partitions.move_out, "before"))
        with pytest.raises(Died):
            compact(settings)
    (one,) = of_window(open_store(settings), SPEC.name)
    assert one.state == "written"
    Path(settings.artifact_root, one.path).unlink()
    assert compact(settings).rows == 80
    same(log_of(settings), before)


def test_files_that_are_too_old_are_dropped_and_their_number_stays_noted(settings: Settings) -> None:
    spec = make_spec(serving={"keep": "40d", "keep_files": "50d"}, window={"training": "28d", "check": "1d"})
    fill(settings)
    dry = compact(settings, SPEC)
    assert dry.dropped_files == 0
    done = compact(settings, spec)
    assert (done.dropped_files, done.dropped_rows) == (10, 40)
    assert "dropped 10 files with 40 predictions" in done.sentence()
    log = log_of(settings)
    assert (len(log), log.attrs["dropped"]) == (200, 40)
    assert log["event_time"].min() == START + timedelta(days=10)
    assert len(list(Path(settings.artifact_root).rglob("*.parquet"))) == 10
    again = compact(settings, spec)
    assert (again.dropped_files, again.dropped_rows) == (0, 0)


def test_what_checks_and_late_labels_may_need_stays_whatever_keep_says(settings: Settings) -> None:
    spec = make_spec(serving={"keep": "1d"}, window={"training": "28d", "check": "1d"})
    assert kept_from(spec, NOW) == (NOW - timedelta(days=3 + 30 + 2)).replace(hour=0)
    fill(settings)
    compact(settings, spec)
    assert log_of(settings)["prediction_id"].is_unique
    kept = predictions.read(open_store(settings), SPEC.name, EVER)
    assert kept["event_time"].min() == kept_from(spec, NOW)
    assert kept_from(make_spec(serving={"keep": "99999999w"}), NOW).year == 1


def test_without_keep_nothing_moves(settings: Settings) -> None:
    fill(settings, days=3)
    done = compact(settings, make_spec())
    assert done.rows == 0
    assert "not set" in done.sentence()


def test_on_s3_it_is_the_same(tmp_path: Path, s3_bucket: str) -> None:
    settings = Settings(
        state_dir=tmp_path / "state",
        store=SecretStr(f"sqlite:///{tmp_path / 'store.db'}"),
        artifacts=f"s3://{s3_bucket}/root",
    )
    spec = make_spec(serving={"keep": "40d", "keep_files": "42d"}, window={"training": "28d", "check": "1d"})
    before, early = fill(settings, days=5), NOW - timedelta(days=17)
    assert compact(settings, as_of=early).rows == 12
    same(log_of(settings), before)
    assert compact(settings, spec, as_of=early).dropped_rows == 4
    assert len(log_of(settings)) == len(before) - 4
