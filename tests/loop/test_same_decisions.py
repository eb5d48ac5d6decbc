"""The backtest is the live rule: a replay through the real flows takes its decisions, window for window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import flows.replay
from tasks.core.replay.backtest import run_policies
from tasks.core.replay.streams import TRAINING_WINDOWS, StreamName, make_stream
from tasks.core.spec import ModelSpec, parse_spec
from tasks.core.window import parse_duration
from tests.loop.plainly import plainly

EMPLOYMENT = Path(__file__).parents[3] / "shared" / "data" / "employment_ma.parquet"
SLOW = pytest.mark.slow


def decisions(frame: pd.DataFrame, spec: ModelSpec, windows: int, folder: Path) -> list[list[Any]]:
    """Return versions, partners and scores of the replay and of the backtest, on the same windows."""
    times = frame[spec.source.timestamp]
    begin = times.min() + parse_duration(spec.window.training)
    some = frame[times < begin + (windows + 1) * parse_duration(spec.window.check)]
    loop = run_policies(some, spec, policies=("loop",)).policies[0]
    played = flows.replay.replay(spec, windows=windows, out=str(folder / "replay")).windows
    assert len(played) == windows
    lived = [(window.version, window.partner, rounded(window.score)) for window in played]
    known = zip(loop.versions, loop.partners, map(rounded, loop.scores), strict=True)
    return [lived, list(known)[:windows]]


def rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 9)


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("recurring", 10),
        pytest.param("recurring", 44, marks=SLOW),
        pytest.param("sudden", 44, marks=SLOW),
        pytest.param("poison", 44, marks=SLOW),
        pytest.param("moving noise", 44, marks=SLOW),
    ],
)
def test_a_replay_of_a_stream_decides_as_the_backtest_does(
    name: StreamName, windows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly(monkeypatch)
    stream = make_stream(name, rows=300, windows=TRAINING_WINDOWS + windows + 1, seed=3)
    frame, path = stream.frame, tmp_path / "rows.parquet"
    frame.to_parquet(path, index=False)
    source = {**stream.spec["source"], "url": str(path)}
    lived, known = decisions(frame, parse_spec({**stream.spec, "source": source}), windows, tmp_path)
    assert lived == known
    assert len({version for version, *_ in lived}) > 1


@pytest.mark.slow
@pytest.mark.skipif(not EMPLOYMENT.exists(), reason="the employment data is not beside the project")
def test_a_replay_of_employment_decides_as_the_backtest_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly(monkeypatch)
    frame = pd.read_parquet(EMPLOYMENT)
    frame["at"] = frame["at"].dt.floor("us")
    frame.to_parquet(tmp_path / "rows.parquet", index=False)
    numeric, classes = ["AGEP", "SCHL"], "MAR RELP DIS ESP CIT MIG MIL ANC NATIVITY DEAR DEYE DREM SEX RAC1P"
    spec = parse_spec(
        {
            "name": "employment",
            "task": "classification",
            "metric": "accuracy",
            "source": {"url": str(tmp_path / "rows.parquet"), "key": "id", "timestamp": "at"},
            "label": {"column": "employed"},
            "features": {"numeric": numeric, "categorical": classes.split()},
            "estimator": {
                "class": "sklearn.ensemble.HistGradientBoostingClassifier",
                "params": {"max_iter": 60, "random_state": 0},
            },
            "window": {"training": "98d", "check": "7d"},
        }
    )
    lived, known = decisions(frame, spec, 40, tmp_path)
    assert lived == known
