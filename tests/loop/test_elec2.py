"""Real data: half a year of the New South Wales electricity market, through flows and backtest."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import flows.replay
from tasks.core.replay.backtest import run_policies
from tasks.core.spec import ModelSpec
from tasks.specfile import load_spec
from tests.loop.plainly import plainly

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "elec2.parquet"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the elec2 data is not beside the project")


@pytest.fixture
def spec() -> ModelSpec:
    return load_spec("elec2", ROOT / "examples" / "elec2.yaml", overrides={"source.url": str(DATA)})


@pytest.mark.slow  # test_same_decisions.py holds fewer weeks against the backtest
def test_26_real_weeks_through_the_real_flows_hold_more_than_the_first_model(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly(monkeypatch)
    summary = flows.replay.replay(spec, windows=26, out=str(tmp_path / "replay"))
    assert [window.rows for window in summary.windows] == [336] * 26
    assert summary.promoted >= 1
    assert summary.mean_score is not None
    assert summary.never_mean_score is not None
    assert summary.mean_score - summary.never_mean_score > 0.03  # 0.07 when this was written
    told = json.loads((tmp_path / "replay" / "summary.json").read_text())
    assert len(told["windows"]) == 26


def test_the_backtest_spends_what_each_policy_says(spec: ModelSpec) -> None:
    frame = pd.read_parquet(DATA)
    half_a_year = frame[frame["settled_at"] < frame["settled_at"].min() + pd.Timedelta("26w")]
    result = run_policies(half_a_year, spec, policies=("never", "every 4 windows", "loop"))
    never, every, loop = result.policies
    assert result.windows == 18
    assert (never.retrainings, every.retrainings) == (0, 4)
    assert every.mean_score is not None
    assert never.mean_score is not None
    assert loop.retrainings >= 1
    later = [[score for score in policy.scores[-4:] if score is not None] for policy in (loop, never)]
    assert sum(later[0]) / 4 > sum(later[1]) / 4 + 0.05  # after the break of October 1996
    assert every.mean_score > never.mean_score
