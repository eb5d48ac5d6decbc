"""The benchmarks beside the peers start, explain themselves, and work on a few rows of our own side."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.peers.environments import LOCKS, PEERS, QUIET, SetUpError, available, environment_of
from bench.peers.paper import write_tables
from bench.peers.protocol import Columns
from bench.peers.run_article import prepare_with
from bench.peers.scenarios import RUN, Cell, reference_of, windows_of
from bench.peers.scores import Checked, delays, found_at, interval, limit_at, typical

ROOT = Path(__file__).parents[2]
MODULES = ("bench.peers.environments", "bench.speed_beside_peers", "bench.alarms_beside_peers")
RUNNERS = [peer.runner for peer in PEERS.values() if peer.lock]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )


def figures(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("module", MODULES)
def test_a_bench_explains_itself(module: str) -> None:
    done = run("-m", module, "--help")
    assert done.returncode == 0, done.stderr
    assert "--environments" in done.stdout


@pytest.mark.parametrize(
    ("module", "option"),
    [("bench.gate", "--repetitions"), ("bench.registration", "--rows"), ("bench.serving", "--connections")],
)
def test_a_bench_without_peers_explains_itself(module: str, option: str) -> None:
    done = run("-m", module, "--help")
    assert done.returncode == 0, done.stderr
    assert option in done.stdout


def test_the_cost_of_the_gate_is_told_with_its_correctness() -> None:
    lines = figures(run("-m", "bench.gate", "--rows", "500", "--resamples", "100", "--only", "gate_seconds"))
    assert {line["metric"] for line in lines} >= {"accuracy", "f1", "roc_auc", "neg_log_loss"}
    assert all(line["agrees"] and line["rows"] == 500 for line in lines)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_runner_explains_itself_without_its_peer(runner: str) -> None:
    done = run("-P", f"bench/peers/{runner}", "--help")
    assert done.returncode == 0, done.stderr
    assert "--job" in done.stdout


def test_the_speed_of_our_own_side_is_told_with_its_correctness() -> None:
    lines = figures(run("-m", "bench.speed_beside_peers", "--rows", "2000", "--peers"))
    speed = {line["who"]: line for line in lines if line["figure"] == "speed"}
    assert speed.keys() == {"pyarrow", "ours", "ours with whole rows"}
    assert all(line["rows"] == 2000 and line["seconds"] > 0 and line["agrees"] for line in speed.values())
    assert speed["ours"]["runs"] >= 3
    (distance,) = [line for line in lines if line["figure"] == "ks_distance"]
    assert distance["agrees"]


def test_the_alarms_of_our_own_side_are_told_and_tabled(tmp_path: Path) -> None:
    few = ["--sizes", "50", "--checks", "3", "--references", "1", "--peers", "--power-checks", "2"]
    sizes = ["--dependent-sizes", "--power-sizes", "--row-checks", "0", "--out", str(tmp_path)]
    lines = figures(run("-m", "bench.alarms_beside_peers", *few, *sizes))
    told = {line["who"]: line for line in lines if line["figure"] == "false_alarms"}
    assert told.keys() == {"ours", "article-psi-10", "article-psi-20"}
    assert all(line["rows"] == 50 and line["checks"] == 3 for line in told.values())
    assert "article-psi-20" in (tmp_path / "alarms.md").read_text()
    assert "<table>" in (tmp_path / "alarms.html").read_text()


def test_peers_environments_are_pinned_without_addresses_and_phone_nobody() -> None:
    for peer in PEERS.values():
        if peer.lock:
            lines = (LOCKS / peer.lock).read_text().splitlines()
            assert all("==" in line and "://" not in line for line in lines if line.strip())
    assert QUIET["NML_DISABLE_USAGE_LOGGING"] == "1"
    assert QUIET["DO_NOT_TRACK"]


def test_a_peer_that_cannot_be_installed_is_left_out_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.environments._run", lambda _: "no such package")
    with pytest.raises(SetUpError, match="no such package"):
        environment_of(PEERS["evidently"], tmp_path)
    assert available(["evidently"], tmp_path) == ({}, {"evidently": "no such package"})


def test_the_same_window_is_drawn_for_everyone_and_a_ramp_moves_on() -> None:
    cell = Cell("mixed", 400, "ramp")
    first = [frame for frame, _ in windows_of(cell, 0, RUN, 1)]
    again = [frame for frame, _ in windows_of(cell, 0, 2, 1)]
    pd.testing.assert_frame_equal(first[1], again[1])
    assert not first[0].equals(next(frame for frame, _ in windows_of(cell, 1, 1, 1)))
    moved = [(frame["normal_c"].mean() - 100) / 15 for frame in first]
    assert moved[0] == pytest.approx(0.1, abs=0.2)
    assert moved[-1] == pytest.approx(1, abs=0.2)


def test_days_of_a_weekend_follow_their_reference() -> None:
    cell = Cell("weekend", 24)
    frame, times = reference_of(cell, 0, 1)
    assert times is not None
    assert len(times) == len(frame)
    _, window = next(windows_of(cell, 0, 1, 1))
    assert window is not None
    assert times.max() < window.start
    assert (window.start - times.max()) <= pd.Timedelta(hours=1)


def test_the_article_index_is_the_formula_and_is_blind_where_the_formula_is() -> None:
    rng = np.random.default_rng(0)
    columns = Columns(("x", "flag"), ())
    before = pd.DataFrame({"x": rng.normal(size=4000), "flag": (rng.random(4000) < 0.05) * 1.0})
    now = pd.DataFrame({"x": rng.normal(0.5, 1, 4000), "flag": (rng.random(4000) < 0.5) * 1.0})
    said = prepare_with(before, columns, 10)(now)
    edges = np.quantile(before["x"], np.linspace(0, 1, 11))
    p, q = (np.histogram(side["x"], edges)[0] / 4000 for side in (before, now))
    assert said.values["x"] == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=0.02)
    assert said.values["flag"] == 0  # 5 % to 50 %, and all in one bucket
    assert not prepare_with(before, columns, 10)(now.iloc[:0]).alarm


def checked(score: float | None, *, alarm: bool = False) -> Checked:
    return Checked(alarm, score, frozenset())


def test_a_limit_is_moved_until_no_more_undrifted_checks_alarm_than_the_budget_allows() -> None:
    undrifted = [checked(float(score)) for score in range(200)]
    limit = limit_at(undrifted, 0.01)
    assert limit == 197
    assert sum(found_at(undrifted, limit)) == 2
    assert limit_at(undrifted[:50], 0.01) == 49  # too few to allow one
    assert found_at([checked(None), checked(50.0)], 49) == [False, True]
    assert limit_at([checked(None)], 0.01) is None
    assert found_at([checked(None, alarm=True)], None) == [True]


def test_a_delay_is_counted_in_whole_runs_of_windows() -> None:
    found = [False, True, False, False, False, False, True]
    assert delays(found, 3) == [2, None]
    assert typical([2, None, 3]) == 3
    assert typical([None, None, 1]) is None
    assert typical([]) is None


def test_an_interval_of_a_share_is_that_of_clopper_and_pearson() -> None:
    low, high = interval(2, 200)
    assert low == pytest.approx(stats.beta.ppf(0.025, 2, 199))
    assert high == pytest.approx(stats.beta.ppf(0.975, 3, 198))
    assert math.isclose(interval(0, 10)[0], 0)


def test_what_a_table_shows_is_text(tmp_path: Path) -> None:
    line = {"figure": "false_alarms", "who": "<script>", "draws": "d", "rows": 50, "alarms": 0.5, "checks": 2}
    write_tables(tmp_path, [line], 0.01)
    assert "<script>" not in (tmp_path / "alarms.html").read_text()
