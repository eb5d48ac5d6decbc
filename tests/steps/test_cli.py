"""The terminal offers exactly what a flow takes, and says what is wrong in one line."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from prefect import flow

from tasks.cli import parser_for, run_flow
from tasks.core.spec import ModelSpec
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
