from __future__ import annotations

import argparse
import hashlib
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.core.dataset import Dataset
from tasks.core.errors import ContractError
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import quarantine
from tasks.store.engine import open_store
from tasks.validate import Validated, infer_contract_from_source, validate
from tests.make import START, make_frame, make_spec

WINDOW = Window(START, START + timedelta(days=28))
SENSITIVE = {"numeric": ["tenure", "spend"], "categorical": ["plan", "region"], "sensitive": ["region"]}


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def stored(frame: pd.DataFrame, folder: Path, **more: Any) -> Dataset:
    path = str(folder / "rows.parquet")
    frame.to_parquet(path, index=False)
    return Dataset(path, len(frame), digest(path), WINDOW, columns=tuple(map(str, frame.columns)), **more)


def run(settings: Settings, dataset: Dataset, **over: Any) -> Validated:
    spec = make_spec(**over)
    return validate.fn(spec, dataset, attempt="a1", settings=settings)


def test_good_rows_go_on_and_bad_rows_are_set_aside(settings: Settings, tmp_path: Path) -> None:
    frame = make_frame(1000)
    frame.loc[[3, 5], "spend"] = -1.0
    frame.loc[5, "plan"] = "gold"
    dataset = stored(frame, tmp_path)
    validated = run(settings, dataset)
    assert validated.report.outcome == "quarantine"
    good = validated.dataset
    assert (good.rows, good.window, good.columns) == (998, WINDOW, dataset.columns)
    assert good.sha256 == digest(good.path)
    pd.testing.assert_frame_equal(
        pd.read_parquet(good.path)[frame.columns.tolist()], frame.drop([3, 5]).reset_index(drop=True)
    )
    assert digest(dataset.path) == dataset.sha256
    bad = pd.read_parquet(validated.quarantine)
    assert bad["event_id"].tolist() == ["e0-000003", "e0-000005"]
    assert bad["reasons"].tolist() == ["spend:too_small", "spend:too_small;plan:not_allowed"]
    [record] = quarantine.history(open_store(settings), "churn")
    assert (record.rows, record.attempt, record.window, record.path) == (
        2,
        "a1",
        WINDOW,
        validated.quarantine,
    )
    assert record.reasons == {"spend:too_small": 2, "plan:not_allowed": 1}


def test_running_twice_leaves_one_record_and_the_same_files(settings: Settings, tmp_path: Path) -> None:
    frame = make_frame(500)
    frame.loc[3, "spend"] = -1.0
    dataset = stored(frame, tmp_path)
    first, second = run(settings, dataset), run(settings, dataset)
    assert first == second
    assert len(quarantine.history(open_store(settings), "churn")) == 1
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["rows.good.parquet", "rows.parquet"]
    assert len(list((settings.root / "quarantine").rglob("*"))) == 2  # the model's folder and one file


def test_rows_without_fault_leave_nothing_in_quarantine(settings: Settings, tmp_path: Path) -> None:
    validated = run(settings, stored(make_frame(100), tmp_path))
    assert (validated.report.outcome, validated.quarantine) == ("ok", None)
    assert quarantine.history(open_store(settings), "churn") == []


def test_a_block_is_reported_and_not_raised(settings: Settings, tmp_path: Path) -> None:
    validated = run(settings, stored(make_frame(100).assign(spend=-1.0), tmp_path))
    assert validated.report.outcome == "block"
    assert validated.dataset.rows == 0
    assert len(pd.read_parquet(validated.dataset.path)) == 0
    assert len(pd.read_parquet(validated.quarantine)) == 100


def test_an_empty_table_blocks_with_no_rows(settings: Settings, tmp_path: Path) -> None:
    report = run(settings, stored(make_frame(10).iloc[:0], tmp_path)).report
    assert (report.outcome, report.structural) == ("block", ("no rows",))


def test_a_column_renamed_in_part_of_the_source_blocks_with_the_hint(
    settings: Settings, tmp_path: Path
) -> None:
    frame = make_frame(100)
    frame.loc[50:, "tenure"] = np.nan
    dataset = stored(frame.assign(tenure_months=1.0), tmp_path, missing=("tenure",))
    report = run(settings, dataset).report
    assert report.outcome == "block"
    assert report.renames == {"tenure": "tenure_months"}


def test_sensitive_values_are_set_aside_as_keyed_hashes(settings: Settings, tmp_path: Path) -> None:
    frame = make_frame(500)
    frame.loc[[3, 5, 7], "spend"] = -1.0
    frame.loc[[3, 5], "region"] = "Ringstrasse 7"
    frame.loc[7, "region"] = None
    dataset = stored(frame, tmp_path)
    path = run(settings, dataset, features=SENSITIVE).quarantine
    bad = pd.read_parquet(path)
    assert b"Ringstrasse" not in Path(path).read_bytes()
    assert bad["region"][0] == bad["region"][1] != "Ringstrasse 7"
    assert len(bad["region"][0]) == 16
    assert bad["region"][2] is None
    assert Path(path).stat().st_mode & 0o077 == 0
    elsewhere = Settings(state_dir=tmp_path / "other", mask_key="another key")
    assert (
        pd.read_parquet(run(elsewhere, dataset, features=SENSITIVE).quarantine)["region"][0]
        != bad["region"][0]
    )


def test_a_file_that_changed_since_the_fetch_is_refused(settings: Settings, tmp_path: Path) -> None:
    dataset = stored(make_frame(100), tmp_path)
    make_frame(100, seed=1).to_parquet(dataset.path)
    with pytest.raises(ContractError, match="than were fetched"):
        run(settings, dataset)
    Path(dataset.path).unlink()
    with pytest.raises(ContractError, match="no readable rows"):
        run(settings, dataset)


def test_a_file_that_is_no_parquet_is_refused(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("event_id,spend\n")
    with pytest.raises(ContractError, match="no readable rows"):
        run(settings, Dataset(str(path), 1, digest(str(path)), WINDOW))


def test_the_log_says_what_happened_without_values(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = make_frame(500)
    frame.loc[3, "plan"] = "gold"
    with caplog.at_level(logging.INFO, "tasks.validate"):
        run(settings, stored(frame, tmp_path))
    [line] = [record.getMessage() for record in caplog.records if record.name == "tasks.validate"]
    assert "500 rows, 1 bad (0.2%): plan not_allowed 1" in line
    assert "gold" not in line


def test_a_first_contract_is_printed_as_yaml_read_from_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    make_frame(2000).to_parquet(tmp_path / "rows.parquet")
    source = {"url": str(tmp_path / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
    spec = make_spec(source=source, contract={})
    infer_contract_from_source(spec, argparse.Namespace(as_of=WINDOW.end))
    read = yaml.safe_load(capsys.readouterr().out)
    assert read["contract"]["plan"]["isin"] == ["basic", "pro", "team"]
    assert make_spec(**read).contract.columns["spend"].ge == 0
    with pytest.raises(ContractError, match="no rows"):
        infer_contract_from_source(spec, argparse.Namespace(as_of=WINDOW.start - timedelta(days=400)))
