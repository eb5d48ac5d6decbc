"""prefect.yaml on a real server with a real worker: deploying, events, late runs, refusals, silent deaths."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from prefect.events.actions import DoNothing

from deployments.automations import overdue, silent_runs
from deployments.declared import Deployment
from tasks.core.spec import parse_spec
from tests.live.live import POOL, ROOT, Live, live_place

pytestmark = [pytest.mark.engine]
DEMO = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["models"]["demo"]
FLOWS = ("score", "detect_drift", "monitor", "retrain", "promote", "rollback", "scorecard", "compact")
TRIGGER = "evergreen: demo: retrain when decided"

NAPS = """
import time
from prefect import flow
from prefect.states import Completed

@flow(name="nap", persist_result=False)
def nap(seconds: float = 8.0):
    time.sleep(seconds)
    return Completed(name="Rested")
"""
NAP_DEPLOYMENTS = f"""
deployments:
  - name: storm
    entrypoint: naps.nap
    tags: [evergreen]
    work_pool: {{name: {POOL}}}
    concurrency_limit: {{limit: 1, collision_strategy: CANCEL_NEW}}
  - name: dies
    entrypoint: naps.nap
    tags: [evergreen]
    work_pool: {{name: {POOL}}}
    concurrency_limit: {{limit: 1, collision_strategy: CANCEL_NEW}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server on which prefect.yaml of the repository is deployed, without a worker yet."""
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "naps.py").write_text(NAPS)
    with live_place(folder, PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)])) as live:
        live.start_server()
        live.run("prefect", "work-pool", "create", POOL, "--type", "process")
        live.run("prefect", "--no-prompt", "deploy", "--all")
        yield live


def on_server(place: Live) -> dict[str, Any]:
    """What a person would notice of the demo's deployments: ids, schedules, switches, triggers."""
    found = {flow: place.deployment(f"{flow}/demo") for flow in FLOWS}
    automations = place.post("/automations/filter")
    return {
        "deployments": {
            flow: {key: value for key, value in one.items() if key not in ("updated", "schedules")}
            for flow, one in found.items()
        },
        "schedules": {
            flow: [(each["id"], each["slug"], each["active"], each["schedule"]) for each in one["schedules"]]
            for flow, one in found.items()
        },
        "triggers": {
            one["name"]: {key: one[key] for key in ("enabled", "description", "actions")}
            | {key: one["trigger"][key] for key in ("match", "expect", "for_each", "threshold", "within")}
            for one in automations
        },
    }


def refused(place: Live, flow: str, **parameters: Any) -> str:
    """Return why the server refuses a run with these parameters, with 409."""
    identity = place.deployment(f"{flow}/demo")["id"]
    url = f"{place.api}/deployments/{identity}/create_flow_run"

    def answered() -> httpx.Response | None:
        got = httpx.post(url, json={"parameters": parameters}, timeout=60)
        return None if got.status_code == 503 else got

    answer = place.wait(answered, 120, "an answer to a wish for a run")
    assert answer.status_code == 409, answer.text[:500]
    return str(answer.json()["detail"])


def fired(place: Live, automation: str) -> int:
    """Return how often the automation of this id has been triggered."""
    events = place.post(
        "/events/filter",
        filter={
            "event": {"name": ["prefect.automation.triggered"]},
            "resource": {"id": [f"prefect.automation.{automation}"]},
        },
    )
    return int(events["total"])


def finished(place: Live, kind: str, name: str, *tags: str) -> str:
    """Make a run with these tags that ends at once in a state of this type and name; return its id."""
    flow = place.post("/flows/", name="stand-in")
    run = place.post("/flow_runs/", flow_id=flow["id"], tags=list(tags), state={"type": "RUNNING"})
    place.post(f"/flow_runs/{run['id']}/set_state", state={"type": kind, "name": name})
    return str(run["id"])


def keep_completing(place: Live, seconds: float, *tags: str) -> None:
    """Let one run after the other complete for so long, each when the server knows of the one before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run = finished(place, "COMPLETED", "Drift", *tags)
        asked = {
            "event": {"name": ["prefect.flow-run.Drift"]},
            "resource": {"id": [f"prefect.flow-run.{run}"]},
        }
        place.wait(
            lambda asked=asked: place.post("/events/filter", filter=asked)["total"],
            30, "the event of a completed run",
        )  # fmt: skip


def asked_for(place: Live, deployment: str, body: dict[str, Any]) -> bool:
    """Return whether the server took the wish for a run."""
    return httpx.post(f"{place.api}/deployments/{deployment}/create_flow_run", json=body).is_success


def state_of(place: Live, run: str) -> str:
    return str(place.get(f"/flow_runs/{run}")["state_type"])


def test_the_deployments_of_the_demo_are_there_and_a_second_deploy_changes_nothing(place: Live) -> None:
    before = on_server(place)
    retrain = before["deployments"]["retrain"]
    assert retrain["entrypoint"] == "flows.retrain.retrain"
    assert retrain["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    for flow in ("score", "detect_drift"):  # what the twenty late runs below are started as
        assert before["deployments"][flow]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert retrain["global_concurrency_limit"]["limit"] == 1
    assert set(retrain["tags"]) == {"evergreen", "model:demo", "flow:retrain"}
    assert retrain["parameters"] == {"spec": DEMO}
    assert [slug for _, slug, _, _ in before["schedules"]["monitor"]] == ["hourly"]
    assert before["schedules"]["promote"] == before["schedules"]["rollback"] == []
    assert list(before["triggers"]) == [TRIGGER]

    place.run("prefect", "--no-prompt", "deploy", "--all")
    assert on_server(place) == before


def test_events_of_one_decision_start_one_run_that_carries_its_id(place: Live) -> None:
    decision = "20260101"  # digits only, to see that it stays text
    resource = {
        "prefect.resource.id": "evergreen.model.demo",
        "prefect.resource.name": "demo",
        "evergreen.decision": decision,
    }
    other = {**resource, "prefect.resource.id": "evergreen.model.other"}
    for body in [other, *[resource] * 5]:
        event = {
            "event": "evergreen.decision.train", "id": str(uuid4()), "resource": body,
            "occurred": datetime.now(UTC).isoformat(), "payload": {"decision_id": decision},
        }  # fmt: skip
        url = f"{place.api}/events"
        place.wait(lambda event=event, url=url: httpx.post(url, json=[event]).is_success, 60, "an event")
    (run,) = place.wait(lambda: place.runs("retrain/demo"), 60, "the run of the decision")
    assert run["parameters"] == {"spec": DEMO, "decision_id": decision, "reason": "event"}
    assert {"evergreen", "model:demo", "flow:retrain"} <= set(run["tags"])
    place.delete(f"/flow_runs/{run['id']}")


def test_wrong_parameters_are_refused_before_a_run_exists(place: Live) -> None:
    bound = {**DEMO, "drift": {**DEMO["drift"], "false_alarms": 0.9}}
    assert "spec.drift.false_alarms" in refused(place, "retrain", spec=bound)
    assert "bogus" in refused(place, "retrain", spec={**DEMO, "bogus": 1})
    missing = {name: value for name, value in DEMO.items() if name != "label"}
    assert "'label' is a required property" in refused(place, "detect_drift", spec=missing)
    assert "dry_run" in refused(place, "rollback", dry_run="perhaps")
    assert "verdict" in refused(place, "promote", verdict="maybe")
    assert place.runs("retrain/demo") == []


def test_the_form_of_a_retraining_reads_well(place: Live) -> None:
    schema = place.deployment("retrain/demo")["parameter_openapi_schema"]
    fields = schema["properties"]
    order = sorted(fields, key=lambda name: fields[name]["position"])
    assert order == ["as_of", "reason", "decision_id", "dry_run", "force", "spec"]  # the long one last
    assert all(fields[name].get("title") and fields[name].get("description") for name in fields)
    model = schema["definitions"]["ModelSpec"]["properties"]
    for name, field in model.items():
        part = schema["definitions"].get(str(field.get("$ref", "")).rpartition("/")[2], {})
        assert "position" in field, name
        assert field.get("description") or part.get("description"), name


@pytest.mark.slow  # two and a half minutes of waiting for the clock
def test_an_overdue_check_is_told_again_and_again_and_a_completed_run_of_any_name_ends_it(
    place: Live,
) -> None:
    spec = parse_spec(DEMO)
    watched = Deployment("monitor", "demo", {}, spec, {})
    automation = overdue(watched, timedelta(seconds=20), [DoNothing()])
    made = place.post("/automations/", **automation.model_dump(mode="json", exclude={"owner_resource"}))
    tags = ("evergreen", "model:demo", "flow:monitor")
    # Nothing ever completed: told, and told again.
    place.wait(lambda: fired(place, made["id"]) >= 2, 120, "two alarms about a check that never ran")

    # It completes every few seconds, under a name of our own: silence.
    keep_completing(place, 25, *tags)
    before = fired(place, made["id"])
    keep_completing(place, 45, *tags)
    assert fired(place, made["id"]) == before
    # Runs that fail, and runs of another model or flow, are no completed check.
    finished(place, "FAILED", "Failed", *tags)
    finished(place, "COMPLETED", "Ok", "evergreen", "model:other", "flow:monitor")
    finished(place, "COMPLETED", "Ok", "evergreen", "model:demo", "flow:score")
    place.wait(lambda: fired(place, made["id"]) > before, 90, "an alarm after the last completed check")
    place.delete(f"/automations/{made['id']}")


@pytest.mark.slow  # two minutes of a server busy with twenty starts
def test_twenty_late_runs_collapse_into_one(place: Live) -> None:
    (place.folder / "naps.yaml").write_text(NAP_DEPLOYMENTS)
    place.run("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "naps.yaml")
    identity = place.deployment("nap/storm")["id"]
    for hours in range(20, 0, -1):
        past = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": past}}
        body = {"state": state, "parameters": {"seconds": 20}, "idempotency_key": f"late-{hours}"}
        # A server on SQLite answers 503 now and then while it writes; the key makes asking again harmless.
        place.wait(lambda body=body: asked_for(place, identity, body), 120, "a late run")
    place.start_worker()

    def ended() -> list[dict[str, Any]] | None:
        runs = place.runs("nap/storm")
        busy = {run["state_type"] for run in runs} & {"SCHEDULED", "PENDING", "RUNNING"}
        return None if busy else runs

    # Twenty processes start at once on a small machine: asked seldom, for the server needs the time.
    runs = place.wait(ended, 480, "the end of twenty late runs", every=3)
    assert len(runs) == 20
    assert [run["state_type"] for run in runs].count("COMPLETED") == 1
    # The others never began: cancelled by the limit, or given up by a server too busy to answer.
    for run in runs:
        if run["state_type"] != "COMPLETED":
            assert run["state_type"] in ("CANCELLED", "CRASHED"), run
            assert run["total_run_time"] == 0, run


def test_a_run_whose_worker_and_process_are_killed_is_crashed_and_holds_nobody_up(place: Live) -> None:
    place.post("/automations/", **silent_runs().model_dump(mode="json", exclude={"owner_resource"}))
    if "worker" not in place.processes:
        place.start_worker()
    (place.folder / "naps.yaml").write_text(NAP_DEPLOYMENTS)
    place.run("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "naps.yaml")
    identity = place.deployment("nap/dies")["id"]
    run = place.post(f"/deployments/{identity}/create_flow_run", parameters={"seconds": 900})["id"]
    place.wait(lambda: state_of(place, run) == "RUNNING", 120, "the run")
    well = finished(place, "COMPLETED", "Promoted", "evergreen")
    worker = place.processes.pop("worker")
    for process in reversed(_with_children(worker.pid)):
        os.kill(process, signal.SIGKILL)
    worker.wait(20)
    died = time.monotonic()
    place.wait(lambda: state_of(place, run) == "CRASHED", 180, "the end of a run without a process")
    assert time.monotonic() - died < 120
    assert "No heartbeat for 90 s" in place.get(f"/flow_runs/{run}")["state"]["message"]
    assert state_of(place, well) == "COMPLETED", "a run that ended under a name of its own is not silent"

    place.start_worker()
    after = place.post(f"/deployments/{identity}/create_flow_run", parameters={"seconds": 0})["id"]
    place.wait(lambda: state_of(place, after) == "COMPLETED", 120, "the run after the dead one")


def _with_children(process: int) -> list[int]:
    """Return the process and all it started, parents first."""
    found, at = [process], 0
    while at < len(found):
        for thread in Path(f"/proc/{found[at]}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
        at += 1
    return found
