"""The pictures of a backtest show the numbers they were made from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.core.replay.advice import advise
from tasks.core.replay.backtest_chart import (
    compared_policies,
    frontier_figure,
    policy_marks,
    scores_figure,
    served_spans,
    staleness_figure,
)
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tests.backtests import LEVELS, START, made_backtest
from tests.make import make_spec

SPEC = make_spec(metric="accuracy", window={"training": "56d", "check": "7d"})


def named(figure: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {trace["name"]: trace for trace in figure["data"]}


def test_the_frontier_has_the_line_of_calendars_the_loop_with_its_interval_and_marked_others() -> None:
    result = made_backtest()
    advice = advise(result, SPEC)
    data = named(frontier_figure(result, advice))
    line, loop, others = data["fixed calendars"], data["the loop"], data["other policies"]
    assert (line["x"], line["y"], line["text"]) == ([0, 20, 80], [0.7, 0.74, 0.8], ["never", "4", "1"])
    assert (loop["x"], loop["y"]) == ([15], [0.75])
    held = advice.policy("loop")
    assert held is not None
    assert 0.75 + loop["error_y"]["array"][0] == pytest.approx(0.73 + held.above.high)
    assert 0.75 - loop["error_y"]["arrayminus"][0] == pytest.approx(0.73 + held.above.low)
    assert others["text"] == ["a", "b"]
    assert policy_marks(result.policies) == {"on decay": "a", "loop without second opinion": "b"}


def test_scores_over_time_stand_in_the_middle_of_their_windows_with_partners_and_versions() -> None:
    result = made_backtest(windows=40)
    loop = result.policy("loop")
    assert loop is not None
    figure = scores_figure(result, advise(result, SPEC))
    data = named(figure)
    assert [policy.name for policy in compared_policies(result)] == ["never", "every 4 windows", "loop"]
    assert data["loop"]["y"] == pytest.approx(loop.scores, abs=1e-6)
    assert data["loop"]["x"][0] == START.replace(hour=12, day=9).isoformat()
    assert data["with a second opinion"]["y"] == [data["loop"]["y"][place] for place in (19, 39)]
    assert data["staleness debt"]["y"] == pytest.approx(loop.debts, abs=1e-6)
    price, *bands = sorted(figure["layout"]["shapes"], key=lambda shape: shape["type"])
    assert price["y0"] == SPEC.retrain.price
    assert len(bands) == len(set(loop.versions))
    assert bands[0]["x0"] == START.isoformat()


def test_without_times_windows_are_numbered_from_one() -> None:
    result = replace(made_backtest(windows=10), starts=())
    figure = scores_figure(result, advise(result, SPEC))
    assert named(figure)["loop"]["x"] == [number + 0.5 for number in range(1, 11)]
    assert figure["layout"]["xaxis"]["title"]["text"] == "window"


def test_versions_span_their_unbroken_windows() -> None:
    policy = PolicyResult("loop", 0.5, 2, 0.0, versions=(1, 1, 2, 1))
    assert list(served_spans(policy)) == [(1, 0, 1), (2, 2, 2), (1, 3, 3)]


def test_the_staleness_curve_shows_loss_by_age_and_what_it_rests_on() -> None:
    result = made_backtest()
    curve = staleness_figure(result)["data"][0]
    assert curve["x"] == list(range(12))
    assert curve["y"] == pytest.approx([1 + 0.02 * age for age in range(12)])
    sizes = curve["marker"]["size"]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    "result",
    [
        Backtest("m", "r2", 1, (PolicyResult("never", None, 0, 0.1),)),
        Backtest("m", "r2", 0, ()),
        made_backtest(windows=1),
        made_backtest({"loop": LEVELS["loop"]}),
        made_backtest({"loop": LEVELS["loop"], "on decay": LEVELS["on decay"]}),
        made_backtest({"every window": LEVELS["every window"]}),
    ],
)
def test_every_backtest_has_pictures_that_json_can_hold(result: Backtest) -> None:
    advice = advise(result, SPEC)
    figures = (frontier_figure(result, advice), scores_figure(result, advice), staleness_figure(result))
    json.dumps(figures, allow_nan=False)
