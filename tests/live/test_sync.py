"""sync brings a real server to what the files say, removes what they no longer say, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.sync import main
from tests.live.live import ROOT, Live, live_place

pytestmark = [pytest.mark.engine]
SYNC = str(ROOT / "deployments" / "sync.py")
DEPLOYED = ("score", "monitor", "retrain")
FULL = yaml.safe_load((ROOT / "prefect.yaml").read_text())


def declaration() -> dict[str, Any]:
    """Three of the demo's deployments, as prefect.yaml has them."""
    some = [one for one in FULL["deployments"] if one["entrypoint"].split(".")[1] in DEPLOYED]
    return yaml.safe_load(yaml.safe_dump({"name": "evergreen", "deployments": some}))


def change(place: Live, edit: Callable[[dict[str, dict[str, Any]]], Any]) -> None:
    """Write prefect.yaml of this place anew, its deployments by flow edited."""
    content = declaration()
    by_flow = {one["entrypoint"].split(".")[1]: one for one in content["deployments"]}
    edit(by_flow)
    content["deployments"] = list(by_flow.values())
    (place.folder / "prefect.yaml").write_text(yaml.safe_dump(content))


def sync(place: Live, *options: str, code: int = 0) -> str:
    """Run sync as a command would and return what it said; its exit code has to be `code`.

    In this process, since its imports cost more than its work; one test below starts it as a user does.
    """
    said = StringIO()
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, place.environment(), clear=True))
        stack.enter_context(temporary_settings({PREFECT_API_URL: place.api}))
        stack.enter_context(chdir(place.folder))
        stack.enter_context(redirect_stdout(said))
        stack.enter_context(redirect_stderr(said))
        ended = main(options)
    assert ended == code, f"{ended}: {said.getvalue()[-3000:]}"
    return said.getvalue()


def automations(place: Live) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in place.post("/automations/filter", limit=200)}


def deployments(place: Live) -> dict[str, dict[str, Any]]:
    flows = {flow["id"]: flow["name"] for flow in place.post("/flows/filter")}
    found = place.post("/deployments/filter", limit=200)
    return {f"{flows[one['flow_id']]}/{one['name']}": one for one in found}


