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
from tasks.core.replay import history
from tasks.core.replay.backtest import POLICIES
from tasks.core.replay.backtest_result import Backtest
from tasks.core.replay.history import Fitted
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


def test_a_label_delay_reaches_the_rules_and_leaves_the_spec_alone(tmp_path: Path, calls: Calls) -> None:
    run(tmp_path, label_delay="14d")
    (call,) = calls
    assert call["label_delay"] == "14d"
    assert call["spec"] == SPEC


@pytest.mark.parametrize("options", [{"label_delay": "a week"}, {"first": "soon"}])
def test_what_is_no_duration_is_refused_before_anything_runs(
    tmp_path: Path, calls: Calls, options: dict[str, str]
) -> None:
    with pytest.raises(SpecError):
        run(tmp_path, **options)
    assert calls == []


def test_a_fit_is_found_again_by_the_next_backtest_of_this_place(tmp_path: Path, calls: Calls) -> None:
    run(tmp_path)
    calls[0]["fits"]["abc"] = Fitted("a model", 1.5)
    run(tmp_path, policies="loop")
    assert calls[1]["fits"] is not calls[0]["fits"]
    assert calls[1]["fits"]["abc"] == Fitted("a model", 1.5)
    assert list(calls[1]["fits"]) == ["abc"]


def test_a_real_backtest_fits_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path, policies="never, every 2 windows", first="14d")

    def build(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(history, "build_pipeline", build)
    assert run(tmp_path, policies="every 2 windows, never", first="14d").policies[::-1] == first.policies


def test_fits_that_this_place_did_not_write_whole_are_not_there(tmp_path: Path) -> None:
    fits = backtest.FitFolder(tmp_path, b"key")
    fits["abc"] = Fitted("a model", 1.5)
    written = (tmp_path / "abc").read_bytes()
    assert backtest.FitFolder(tmp_path, b"key").get("abc") == Fitted("a model", 1.5)
    assert backtest.FitFolder(tmp_path, b"other key").get("abc") is None
    for content in (written[:-1], written[:31], b"", bytes([written[0] ^ 1]) + written[1:]):
        (tmp_path / "abc").write_bytes(content)
        assert backtest.FitFolder(tmp_path, b"key").get("abc") is None
    (tmp_path / "another").write_bytes(written)  # right content under a wrong name
    assert backtest.FitFolder(tmp_path, b"key").get("another") is None


def test_a_fit_that_is_forgotten_is_gone_from_the_folder(tmp_path: Path) -> None:
    fits = backtest.FitFolder(tmp_path, b"key")
    fits["abc"] = Fitted("a model", 1.5)
    del fits["abc"]
    assert (len(fits), "abc" in fits, list(tmp_path.iterdir())) == (0, False, [])
