"""A replay plays in its own folder, in windows that follow each other, and upstream writes when it is due."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.errors import SpecError
from tasks.core.window import Window
from tasks.replay.stage import history_stage, simulated_stage, state_below
from tests.make import START, make_spec


def test_a_history_is_served_in_whole_windows_after_the_first_stretch(tmp_path: Path) -> None:
    whole = Window(START, START + timedelta(days=50))
    stage = history_stage(make_spec(), whole, tmp_path, first=None, windows=None)
    assert stage.begin == START + timedelta(days=28)
    assert [window.start for window in stage.windows] == [START + timedelta(days=d) for d in (28, 35, 42)]
    assert history_stage(make_spec(), whole, tmp_path, first="36d", windows=1).windows == [
        Window(START + timedelta(days=36), START + timedelta(days=43))
    ]


def test_a_history_too_short_for_one_window_is_refused(tmp_path: Path) -> None:
    whole = Window(START, START + timedelta(days=30))
    with pytest.raises(SpecError, match=r"a history of 30 days.*first 28d and one window of 7d"):
        history_stage(make_spec(), whole, tmp_path, first=None, windows=None)


def test_upstream_writes_a_file_only_once_its_time_has_come(tmp_path: Path) -> None:
    source = {"url": str(tmp_path / "in" / "*.parquet"), "key": "event_id", "timestamp": "event_time"}
    stage = simulated_stage(make_spec(source=source), tmp_path, seed=7, windows=None)
    there = {path.name for path in (tmp_path / "in").glob("*.parquet")}
    assert len(there) == 4  # the history before the first served window
    newest = max(pd.read_parquet(tmp_path / "in" / name)["event_time"].max() for name in there)
    assert newest < pd.Timestamp(stage.begin)
    assert stage.publish(stage.windows[0].end) == 1
    assert stage.publish(stage.windows[0].end) == 0


def test_a_file_published_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    source = {"url": str(tmp_path / "in" / "*.parquet"), "key": "event_id", "timestamp": "event_time"}
    stage = simulated_stage(make_spec(source=source), tmp_path, seed=7, windows=None)
    renamed = next(w for w in stage.windows if any(p.kind == "rename" for p in stage.planted(w)))
    stage.publish(renamed.end)
    files = tmp_path / "in"
    name = f"customers-{renamed.start:%Y-%m-%d}.parquet"
    assert "cust_age" in pd.read_parquet(files / name).columns
    stage.publish(renamed.end + renamed.length)
    assert not (files / name).exists()
    assert "customer_age" in pd.read_parquet(files / name.replace(".parquet", "-again.parquet")).columns


def test_a_simulation_needs_a_local_glob_to_write_into(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a local glob"):
        simulated_stage(make_spec(), tmp_path, seed=7, windows=None)


def test_a_replay_refuses_a_folder_that_no_replay_made(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SpecError, match="no replay made"), state_below(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_state_moves_below_the_folder_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_STORE", "postgresql+psycopg://prod/evergreen")
    monkeypatch.delenv("EVERGREEN_STATE_DIR", raising=False)
    with state_below(tmp_path / "play") as settings:
        assert settings.store_url == f"sqlite:///{tmp_path / 'play' / 'store.db'}"
        (tmp_path / "play" / "left.txt").write_text("from the first replay")
    assert os.environ["EVERGREEN_STORE"] == "postgresql+psycopg://prod/evergreen"
    assert "EVERGREEN_STATE_DIR" not in os.environ
    with state_below(tmp_path / "play"):
        assert not (tmp_path / "play" / "left.txt").exists()
    assert (tmp_path / "play.previous" / "left.txt").read_text() == "from the first replay"
