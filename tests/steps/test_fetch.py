"""What a fetch brings, from real databases, real S3 and a real web server."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.fetch import commit_watermark, fetch_labels, fetch_training, fetch_window
from tasks.settings import Settings
from tasks.sources import selection
from tasks.store import watermarks
from tasks.store.engine import open_store
from tests import make
from tests.make import START, make_frame, spec_block
from tests.services import WebServer, answer

AS_OF = START + timedelta(days=30)  # maturity 2d and a training window of 28d: exactly make_frame's rows


def make_spec(**over: object) -> ModelSpec:
    """Return a spec whose rows are those of the training window alone."""
    return make.make_spec(**{"window": {"training": "28d", "check": "7d", "rows": "sliding"}, **over})


def spec_for(url: str, **source):
    block = {**spec_block()["source"], "url": url, **source}
    if "://" not in url or url.startswith(("s3://", "http")):
        block.pop("table")
    return make_spec(source=block)


def into_sqlite(path: Path, frame: pd.DataFrame, *, mode: str = "replace") -> str:
    url = f"sqlite:///{path}"
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    stored = frame.assign(event_time=frame["event_time"].map(lambda moment: moment.isoformat()))
    stored.to_sql("customer_events", engine, index=False, if_exists=mode)
    return url


def into_postgres(url: str, frame: pd.DataFrame) -> None:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    frame.to_sql("customer_events", engine, index=False, if_exists="replace")


def rows_of(dataset) -> pd.DataFrame:
    return pd.read_parquet(dataset.path)


def sorted_like_a_dataset(frame: pd.DataFrame) -> pd.DataFrame:
    columns = make_spec().columns
    return frame.sort_values(["event_time", "event_id"])[columns].reset_index(drop=True)


def assert_same_rows(dataset, frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(rows_of(dataset), sorted_like_a_dataset(frame), check_dtype=False)


# --- every kind of source brings the same rows ---------------------------------------------------------


def test_sqlite_brings_the_training_window_and_nothing_else(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(500, days=40, start=START - timedelta(days=5)).sample(frac=1, random_state=1)
    fetched = fetch_training.fn(spec_for(into_sqlite(tmp_path / "a.db", frame)), AS_OF, settings=settings)
    inside = frame["event_time"].between(START, START + timedelta(days=28), inclusive="left")
    assert_same_rows(fetched.dataset, frame[inside])
    assert fetched.dataset.window == Window(START, START + timedelta(days=28))
    assert fetched.future_rows == int((frame["event_time"] > AS_OF).sum()) > 0
    assert fetched.new_rows == int(inside.sum())


def test_postgres_brings_the_training_window_and_nothing_else(postgres_url: str, settings: Settings) -> None:
    frame = make_frame(500, days=40, start=START - timedelta(days=5)).sample(frac=1, random_state=1)
    into_postgres(postgres_url, frame)
    fetched = fetch_training.fn(spec_for(postgres_url), AS_OF, settings=settings)
    inside = frame["event_time"].between(START, START + timedelta(days=28), inclusive="left")
    assert_same_rows(fetched.dataset, frame[inside])
    assert fetched.future_rows == int((frame["event_time"] > AS_OF).sum()) > 0


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_a_file_and_a_glob_bring_the_same_rows(tmp_path: Path, settings: Settings, ending: str) -> None:
    frame = make_frame(300)
    for index, part in enumerate((frame.iloc[200:], frame.iloc[:100], frame.iloc[100:200])):
        path = tmp_path / f"part-{index}.{ending}"
        part.to_parquet(path) if ending == "parquet" else part.to_csv(path, index=False)
    whole = tmp_path / f"whole.{ending}"
    frame.to_parquet(whole) if ending == "parquet" else frame.to_csv(whole, index=False)
    (tmp_path / "notes.txt").write_text("not data")
    one = fetch_training.fn(spec_for(str(whole)), AS_OF, settings=settings).dataset
    many = fetch_training.fn(spec_for(f"{tmp_path}/part-*.{ending}"), AS_OF, settings=settings).dataset
    assert_same_rows(one, frame)
    assert one.sha256 == many.sha256


def test_s3_brings_one_object_and_a_glob_below_folders(
    s3_bucket: str, s3_endpoint: str, settings: Settings
) -> None:
    from pyarrow import fs

    frame = make_frame(300)
    s3 = fs.S3FileSystem(endpoint_override=s3_endpoint, region="us-east-1")
    for index in range(3):
        part = pa.Table.from_pandas(frame.iloc[index * 100 : (index + 1) * 100], preserve_index=False)
        pq.write_table(part, f"{s3_bucket}/year=2026/month={index}/rows.parquet", filesystem=s3)
    url = f"s3://{s3_bucket}/**/*.parquet"
    assert_same_rows(fetch_training.fn(spec_for(url), AS_OF, settings=settings).dataset, frame)
    folder = f"s3://{s3_bucket}/year=2026"
    assert_same_rows(fetch_training.fn(spec_for(folder), AS_OF, settings=settings).dataset, frame)
    one = f"s3://{s3_bucket}/year=2026/month=1/rows.parquet"
    assert_same_rows(fetch_training.fn(spec_for(one), AS_OF, settings=settings).dataset, frame.iloc[100:200])


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_the_web_brings_a_file_and_leaves_no_download_behind(
    web_server: WebServer, tmp_path: Path, settings: Settings, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_TOKEN", "abc")
    frame = make_frame(200)
    path = tmp_path / f"rows.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path, index=False)
    web_server.serve(answer(path.read_bytes()))
    spec = spec_for(f"{web_server.url}/data/rows.{ending}?token=${{WEB_TOKEN}}")
    assert_same_rows(fetch_training.fn(spec, AS_OF, settings=settings).dataset, frame)
    assert web_server.asked == [f"/data/rows.{ending}?token=abc"]
    assert list((settings.root / "work" / "downloads").iterdir()) == []


def test_a_query_runs_with_its_parameters_bound(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(200)
    url = into_sqlite(tmp_path / "a.db", frame)
    source = {**spec_block()["source"], "url": url, "parameters": {"plan": "pro'; DROP TABLE x; --"}}
    source |= {"table": None, "query": "SELECT * FROM customer_events WHERE plan <> :plan;"}
    assert_same_rows(fetch_training.fn(make_spec(source=source), AS_OF, settings=settings).dataset, frame)
    source["parameters"] = {"plan": "pro"}
    fetched = fetch_training.fn(make_spec(source=source), AS_OF, settings=settings)
    assert_same_rows(fetched.dataset, frame[frame["plan"] != "pro"])


def test_only_the_needed_columns_and_rows_are_read(postgres_url: str, settings: Settings) -> None:
    into_postgres(postgres_url, make_frame(50).assign(unwanted="x"))
    statements: list[str] = []

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def remember(_c, _cursor, statement, _p, _context, _many) -> None:
        statements.append(statement)

    try:
        fetched = fetch_training.fn(spec_for(postgres_url), AS_OF, settings=settings)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", remember)
    reads = [
        text for text in statements if "customer_events" in text and "tenure" in text and "count" not in text
    ]
    assert len(reads) == 1
    assert "unwanted" not in reads[0]
    assert "event_time >=" in reads[0]
    assert "event_time <" in reads[0]
    assert "2026" not in reads[0], "bounds travel as parameters"
    assert "unwanted" in fetched.dataset.columns


# --- the dataset ---------------------------------------------------------------------------------------


def test_the_digest_is_that_of_the_file_and_the_same_for_the_same_rows(
    tmp_path: Path, settings: Settings
) -> None:
    frame = make_frame(100)
    spec = spec_for(into_sqlite(tmp_path / "a.db", frame))
    first = fetch_training.fn(spec, AS_OF, settings=settings).dataset
    into_sqlite(tmp_path / "a.db", frame.sample(frac=1, random_state=3))
    second = fetch_training.fn(spec, AS_OF, settings=settings).dataset
    assert first.sha256 == second.sha256 == hashlib.sha256(Path(first.path).read_bytes()).hexdigest()
    assert first.rows == 100


def test_a_column_renamed_in_one_file_is_named_and_null_there(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(200)
    frame.iloc[:100].to_parquet(tmp_path / "a.parquet")
    frame.iloc[100:].rename(columns={"spend": "spend_usd"}).to_parquet(tmp_path / "b.parquet")
    dataset = fetch_training.fn(spec_for(f"{tmp_path}/*.parquet"), AS_OF, settings=settings).dataset
    assert dataset.missing == ("spend",)
    assert "spend_usd" in dataset.columns
    assert rows_of(dataset)["spend"].isna().sum() == 100
    # a window that the broken file has no rows in does not care
    first = fetch_window.fn(
        spec_for(f"{tmp_path}/*.parquet"), Window(START, START + timedelta(days=7)), AS_OF, settings=settings
    )
    assert first.missing == ()


def test_a_column_no_file_has_is_named_and_absent(tmp_path: Path, settings: Settings) -> None:
    make_frame(50).drop(columns=["spend", "churned"]).to_csv(tmp_path / "a.csv", index=False)
    dataset = fetch_training.fn(spec_for(f"{tmp_path}/a.csv"), AS_OF, settings=settings).dataset
    assert dataset.missing == ("churned", "spend")
    assert not {"churned", "spend"} & set(rows_of(dataset).columns)
    assert dataset.rows == 50


def test_a_changed_type_comes_through_as_text_for_the_contract(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(20)
    frame.iloc[:10].to_parquet(tmp_path / "a.parquet")
    frame.iloc[10:].assign(spend="cheap").to_parquet(tmp_path / "b.parquet")
    rows = rows_of(fetch_training.fn(spec_for(f"{tmp_path}/*.parquet"), AS_OF, settings=settings).dataset)
    assert rows["spend"].tolist()[10:] == ["cheap"] * 10
    assert [float(value) for value in rows["spend"][:10]] == pytest.approx(frame["spend"][:10].tolist())


def test_text_in_a_csv_keeps_its_zeros_and_na_is_a_category(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(4).assign(
        event_id=["001", "002", "003", "004"], region=["NA", "north", "", "007"], spend=["1", "NA", "", "2.5"]
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    rows = rows_of(fetch_training.fn(spec_for(f"{tmp_path}/a.csv"), AS_OF, settings=settings).dataset)
    assert rows["event_id"].tolist() == ["001", "002", "003", "004"]
    assert rows["region"].tolist() == ["NA", "north", None, "007"]
    assert rows["spend"].fillna(-1).tolist() == [1.0, -1.0, -1.0, 2.5]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "parquet", "csv"])
def test_an_empty_source_gives_an_empty_dataset_with_its_columns(
    kind: str, tmp_path: Path, postgres_url: str, settings: Settings
) -> None:
    frame = make_frame(3).head(0)
    if kind == "postgres":
        url = postgres_url
        into_postgres(url, frame)
    elif kind == "sqlite":
        url = into_sqlite(tmp_path / "a.db", frame)
    else:
        url = str(tmp_path / f"a.{kind}")
        frame.to_parquet(url) if kind == "parquet" else frame.to_csv(url, index=False)
    fetched = fetch_training.fn(spec_for(url), AS_OF, settings=settings)
    assert (fetched.dataset.rows, fetched.new_rows, fetched.dataset.missing) == (0, 0, ())
    assert list(rows_of(fetched.dataset).columns) == make_spec().columns
    assert set(fetched.dataset.columns) == set(frame.columns)


def test_duplicates_corrections_and_undated_rows_are_counted(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(10)
    again = frame.iloc[[1, 1, 2]]
    corrected = frame.iloc[[5]].assign(spend=999.0, event_time=frame["event_time"].iloc[6])
    undated = frame.iloc[[7]].assign(event_id="x", event_time=pd.NaT)
    path = tmp_path / "a.parquet"
    pd.concat([frame, again, corrected, undated]).to_parquet(path)
    fetched = fetch_training.fn(spec_for(str(path)), AS_OF, settings=settings)
    assert (fetched.duplicates, fetched.corrections, fetched.undated_rows) == (3, 1, 1)
    rows = rows_of(fetched.dataset).set_index("event_id")
    assert rows.loc[frame["event_id"].iloc[5], "spend"] == 999.0
    assert len(rows) == 10


# --- watermark, increments, late rows ------------------------------------------------------------------


def test_the_second_fetch_reads_only_what_is_new_and_counts_late_rows(
    postgres_url: str, settings: Settings
) -> None:
    spec = spec_for(postgres_url)
    frame = make_frame(2800, days=56)
    early = frame[frame["event_time"] < AS_OF]
    into_postgres(postgres_url, early)
    first = fetch_training.fn(spec, AS_OF, settings=settings)
    assert (first.watermark, first.next_watermark) == (None, START + timedelta(days=28))
    commit_watermark.fn(spec, first, "one", settings=settings)

    late = frame.iloc[[1390]].assign(event_id="late")  # 5 hours before the watermark: within the overlap
    into_postgres(postgres_url, pd.concat([frame, late]))
    second = fetch_training.fn(spec, AS_OF + timedelta(days=7), settings=settings)
    assert second.watermark == first.next_watermark
    assert second.increments == (*first.increments, second.increment)
    read = pq.ParquetFile(settings.root / "rows" / "churn" / second.increment / "part-0000.parquet")
    assert read.metadata.num_rows == 50 * 8 + 1, "seven days, and the day of overlap"
    assert (second.late_rows, second.new_rows) == (1, 50 * 7 + 1)
    assert second.dataset.rows == 1401


def test_a_row_later_than_the_overlap_makes_the_window_be_read_again(
    postgres_url: str, settings: Settings
) -> None:
    spec = spec_for(postgres_url)
    frame = make_frame(560, days=56)
    into_postgres(postgres_url, frame)
    commit_watermark.fn(spec, fetch_training.fn(spec, AS_OF, settings=settings), "one", settings=settings)
    late = frame.iloc[[200]].assign(event_id="late")
    into_postgres(postgres_url, pd.concat([frame, late]))
    second = fetch_training.fn(spec, AS_OF + timedelta(days=7), settings=settings)
    assert "late" in set(rows_of(second.dataset)["event_id"])
    assert second.increments == (second.increment,)
    assert second.late_rows == 1


def test_nothing_moves_before_the_commit_and_a_second_commit_changes_nothing(
    postgres_url: str, settings: Settings
) -> None:
    spec = spec_for(postgres_url)
    into_postgres(postgres_url, make_frame(100))
    fetched = fetch_training.fn(spec, AS_OF, settings=settings)
    assert watermarks.get(open_store(settings), "churn") is None
    garbage = fetch_training.fn(spec, AS_OF, settings=settings)
    commit_watermark.fn(spec, fetched, "one", settings=settings)
    commit_watermark.fn(spec, garbage, "one", settings=settings)
    assert watermarks.get(open_store(settings), "churn").increments == [fetched.increment]
    assert [path.name for path in (settings.root / "rows" / "churn").iterdir()] == [fetched.increment]


@pytest.mark.parametrize("loss", ["increments gone", "columns changed", "query changed"])
def test_increments_that_are_gone_or_of_another_spec_are_not_used(
    postgres_url: str, settings: Settings, loss: str, tmp_path: Path
) -> None:
    spec = spec_for(postgres_url)
    frame = make_frame(560, days=56)
    into_postgres(postgres_url, frame)
    commit_watermark.fn(spec, fetch_training.fn(spec, AS_OF, settings=settings), "one", settings=settings)
    place = settings
    if loss == "increments gone":
        (settings.root / "rows").rename(tmp_path / "elsewhere")
    elif loss == "columns changed":
        features = {"numeric": ["tenure"], "categorical": ["plan"]}
        spec = spec.model_copy(update={"features": spec.features.model_copy(update=features)})
    else:
        query = "SELECT * FROM customer_events WHERE plan = 'pro'"
        frame = frame[frame["plan"] == "pro"]
        source = spec.source.model_copy(update={"table": None, "query": query})
        spec = spec.model_copy(update={"source": source})
    second = fetch_training.fn(spec, AS_OF + timedelta(days=7), settings=place)
    inside = frame["event_time"].between(
        START + timedelta(days=7), START + timedelta(days=35), inclusive="left"
    )
    assert second.increments == (second.increment,)
    assert second.dataset.rows == int(inside.sum())
    assert list(rows_of(second.dataset).columns) == spec.columns


@pytest.mark.parametrize("change", ["longer window", "earlier as_of"])
def test_a_window_that_starts_before_the_increments_is_read_whole(
    postgres_url: str, settings: Settings, change: str
) -> None:
    frame = make_frame(560, days=56)
    into_postgres(postgres_url, frame)
    spec = spec_for(postgres_url)
    late, early = AS_OF + timedelta(days=14), AS_OF + timedelta(days=7)
    commit_watermark.fn(spec, fetch_training.fn(spec, late, settings=settings), "one", settings=settings)
    as_of, days = (late, 42) if change == "longer window" else (early, 28)
    spec = spec.model_copy(update={"window": spec.window.model_copy(update={"training": f"{days}d"})})
    fetched = fetch_training.fn(spec, as_of, settings=settings)
    assert fetched.dataset.rows == days * 10
    commit_watermark.fn(spec, fetched, "two", settings=settings)
    again = fetch_training.fn(spec, late, settings=settings)
    assert again.dataset.rows == days * 10


def test_after_many_increments_one_whole_fetch_replaces_them(
    postgres_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_INCREMENTS", 3)
    spec = spec_for(postgres_url)
    into_postgres(postgres_url, make_frame(560, days=56))
    held = []
    for day in range(5):
        fetched = fetch_training.fn(spec, AS_OF + timedelta(days=day), settings=settings)
        commit_watermark.fn(spec, fetched, f"attempt-{day}", settings=settings)
        held.append(len(fetched.increments))
    assert held == [1, 2, 3, 1, 2]
    assert len(list((settings.root / "rows" / "churn").iterdir())) == 2


# --- windows for checks, and labels --------------------------------------------------------------------


def test_a_window_holds_what_was_known_then(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(280).assign(updated_at=lambda rows: rows["event_time"] + timedelta(hours=1))
    relabelled = frame.iloc[:10].assign(churned=9, updated_at=START + timedelta(days=9))
    path = tmp_path / "a.parquet"
    pd.concat([frame, relabelled]).to_parquet(path)
    spec = spec_for(str(path), updated="updated_at")
    window = Window(START, START + timedelta(days=7))
    then = rows_of(fetch_window.fn(spec, window, START + timedelta(days=8), settings=settings))
    now = rows_of(fetch_window.fn(spec, window, START + timedelta(days=9), settings=settings))
    assert (len(then), len(now)) == (70, 70)
    assert (then["churned"] == 9).sum() == 0
    assert (now["churned"] == 9).sum() == 10


def test_labels_come_when_they_are_mature_and_there(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(280)
    frame["churned"] = frame["churned"].astype("Int64")
    frame.loc[:4, "churned"] = pd.NA
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    window = Window(START, START + timedelta(days=7))
    labels = fetch_labels.fn(spec_for(str(path)), window, START + timedelta(days=4), settings=settings)
    rows = rows_of(labels)
    assert list(rows.columns) == ["event_id", "event_time", "churned"]
    assert rows["event_time"].max() == pd.Timestamp(START + timedelta(days=2)), "mature at the very moment"
    assert len(rows) == 21 - 5
    assert labels.window == window
    none = fetch_labels.fn(spec_for(str(path)), window, START + timedelta(days=1), settings=settings)
    assert (none.rows, none.missing) == (0, ())


def test_a_source_without_labels_yet_gives_none_and_says_so(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "a.parquet"
    make_frame(28).drop(columns="churned").to_parquet(path)
    window = Window(START, START + timedelta(days=7))
    labels = fetch_labels.fn(spec_for(str(path)), window, AS_OF, settings=settings)
    assert (labels.rows, labels.missing) == (0, ("churned",))
    dataset = fetch_window.fn(spec_for(str(path)), window, AS_OF, settings=settings)
    assert (dataset.rows, dataset.missing) == (7, ("churned",))


def test_times_are_the_same_however_the_source_keeps_them(tmp_path: Path, settings: Settings) -> None:
    """Naive local times, texts with offsets, dates with a zone: one set of moments."""
    moments = pd.date_range(
        datetime(2026, 3, 28, tzinfo=UTC), periods=60, freq="h"
    )  # clocks change on the 29th
    frame = make_frame(60).assign(event_time=moments)
    local = moments.tz_convert("Europe/Oslo")
    kept = {
        "aware": moments,
        "naive": local.tz_localize(None),
        "offset": [moment.isoformat() for moment in local],
        "zulu": [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments],
        "short": [moment.strftime("%Y-%m-%d %H:%M+00") for moment in moments],
    }
    window = Window(datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 3, 29, 3, tzinfo=UTC))
    for name, times in kept.items():
        path = tmp_path / f"{name}.parquet"
        frame.assign(event_time=times).to_parquet(path)
        spec = spec_for(str(path), timezone="Europe/Oslo")
        rows = rows_of(fetch_window.fn(spec, window, AS_OF + timedelta(days=60), settings=settings))
        assert rows["event_time"].tolist() == moments[22:27].tolist(), name
        url = f"sqlite:///{tmp_path / name}.db"
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        stored = frame.assign(event_time=[str(time) for time in times])
        stored.to_sql("customer_events", engine, index=False)
        spec = spec_for(url, timezone="Europe/Oslo")
        rows = rows_of(fetch_window.fn(spec, window, AS_OF + timedelta(days=60), settings=settings))
        assert rows["event_time"].tolist() == moments[22:27].tolist(), f"{name} in sqlite"
