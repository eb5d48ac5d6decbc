"""The models and deployments that stand in the repository are valid; the demo's block is the simulation's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from deployments.automations import longest_gap
from deployments.checks import triggers_of
from deployments.declared import read_files
from tasks.core.errors import SpecError
from tasks.core.replay.simulate import demo_spec
from tasks.core.spec import parse_spec
from tasks.core.window import parse_duration
from tasks.specfile import load_spec, model_blocks

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "prefect.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]


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
def test_every_model_has_all_seven_deployments_and_one_trigger(file: Path) -> None:
    deployments = read_files([file])
    (model,) = model_blocks(file)
    flows = {"score", "detect_drift", "monitor", "retrain", "promote", "rollback", "scorecard"}
    assert {one.full_name for one in deployments} == {f"{flow}/{model}" for flow in flows}
    triggers = {one.flow: triggers_of(one.written) for one in deployments}
    assert [flow for flow, found in triggers.items() if found] == ["retrain"]
    (trigger,) = triggers["retrain"]
    assert trigger.expect == {"evergreen.decision.train"}
    assert trigger.for_each == {"evergreen.decision"}
    assert trigger.within.total_seconds() == 300
    for one in deployments:
        assert one.written["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
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
