"""CSV files as programs write them: any dialect gives the same rows, and a fault is named with its line."""

from __future__ import annotations

import argparse
import gzip
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.core.errors import FetchError, SpecError
from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.validate import infer_contract_from_source
from tests.make import START, make_frame, make_spec, spec_block

AS_OF = START + pd.Timedelta(days=30)


def spec_at(url: object, *, csv: dict[str, Any] | None = None, **source: Any):
    block = {**spec_block()["source"], "url": str(url), "timezone": "UTC", **source}
    block.pop("table", None)
    return make_spec(source=block | ({"csv": csv} if csv else {}))


def rows_at(url: object, settings: Settings, **more: Any) -> pd.DataFrame:
    fetched = fetch_training.fn(spec_at(url, **more), AS_OF, settings=settings)
    return pd.read_parquet(fetched.dataset.path)


def refusal(url: object, settings: Settings, **more: Any) -> str:
    with pytest.raises(FetchError) as caught:
        rows_at(url, settings, **more)
    return str(caught.value)


def base() -> pd.DataFrame:
    frame = make_frame(120, days=27)
    frame["event_time"] = frame["event_time"].dt.floor("min")
    frame["spend"] = (frame["spend"] * 1000).round(2) + 0.25
    frame["plan"] = frame["plan"].replace({"pro": "größer"})
    return frame


def grouped(number: float, decimal: str, thousands: str) -> str:
    text = f"{number:,.2f}"
    return text.replace(",", "\0").replace(".", decimal).replace("\0", thousands)


def same(rows: pd.DataFrame, frame: pd.DataFrame) -> None:
    joined = frame.merge(rows, on="event_id", suffixes=("", "_read"), validate="1:1")
    assert len(joined) == len(rows) == len(frame)
    for name in ("tenure", "spend"):
        pd.testing.assert_series_equal(
            joined[f"{name}_read"].astype(float), joined[name].astype(float), check_names=False
        )
    for name in ("plan", "region"):
        known = joined[name].notna()
        assert joined[f"{name}_read"][known].tolist() == joined[name][known].tolist()
        assert joined[f"{name}_read"][~known].isna().all()
    assert (joined["event_time_read"] == joined["event_time"]).all()
    assert joined["churned_read"].astype(int).tolist() == joined["churned"].tolist()


LAYOUTS = ["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%Y/%m/%d %H:%M"]


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    separator=st.sampled_from([",", ";", "\t", "|"]),
    signs=st.sampled_from([(".", ""), (",", ""), (",", "."), (".", ","), (",", " "), (".", "'"), (".", "_")]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    quote=st.sampled_from(['"', "'"]),
    layout=st.sampled_from(LAYOUTS),
    preamble=st.sampled_from(["", "sep", "Report of customers\n\n", "# made by: x, y; z\n"]),
    packed=st.sampled_from(["", ".gz", ".zip"]),
    ends=st.sampled_from(["\n", "\r\n"]),
    declared=st.booleans(),
)
def test_any_dialect_gives_the_same_rows(  # noqa: PLR0917 - one argument for each thing that varies
    tmp_path: Path, settings: Settings, separator: str, signs: tuple[str, str], encoding: str, quote: str,
    layout: str, preamble: str, packed: str, ends: str, declared: bool,
) -> None:  # fmt: skip
    frame = base()
    decimal, thousands = signs
    written = frame.assign(
        event_time=frame["event_time"].dt.strftime(layout),
        spend=[grouped(number, decimal, thousands) for number in frame["spend"]],
        tenure=[f"{number!r}".replace(".", decimal) for number in frame["tenure"]],
    )
    written.loc[3, "spend"] = "?"
    frame.loc[3, "spend"] = None
    needs = 1 if quote == "'" else 0
    text = written.to_csv(index=False, sep=separator, quotechar=quote, quoting=needs, lineterminator=ends)
    text = (f"sep={separator}{ends}" if preamble == "sep" else preamble) + text
    content = text.encode(encoding)
    path = tmp_path / f"a.csv{packed}"
    if packed == ".gz":
        path.write_bytes(gzip.compress(content))
    elif packed == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", content)
    else:
        path.write_bytes(content)
    csv = {"separator": separator, "decimal": decimal, "thousands": thousands, "timestamp_format": layout}
    csv |= {"encoding": encoding, "quote": quote, "skip_rows": text.count("\n", 0, text.index("event_id"))}
    same(rows_at(path, settings, csv=csv if declared else None), frame)