def lasting(place: Live) -> dict[str, Any]:
    """Everything on the server that a second sync must not change: ids, times of creation, switches."""
    there = deployments(place)
    return {
        "deployments": {name: (one["id"], one["updated"], one["paused"]) for name, one in there.items()},
        "schedules": {
            (name, schedule["slug"]): (schedule["id"], schedule["active"], schedule["schedule"])
            for name, one in there.items()
            for schedule in one["schedules"]
        },
        "automations": {name: (one["id"], one["enabled"]) for name, one in automations(place).items()},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server without a pool, three deployments in prefect.yaml, and a foreign deployment and automation."""
    with live_place(tmp_path_factory.mktemp("sync")) as live:
        live.start_server()
        flow = live.post("/flows/", name="foreign")
        live.post("/deployments/", name="demo", flow_id=flow["id"], tags=["model:demo"])
        live.post("/automations/", **foreign_automation())
        yield live


@pytest.fixture
def synced(place: Live) -> Live:
    """The place after a sync of its three deployments."""
    change(place, lambda _: None)
    sync(place)
    return place


def foreign_automation() -> dict[str, Any]:
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "expect": ["somebody.else"],
        "within": 0,
        "threshold": 1,
    }
    return {"name": "somebody else's", "trigger": trigger, "actions": [{"type": "do-nothing"}]}


def test_a_fresh_server_gets_pool_deployments_and_automations_and_a_second_sync_changes_nothing(
    place: Live,
) -> None:
    change(place, lambda _: None)
    seen = sync(place, "--check", code=3)
    assert "work pool" in seen
    assert "to remove" in seen
    assert set(deployments(place)) == {"foreign/demo"}, "a check changes nothing"
    said = sync(place, "--dry-run")
    assert set(deployments(place)) == {"foreign/demo"}, "a dry run changes nothing"
    assert all(f"{flow}/demo" in said for flow in DEPLOYED)

    sync(place)
    there = deployments(place)
    assert set(there) == {"foreign/demo", *(f"{flow}/demo" for flow in DEPLOYED)}
    collisions = {
        name: one["concurrency_options"]["collision_strategy"]
        for name, one in there.items()
        if name != "foreign/demo"
    }
    assert collisions == {
        "score/demo": "CANCEL_NEW",
        "monitor/demo": "CANCEL_NEW",
        "retrain/demo": "ENQUEUE",
    }
    assert there["score/demo"]["job_variables"] == {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}}
    assert place.get("/work_pools/evergreen")["type"] == "process"
    assert {
        "evergreen: silent runs are crashed",
        "evergreen: demo: retrain when decided",
        "evergreen: demo: monitor is overdue",
    } <= set(automations(place))

    before = lasting(place)
    assert "the server has what is declared" in place.run(sys.executable, SYNC).stdout
    assert lasting(place) == before
    assert "the server has what is declared" in sync(place, "--check", code=0)


def test_what_is_not_declared_any_more_is_removed_and_the_foreign_stays(synced: Live) -> None:
    assert len(deployments(synced)["monitor/demo"]["schedules"]) == 1

    def edit(by_flow: dict[str, dict[str, Any]]) -> None:
        by_flow["monitor"]["schedules"] = []
        by_flow["retrain"].pop("triggers")
        by_flow.pop("score")

    change(synced, edit)
    said = sync(synced)
    assert "monitor/demo: hourly" in said
    there = deployments(synced)
    assert set(there) == {"foreign/demo", "monitor/demo", "retrain/demo"}
    assert there["monitor/demo"]["schedules"] == []
    waiting = synced.post(
        "/flow_runs/filter",
        flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
        deployments={"id": {"any_": [there["monitor/demo"]["id"]]}},
    )
    assert waiting == [], "runs of a schedule that is gone"
    left = set(automations(synced))
    assert "evergreen: demo: retrain when decided" not in left
    assert "evergreen: demo: monitor is overdue" not in left
    assert "evergreen: demo: score is overdue" not in left
    assert "somebody else's" in left


def test_what_a_person_paused_or_switched_off_stays_so_when_it_changes(synced: Live) -> None:
    there = deployments(synced)
    score, monitor, retrain = (there[f"{flow}/demo"] for flow in DEPLOYED)
    path = "/deployments"
    schedule = f"{path}/{monitor['id']}/schedules/{monitor['schedules'][0]['id']}"
    synced.patch(schedule, active=False)
    synced.post(f"{path}/{score['id']}/pause_deployment")
    for name in ("evergreen: demo: retrain when decided", "evergreen: demo: score is overdue"):
        identity = automations(synced)[name]["id"]
        synced.patch(f"/automations/{identity}", enabled=False)

    def edit(by_flow: dict[str, dict[str, Any]]) -> None:
        for one in by_flow.values():
            one["concurrency_limit"]["limit"] = 2
        by_flow["score"]["schedules"][0]["cron"] = "0 1 * * 1"

    change(synced, edit)
    sync(synced)
    there = deployments(synced)
    assert {
        one["global_concurrency_limit"]["limit"] for name, one in there.items() if name != "foreign/demo"
    } == {2}
    assert there["score/demo"]["schedules"][0]["schedule"]["cron"] == "0 1 * * 1"
    assert there["score/demo"]["paused"] is True
    assert there["monitor/demo"]["schedules"][0]["active"] is False
    assert there["retrain/demo"]["id"] == retrain["id"]
    switched = {name: one["enabled"] for name, one in automations(synced).items()}
    assert switched["evergreen: demo: retrain when decided"] is False
    assert switched["evergreen: demo: score is overdue"] is False
    assert switched["evergreen: demo: monitor is overdue"] is True
    # Back on, for the tests after this one.
    synced.patch(schedule, active=True)
    synced.post(f"{path}/{score['id']}/resume_deployment")


@pytest.mark.slow
def test_what_the_file_says_of_pauses_wins_over_the_server(synced: Live) -> None:
    def off(by_flow: dict[str, dict[str, Any]]) -> None:
        by_flow["score"]["paused"] = True
        by_flow["monitor"]["schedules"][0]["active"] = False

    change(synced, off)
    said = sync(synced)
    assert "paused" in said
    there = deployments(synced)
    assert there["score/demo"]["paused"] is True
    assert there["monitor/demo"]["schedules"][0]["active"] is False
    watches = {"evergreen: demo: score is overdue", "evergreen: demo: monitor is overdue"}
    assert not watches & set(automations(synced))

    def on(by_flow: dict[str, dict[str, Any]]) -> None:
        by_flow["score"]["paused"] = False
        by_flow["monitor"]["schedules"][0]["active"] = True

    change(synced, on)
    sync(synced)
    there = deployments(synced)
    assert there["score/demo"]["paused"] is False
    assert there["monitor/demo"]["schedules"][0]["active"] is True
    assert watches <= set(automations(synced))


def test_another_models_deployments_are_left_alone_until_asked(synced: Live) -> None:
    def as_churn(by_flow: dict[str, dict[str, Any]]) -> None:
        one = by_flow["score"]
        by_flow.clear()
        one["parameters"]["spec"]["name"] = one["name"] = "churn"
        one["tags"] = ["evergreen", "model:churn", "flow:score"]
        by_flow["score"] = one

    change(synced, as_churn)
    said = sync(synced)
    assert "demo: 3 deployments of a model no file here declares; left alone" in said
    assert {"score/churn", "score/demo", "monitor/demo", "retrain/demo"} <= set(deployments(synced))
    assert "evergreen: demo: retrain when decided" in automations(synced)

    sync(synced, "--prune")
    assert set(deployments(synced)) == {"foreign/demo", "score/churn"}
    assert not [name for name in automations(synced) if name.startswith("evergreen: demo")]
    assert "somebody else's" in automations(synced)

    change(synced, lambda _: None)
    sync(synced, "--prune")
    assert "score/churn" not in deployments(synced)


def test_a_deployment_deleted_by_hand_comes_back_and_its_orphaned_trigger_goes(synced: Live) -> None:
    name = "evergreen: demo: retrain when decided"
    orphan = automations(synced)[name]["id"]
    lost = deployments(synced)["retrain/demo"]["id"]
    synced.delete(f"/deployments/{lost}")
    assert automations(synced)[name]["id"] == orphan, "Prefect leaves the trigger of a deleted deployment"
    sync(synced)
    again = deployments(synced)["retrain/demo"]["id"]
    (trigger,) = [one for one in synced.post("/automations/filter", limit=200) if one["name"] == name]
    assert trigger["id"] != orphan
    assert trigger["actions"][0]["deployment_id"] == again != lost


def test_a_channel_of_the_model_is_told_of_an_overdue_check(synced: Live) -> None:
    types = synced.get("/block_types/slug/slack-webhook")
    schemas = synced.post("/block_schemas/filter", block_schemas={"block_type_id": {"any_": [types["id"]]}})
    made = synced.post(
        "/block_documents/",
        name="ml",
        block_type_id=types["id"],
        block_schema_id=schemas[0]["id"],
        data={"url": "https://hooks.slack.com/services/T0/B0/x"},
    )

    def edit(by_flow: dict[str, dict[str, Any]]) -> None:
        for one in by_flow.values():
            one["parameters"]["spec"]["alerts"] = {"critical": ["slack/ml"], "warning": ["email/absent"]}

    change(synced, edit)
    said = sync(synced)
    assert "demo: no block email/absent that the server itself can send through" in said
    actions = automations(synced)["evergreen: demo: monitor is overdue"]["actions"]
    assert [(one["type"], one["block_document_id"]) for one in actions] == [("send-notification", made["id"])]
    assert "hooks.slack.com" not in said
