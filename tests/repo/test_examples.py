"""The models and deployments that stand in the repository are valid; the demo's block is the simulation's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from deployments.automations import SILENT, longest_gap
from deployments.checks import triggers_of
from deployments.declared import read_files
from tasks.core.errors import SpecError
from tasks.core.replay.simulate import demo_spec
from tasks.core.spec import parse_spec
from tasks.core.window import parse_duration
from tasks.specfile import load_spec, model_blocks

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "prefect.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]
IN_TURN = ("retrain", "promote", "rollback")  # a decision and a person's wish wait, they are not cancelled


@pytest.mark.parametrize(
    ("file", "model"), [(file, name) for file in FILES for name in model_blocks(file)], ids=str
)
def test_every_model_block_of_the_repository_is_valid(file: Path, model: str) -> None:
    assert load_spec(model, file).features.all


def test_the_demo_block_is_the_block_of_the_simulation() -> None:
    block = demo_spec()
    url = model_blocks(ROOT / "prefect.yaml")["demo"]["source"]["url"]
    block["source"] = {**block["source"], "url": url}
    assert load_spec("demo", ROOT / "prefect.yaml") == parse_spec(block)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_model_has_all_eight_deployments_and_one_trigger(file: Path) -> None:
    deployments = read_files([file])
    (model,) = model_blocks(file)
    flows = {"score", "detect_drift", "monitor", "retrain", "promote", "rollback", "scorecard", "compact"}
    assert {one.full_name for one in deployments} == {f"{flow}/{model}" for flow in flows}
    triggers = {one.flow: triggers_of(one.written) for one in deployments}
    assert [flow for flow, found in triggers.items() if found] == ["retrain"]
    (trigger,) = triggers["retrain"]
    assert trigger.expect == {"evergreen.decision.train"}
    assert trigger.for_each == {"evergreen.decision"}
    assert trigger.within.total_seconds() == 300
    for one in deployments:
        collision = "ENQUEUE" if one.flow in IN_TURN else "CANCEL_NEW"
        assert one.written["concurrency_limit"] == {"limit": 1, "collision_strategy": collision}
        # Whoever starts the worker, and wherever: three of these are what a run may be silent.
        sent = one.written["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
        assert sent == "30"
        assert timedelta(seconds=3 * int(sent)) <= SILENT
        assert one.written["enforce_parameter_schema"] is True
        assert len(one.written["description"]) > 40
        assert one.spec == load_spec(model, file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_checks_come_at_least_once_per_check_window_and_the_outbox_every_hour(file: Path) -> None:
    for one in read_files([file]):
        gap = longest_gap(one.written["schedules"])
        if one.flow in ("score", "detect_drift"):
            assert gap is not None, "a check that nobody schedules"
            assert gap <= parse_duration(one.spec.window.check), "a row that no check looks at"
        if one.flow == "monitor":
            assert gap == timedelta(hours=1)
        if one.flow in ("promote", "rollback"):
            assert gap is None, "what moves the champion is started by a person"


def test_a_model_declared_in_two_files_is_refused() -> None:
    with pytest.raises(SpecError, match="score/demo declared twice"):
        read_files([ROOT / "prefect.yaml", ROOT / "prefect.yaml"])


def every(*crons: str) -> list[dict[str, str]]:
    return [{"cron": cron, "timezone": "UTC", "slug": cron} for cron in crons]


@pytest.mark.parametrize(
    ("crons", "gap"),
    [
        (("0 * * * *",), timedelta(hours=1)),
        (("15 * * * *", "0 5 * * 1"), timedelta(hours=1)),
        (("*/15 * * * 1-5",), timedelta(days=2, minutes=15)),
        (("* 8-17 * * 1-5",), timedelta(days=2, hours=14, minutes=1)),
        (("0 3 1 * *",), timedelta(days=31)),
        (("0 3 1 * *", "0 3 * * 1"), timedelta(days=7)),
        (("* * * * *", "0 0 1 1 *"), timedelta(minutes=1)),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, tuple) else "",
)
def test_the_longest_gap_sees_weekends_and_follows_every_schedule_equally_far(
    crons: tuple[str, ...], gap: timedelta
) -> None:
    assert longest_gap(every(*crons)) == gap


def test_an_interval_without_an_anchor_has_one_gap_whenever_it_is_asked() -> None:
    schedules = [{"interval": 3600, "slug": "hourly"}, *every("30 0 * * *")]
    assert longest_gap(schedules) == timedelta(hours=1)
    assert longest_gap([{**schedules[0], "active": False}, *every("0 3 * * 1")]) == timedelta(days=7)
    assert longest_gap([{**schedules[0], "active": False}]) is None