@pytest.mark.parametrize("ending", [".tsv", ".csv.bz2", ".csv.zst"])
def test_tsv_and_other_packings_are_read(ending: str, tmp_path: Path, settings: Settings) -> None:
    frame = base()
    path = tmp_path / f"a{ending}"
    if ending.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(frame.to_csv(index=False, sep="\t").encode())
    else:
        frame.to_csv(path, index=False, sep="\t")
    same(rows_at(path, settings), frame)


def test_a_code_with_a_decimal_comma_is_the_whole_number(tmp_path: Path, settings: Settings) -> None:
    frame = base().assign(region=[None, 1.0, 2.0] * 40)
    frame.to_csv(tmp_path / "a.csv", index=False, sep=";", decimal=",")
    assert set(rows_at(tmp_path / "a.csv", settings)["region"].dropna()) == {"1", "2"}


def test_line_breaks_in_cells_and_long_cells_are_read(tmp_path: Path, settings: Settings) -> None:
    frame = base()
    text = 'first\nsecond, "quoted"\nthird\n' * 20
    frame.insert(0, "note", [text] * 60 + [text * 4000] + [text] * 59)  # one cell of more than a megabyte
    frame.to_csv(tmp_path / "a.csv", index=False)
    same(rows_at(tmp_path / "a.csv", settings), frame)


def test_what_stands_for_nothing_is_declared_once_for_all_columns(tmp_path: Path, settings: Settings) -> None:
    frame = base()
    frame["plan"] = ["n/a", "\\N", "-", *frame["plan"][3:]]
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert rows_at(tmp_path / "a.csv", settings).set_index("event_id")["plan"].isna().sum() == 1
    rows = rows_at(tmp_path / "a.csv", settings, csv={"missing": ["n/a", "\\N", "-"]})
    assert rows["plan"].isna().sum() == 3


def test_day_or_month_first_is_told_by_the_whole_file_or_asked(tmp_path: Path, settings: Settings) -> None:
    frame = base()
    frame["event_time"] = pd.date_range("2026-01-05", periods=120, freq="h", tz="UTC")
    path = tmp_path / "a.csv"
    frame.assign(event_time=frame["event_time"].dt.strftime("%d/%m/%Y %H:%M")).to_csv(path, index=False)
    said = refusal(path, settings)
    assert "timestamp_format" in said
    assert "%d/%m/%Y %H:%M" in said
    same(rows_at(path, settings, csv={"timestamp_format": "%d/%m/%Y %H:%M"}), frame)
    long = pd.concat(
        [frame.assign(event_id=frame["event_id"] + f"-{n}") for n in range(40)], ignore_index=True
    )
    long["event_time"] = pd.date_range("2026-01-05", periods=len(long), freq="5min", tz="UTC")
    long.assign(event_time=long["event_time"].dt.strftime("%m/%d/%Y %H:%M")).to_csv(path, index=False)
    same(rows_at(path, settings), long)


def test_local_times_of_a_zone_are_read(tmp_path: Path, settings: Settings) -> None:
    frame = base()
    local = frame["event_time"].dt.tz_convert("Europe/Oslo").dt.strftime("%d.%m.%Y %H:%M")
    frame.assign(event_time=local).to_csv(tmp_path / "a.csv", index=False, sep=";")
    same(rows_at(tmp_path / "a.csv", settings, timezone="Europe/Oslo"), frame)


