"""The terminal offers exactly what a flow takes, and says what is wrong in one line."""

from __future__ import annotations

import argparse
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from prefect import flow

from tasks.cli import _without_traceback, parser_for, run_flow
from tasks.core.spec import ModelSpec
from tasks.foreign import in_one_line
from tests.make import spec_block


@flow(name="sample")
def sample(
    spec: ModelSpec,
    as_of: datetime | None = None,
    mode: Literal["none", "year"] = "none",
    rows: int = 3,
    dry_run: bool = False,
) -> None:
    """Do something with a model.

    Args:
        spec: The model.
        as_of: The moment to act as if it were.
        mode: One of two.
        rows: How many rows.
        dry_run: Only say what would happen.
    """


def test_every_parameter_of_the_flow_is_an_option_with_its_help_and_default() -> None:
    text = parser_for(sample).format_help()
    for part in ("--model", "--config", "--as-of", "--mode {none,year}", "--rows", "--no-dry-run"):
        assert part in text
    assert "How many rows. (default: 3)" in " ".join(text.split())


def test_options_arrive_in_the_types_of_the_flow() -> None:
    args = parser_for(sample).parse_args(
        ["--model", "m", "--as-of", "2026-01-31T12:00+02:00", "--rows", "7", "--dry-run"]
    )
    assert args.as_of == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert (args.rows, args.dry_run, args.mode) == (7, True, "none")


def test_a_time_without_zone_is_taken_as_utc() -> None:
    args = parser_for(sample).parse_args(["--model", "m", "--as-of", "2026-01-31"])
    assert args.as_of == datetime(2026, 1, 31, tzinfo=UTC)


def test_a_time_that_is_none_is_refused_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parser_for(sample).parse_args(["--model", "m", "--as-of", "yesterday"])
    assert stopped.value.code == 2
    assert "'yesterday' is not a time like 2026-01-31T12:00+00:00" in capsys.readouterr().err


def test_a_wrong_model_block_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    config = tmp_path / "prefect.yaml"
    config.write_text(yaml.safe_dump({"definitions": {"models": {"churn": spec_block(metric="rmse")}}}))
    assert run_flow(sample, ["--model", "churn", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("SpecError: found prefect.yaml: churn:")
    assert "rmse" in said
    assert len(said.strip().splitlines()) == 1


def test_an_extra_flag_does_its_own_thing_instead_of_running_the_flow(tmp_path: Path) -> None:
    config = tmp_path / "prefect.yaml"
    config.write_text(yaml.safe_dump({"definitions": {"models": {"churn": spec_block()}}}))
    called: list[Any] = []

    def look_around(spec: ModelSpec, args: argparse.Namespace) -> None:
        """Look around."""
        called.append((spec.name, args.rows))

    assert (
        run_flow(
            sample, ["--model", "churn", "--config", str(config), "--look-around"], look_around=look_around
        )
        == 0
    )
    assert called == [("churn", 3)]


def test_an_error_nobody_foresaw_is_one_line_with_a_report_that_only_its_owner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    config = tmp_path / "prefect.yaml"
    config.write_text(yaml.safe_dump({"definitions": {"models": {"churn": spec_block()}}}))

    def broken(spec: ModelSpec, args: argparse.Namespace) -> None:
        """Fail."""
        raise KeyError("a value of some row")

    given = ["--model", "churn", "--config", str(config), "--broken"]
    assert run_flow(sample, given, broken=broken) == 3
    said = capsys.readouterr().err.strip()
    (report,) = (tmp_path / "state" / "reports").iterdir()
    assert len(said.splitlines()) == 1 and report.stem in said and "KeyError" in said
    assert "some row" not in said and "some row" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0


def test_a_log_line_of_such_an_error_has_the_same_number_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    err = ValueError("a value of some row")
    kind = (ValueError, err, None)
    texts = []
    for _ in range(2):
        record = logging.LogRecord("prefect.flow_runs", 40, "", 0, "failed: %s", ("some row",), kind)
        assert _without_traceback(record) and record.exc_info is None
        texts.append(record.getMessage())
    (report,) = (tmp_path / "state" / "reports").iterdir()
    assert texts[0] == texts[1] and report.stem in texts[0] and "some row" not in texts[0]


def test_a_report_that_cannot_be_written_is_still_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name, value in (("STATE_DIR", str(tmp_path / "file" / "below")), ("LAUNCH", "bogus")):
        with monkeypatch.context() as place:
            place.setenv(f"EVERGREEN_{name}", value)
            said = in_one_line(KeyError("some row"))
        assert len(said.splitlines()) == 1 and "KeyError" in said and "could not be written" in said
        assert "some row" not in said
