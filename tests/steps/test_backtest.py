"""The task around a backtest: what it passes on of a person's options."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks import backtest
from tasks.core.dataset import Dataset
from tasks.core.errors import SpecError
from tasks.core.replay.backtest import POLICIES
from tasks.core.replay.backtest_result import Backtest
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.settings import Settings
from tests.backtests import START, made_backtest
from tests.make import make_frame, make_spec

SPEC = make_spec(label={"column": "churned", "maturity": "2d"})
Calls = list[dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made: Calls = []

    def run(frame: pd.DataFrame, spec: ModelSpec, **options: Any) -> Backtest:
        for name in options["policies"]:
            options["progress"](name, 1, 2)
        made.append({"frame": frame, "spec": spec, **options})
        return made_backtest()

    monkeypatch.setattr(backtest, "run_policies", run)
    return made


def run(tmp_path: Path, **options: Any) -> Backtest:
    path = tmp_path / "rows.parquet"
    make_frame(50).to_parquet(path)
    dataset = Dataset(str(path), 50, "", Window(START, START + timedelta(days=28)))
    place = Settings(state_dir=tmp_path / "state", threads=1)
    return backtest.run_backtest.fn(SPEC, dataset, settings=place, **options)


def test_by_default_every_policy_runs_on_all_rows_and_nobody_answers(tmp_path: Path, calls: Calls) -> None:
    assert run(tmp_path) == made_backtest()
    (call,) = calls
    assert call["policies"] == POLICIES
    assert (call["asks"], call["first"], call["threads"]) == ("nobody", None, 1)
    assert call["spec"] == SPEC
    pd.testing.assert_frame_equal(call["frame"], make_frame(50))


def test_options_reach_the_rules(tmp_path: Path, calls: Calls) -> None:
    run(tmp_path, first="21d", policies="never, loop without second opinion ,", asks="everybody")
    (call,) = calls
    assert call["first"] == timedelta(days=21)
    assert call["policies"] == ("never", "loop without second opinion")
    assert call["asks"] == "everybody"


def test_a_label_delay_stands_in_for_the_maturity_of_the_spec_and_nothing_else(
    tmp_path: Path, calls: Calls
) -> None:
    run(tmp_path, label_delay="14d")
    (call,) = calls
    assert call["spec"].label.maturity == "14d"
    assert call["spec"].model_copy(update={"label": SPEC.label}) == SPEC


@pytest.mark.parametrize("options", [{"label_delay": "a week"}, {"first": "soon"}])
def test_what_is_no_duration_is_refused_before_anything_runs(
    tmp_path: Path, calls: Calls, options: dict[str, str]
) -> None:
    with pytest.raises(SpecError):
        run(tmp_path, **options)
    assert calls == []


def test_fits_are_kept_where_the_same_backtest_finds_them_again(tmp_path: Path, calls: Calls) -> None:
    run(tmp_path)
    run(tmp_path, policies="loop")
    folders = {call["cache"] for call in calls}
    assert len(folders) == 1
    folder = folders.pop()
    assert folder.is_dir()
    assert folder.is_relative_to((tmp_path / "state").resolve())