def faulty(tmp_path: Path, change: dict[int, bytes]) -> Path:
    lines = base().to_csv(index=False).encode().split(b"\n")
    for place, line in change.items():
        lines[place] = line if line.startswith(b"=") is False else lines[place] + line[1:]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    return tmp_path / "a.csv"


def test_a_cell_too_many_is_named_with_its_line(tmp_path: Path, settings: Settings) -> None:
    said = refusal(faulty(tmp_path, {57: b"=,oops"}), settings)
    assert "line 58" in said
    assert "damaged" not in said
    assert "oops" not in said


def test_a_byte_of_another_encoding_is_named_with_its_line(tmp_path: Path, settings: Settings) -> None:
    frame = base()
    long = pd.concat(
        [frame.assign(event_id=frame["event_id"] + f"-{n}") for n in range(60)], ignore_index=True
    )
    lines = long.to_csv(index=False).encode().split(b"\n")
    lines[7000] = lines[7000].replace(b",", b"\xfc,", 1)
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    said = refusal(tmp_path / "a.csv", settings)
    assert "line 7001" in said
    assert "UTF-8" in said
    assert "source.csv.encoding" in said


def test_an_encoding_that_cannot_be_told_is_asked_for(tmp_path: Path, settings: Settings) -> None:
    frame = base().assign(plan="большой")
    (tmp_path / "a.csv").write_bytes(frame.to_csv(index=False).encode("cp1251"))
    assert "source.csv.encoding" in refusal(tmp_path / "a.csv", settings)
    assert set(rows_at(tmp_path / "a.csv", settings, csv={"encoding": "cp1251"})["plan"]) == {"большой"}


def test_an_open_quote_is_named_with_its_line(tmp_path: Path, settings: Settings) -> None:
    said = refusal(faulty(tmp_path, {40: b'"e,2026,1,2,3,4,5'}), settings)
    assert "line" in said
    assert "damaged" not in said


def test_only_a_damaged_file_is_called_damaged(tmp_path: Path, settings: Settings) -> None:
    whole = gzip.compress(base().to_csv(index=False).encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refusal(tmp_path / "a.csv.gz", settings)
    (tmp_path / "b.zip.csv").write_bytes(b"PK\x03\x04" + b"x" * 100)
    assert "damaged" in refusal(tmp_path / "b.zip.csv", settings)


def test_doubled_columns_and_a_missing_header_are_named(tmp_path: Path, settings: Settings) -> None:
    frame = base()
    doubled = pd.concat([frame, frame[["plan"]]], axis=1)
    doubled.to_csv(tmp_path / "a.csv", index=False)
    assert "'plan'" in refusal(tmp_path / "a.csv", settings)
    (tmp_path / "b.csv").write_text("\n\n")
    assert "header" in refusal(tmp_path / "b.csv", settings)


@pytest.mark.parametrize(
    "csv", [{"encoding": "utf-9"}, {"decimal": ",", "thousands": ","}, {"separator": "ab"}]
)
def test_a_dialect_that_cannot_be_is_refused_in_the_block(csv: dict[str, str]) -> None:
    with pytest.raises(SpecError):
        spec_at("a.csv", csv=csv)


def test_an_inferred_contract_shows_how_the_file_was_read(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(settings.root))
    frame = base()
    local = frame.assign(event_time=frame["event_time"].dt.strftime("%d.%m.%Y %H:%M"))
    (tmp_path / "a.csv").write_bytes(local.to_csv(index=False, sep=";", decimal=",").encode("cp1252"))
    infer_contract_from_source(spec_at(tmp_path / "a.csv"), argparse.Namespace(as_of=AS_OF))
    first = yaml.safe_load(capsys.readouterr().out.splitlines()[0].partition(": ")[2])
    expected = {"separator": ";", "decimal": ",", "encoding": "cp1252", "timestamp_format": "%d.%m.%Y %H:%M"}
    assert expected.items() <= first.items()
