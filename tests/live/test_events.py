"""A decision leaves its process and is carried out once, on a real server with a real worker."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.core.errors import LaunchError
from tasks.core.policy.decision import Decision
from tasks.core.spec import ModelSpec
from tasks.launch import launch_retraining
from tasks.launching import deployed
from tasks.launching.emit import EVENT, emit_decision, event_id
from tasks.reconcile import Reconciled, relaunch_unanswered
from tasks.register import champion
from tasks.settings import Settings
from tasks.store import ledger
from tasks.store.engine import close_stores, open_store
from tests.live.live import POOL, ROOT, Live, live_place, outcome
from tests.make import START, make_frame, make_spec, spec_block

pytestmark = [pytest.mark.engine]

MODELS = ("alpha", "beta", "gamma", "delta")
AS_OF = START + timedelta(days=30)
DAY = timedelta(days=1)


def source(folder: Path) -> dict[str, str]:
    return {"url": str(folder / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}


def declared(folder: Path) -> dict[str, Any]:
    """Return the deployment file of this place: what ships for retraining, for models of our own."""
    shipped = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (retrain,) = (one for one in shipped if one["entrypoint"] == "flows.retrain.retrain")
    (trigger,) = retrain["triggers"]
    made = []
    for model in (*MODELS, "idle"):
        own = {
            **trigger,
            "name": f"retrain {model}",
            "match": {"prefect.resource.id": f"evergreen.model.{model}"},
        }
        spec = {"spec": spec_block(name=model, source=source(folder))}
        pool = {"work_pool": {"name": "nobody"}} if model == "idle" else {}
        made.append(
            {**retrain, "name": model, "parameters": spec, "schedules": [], "triggers": [own], **pool}
        )
    return {"name": "evergreen", "deployments": made}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, registry_file: Path) -> Iterator[Live]:
    """A server with a deployment per model, a worker, and data to train on."""
    with live_place(tmp_path_factory.mktemp("events")) as place:
        place.state.mkdir()
        shutil.copy(registry_file, place.state / "mlflow.db")
        make_frame(1500).to_parquet(place.folder / "rows.parquet")
        (place.folder / "prefect.yaml").write_text(yaml.safe_dump(declared(place.folder)))
        place.start_server()
        place.post("/work_pools/", name="nobody", type="process")
        place.start_worker()
        place.run("prefect", "--no-prompt", "deploy", "--all")
        yield place
        close_stores()


@pytest.fixture(autouse=True)
def here(live: Live) -> Iterator[Settings]:
    """This process as one of that place."""
    with temporary_settings({PREFECT_API_URL: live.api}):
        yield Settings(state_dir=live.state, launch="event", threads=1)


def spec_of(live: Live, model: str, **over: Any) -> ModelSpec:
    return make_spec(name=model, source=source(live.folder), **over)


def decided(
    here: Settings, model: str, *, written: timedelta = timedelta(0), at: datetime = AS_OF
) -> Decision:
    """Return a decision to train that is on record, named for this test."""
    decision = Decision("TRAIN", "decay", ("score fell",), f"train-decay-{uuid4().hex[:16]}")
    now = datetime.now(UTC) - written
    ledger.record_decision(open_store(here), decision, model=model, at=at, run_id="check-run", now=now)
    return decision


def runs_of(live: Live, model: str, decision: str) -> list[dict[str, Any]]:
    return [run for run in live.runs(f"retrain/{model}") if run["parameters"]["decision_id"] == decision]


def ended(live: Live, model: str, decision: str, seconds: float = 180) -> str:
    """Return the outcome of the only run of this decision."""

    def final() -> str | None:
        found = runs_of(live, model, decision)
        over = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        done = [outcome(run["state"]) for run in found if run["state_type"] in over]
        return str(done[0]) if found and len(done) == len(found) == 1 else None

    return str(live.wait(final, seconds, f"the end of a run of retrain/{model}"))


def outcomes(here: Settings, model: str) -> list[tuple[str, str, int | None]]:
    return [(row.decision_id, row.action, row.to_version) for row in ledger.history(open_store(here), model)]


def test_two_decisions_on_two_models_become_two_champions(live: Live, here: Settings) -> None:
    made = {model: decided(here, model) for model in ("alpha", "beta")}
    for model, decision in made.items():
        launched = launch_retraining(spec_of(live, model), decision, as_of=AS_OF, settings=here)
        assert (launched.started, launched.outcome) == (True, "asked")
    for model, decision in made.items():
        assert ended(live, model, decision.id) == "Promoted"
        (run,) = live.runs(f"retrain/{model}")
        assert run["parameters"] | {"spec": None} == {
            "spec": None,
            "decision_id": decision.id,
            "reason": "event",
        }
        assert run["name"].removesuffix(" · Promoted") == f"{model}: retrain (event)"  # it follows the end
        assert outcomes(here, model) == [(decision.id, "promoted", 1)]
        (row,) = ledger.history(open_store(here), model)
        assert AS_OF <= row.at < AS_OF + timedelta(minutes=10)  # in the decision's time, not by the clock
        serving = champion.fn(model, settings=here)
        assert (row.cause, serving.manifest.decision["caused_by"]) == ("decay", "check-run")


DIES = """
import os, sys
from datetime import datetime, UTC
from tasks import decide, launch
from tasks.core.policy.decision import Evidence
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
spec = ModelSpec.model_validate_json(sys.argv[1])
as_of = datetime.fromisoformat(sys.argv[2])
evidence = Evidence(as_of, has_champion=False, window=Window.ending(as_of, spec.window.check))
decision = decide.reach_decision.fn(spec, evidence)
print(decision.id, decision.kind, flush=True)
os._exit(9)
launch.launch_retraining(spec, decision, as_of=as_of)
"""


def test_a_check_that_dies_between_decision_and_launch_is_made_good_once(live: Live, here: Settings) -> None:
    spec = spec_of(live, "delta")
    given = (spec.model_dump_json(), AS_OF.isoformat())
    died = live.run(sys.executable, "-c", DIES, *given, cwd=ROOT, check=False)
    assert died.returncode == 9, died.stderr
    decision, kind = died.stdout.split()
    assert (kind, runs_of(live, "delta", decision)) == ("TRAIN", [])
    live.wait(lambda: quiet(live, "delta"), 120, "the end of earlier runs")

    def monitored(_: int) -> Reconciled:
        with temporary_settings({PREFECT_API_URL: live.api}):  # a thread's settings are its own
            found: Reconciled = relaunch_unanswered.fn(spec, settings=here)
            return found

    with ThreadPoolExecutor(3) as pool:  # any number of monitors at once
        found = list(pool.map(monitored, range(3)))
    assert [each.stuck for each in found] == [()] * 3
    assert sum(one.started for each in found for one in each.launched) == 1
    assert ended(live, "delta", decision) == "Promoted"
    assert outcomes(here, "delta") == [(decision, "promoted", 1)]
    assert relaunch_unanswered.fn(spec, settings=here).launched == ()


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("alpha", {"written": 3 * DAY + timedelta(hours=1)}, "decided 3 days ago"),
        ("beta", {"at": datetime.now(UTC) + DAY}, "ahead of this clock"),
        ("delta", None, "no decision forged to train on record"),
    ],
)
def test_an_event_of_a_decision_that_does_not_stand_starts_nothing(
    live: Live, here: Settings, model: str, given: dict[str, Any] | None, said: str
) -> None:
    before = outcomes(here, model)
    live.wait(lambda: quiet(live, model), 120, "the end of earlier runs")
    decision = "forged" if given is None else decided(here, model, **given).id
    emit_decision(model, decision)  # as if sent while it stood, or by somebody else
    assert ended(live, model, decision) == "Skipped"
    (run,) = runs_of(live, model, decision)
    assert said in run["state"]["message"]
    assert outcomes(here, model) == before


def quiet(live: Live, model: str) -> bool:
    return all(
        run["state_type"] not in {"SCHEDULED", "PENDING", "RUNNING"} for run in live.runs(f"retrain/{model}")
    )


def test_a_launched_deployment_is_one_run_and_its_failure_is_ours(live: Live, here: Settings) -> None:
    spec = make_spec(name="alpha", source={**source(live.folder), "url": str(live.folder / "gone.parquet")})
    place = here.model_copy(update={"launch": "deployment"})
    later = AS_OF + timedelta(days=1)  # a decision that an earlier retraining has not overtaken
    decision = decided(here, "alpha", at=later)
    live.wait(lambda: quiet(live, "alpha"), 120, "the end of earlier runs")
    first = launch_retraining(spec, decision, as_of=later, settings=place, wait_seconds=0)
    (run,) = runs_of(live, "alpha", decision.id)
    assert (first.run_id, first.outcome) == (run["id"], "scheduled")
    assert first.link == f"{live.api.removesuffix('/api')}/runs/flow-run/{run['id']}"
    with pytest.raises(LaunchError, match=f"retraining {run['id']} ended Failed"):
        launch_retraining(spec, decision, as_of=later, settings=place, wait_seconds=180)
    assert len(runs_of(live, "alpha", decision.id)) == 1


def test_a_pool_without_a_worker_is_named(live: Live) -> None:
    asked = deployed.ask("retrain/idle", {"decision_id": "d"}, model="idle")
    assert deployed.watch(asked, 1) is None
    said = deployed.why_nobody(asked, 1)
    assert said == (
        f"no worker of pool 'nobody' took run {asked.id} for 1 s: "
        "none is online: prefect worker start --pool nobody"
    )
    assert deployed.workers_online(POOL) == ["worker"]
    assert deployed.workers_online("no-such-pool") is None


def test_a_deployment_that_is_not_there_or_refuses_the_parameters_is_a_launch_error(live: Live) -> None:
    with pytest.raises(LaunchError, match="no deployment retrain/nobody"):
        deployed.ask("retrain/nobody", {}, model="nobody")
    with pytest.raises(LaunchError, match="answering 409 to a run of retrain/idle"):
        deployed.ask("retrain/idle", {"dry_run": "perhaps"}, model="idle")


@pytest.mark.slow
def test_how_long_an_event_takes_to_a_running_retraining(live: Live) -> None:
    """Says where the seconds go; a slow machine is no fault of ours, so nothing is asserted about them."""
    took: dict[str, list[float]] = {"automation": [], "worker": [], "process and imports": []}
    for number in range(10):
        decision, sent = f"measured-{number}", datetime.now(UTC)
        emit_decision("alpha", decision)
        assert ended(live, "alpha", decision) == "Skipped"
        (run,) = runs_of(live, "alpha", decision)
        states = live.get(f"/flow_run_states/?flow_run_id={run['id']}")
        at: dict[str, datetime] = {}
        for state in states:
            at.setdefault(state["type"], datetime.fromisoformat(state["timestamp"]))
        moments = [sent, datetime.fromisoformat(run["created"]), at["PENDING"], at["RUNNING"]]
        for name, (start, end) in zip(took, pairwise(moments), strict=True):
            took[name].append((end - start).total_seconds())
    sums = [sum(parts) for parts in zip(*took.values(), strict=True)]
    for name, seconds in {**took, "event to Running": sums}.items():
        low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
        sys.stdout.write(f"\n{name}: {low:.1f} / {middle:.1f} / {high:.1f} s (least, median, most)")


@pytest.mark.parametrize("events", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_number_of_events_of_one_decision_are_one_retraining(
    live: Live, here: Settings, events: int
) -> None:
    """Also where the server, busy with them, fails to start the run: then a monitor makes it good."""
    decision = decided(here, "gamma")
    ids = [str(uuid4()) for _ in range(events)] + [str(event_id("gamma", decision.id))] * 10
    began = datetime.now(UTC)
    for start in range(0, len(ids), 101):
        batch = [event("gamma", decision.id, one) for one in ids[start : start + 101]]
        url = f"{live.api}/events"
        live.wait(
            lambda batch=batch, url=url: httpx.post(url, json=batch, timeout=120).is_success, 240, "events"
        )
    took = (datetime.now(UTC) - began).total_seconds()
    (acted, *more) = live.wait(lambda: actions(live, "retrain gamma"), 400, "what the trigger did")
    sys.stdout.write(f"\n{len(ids)} events sent in {took:.1f} s; {acted['event']}: {acted['payload']}")

    spec, place = spec_of(live, "gamma"), here.model_copy(update={"launch": "deployment"})
    relaunch_unanswered.fn(spec, settings=place)
    live.wait(lambda: outcomes(here, "gamma"), 240, "the outcome of the decision")
    live.wait(lambda: quiet(live, "gamma"), 240, "the end of every run")
    assert outcomes(here, "gamma") == [(decision.id, "promoted", 1)]
    assert versions(here, "gamma") == [1]
    assert len(runs_of(live, "gamma", decision.id)) <= 2  # that of the event, and the monitor's
    if took < 240:  # the trigger fires once in 300 s
        assert (more, len(actions(live, "retrain gamma"))) == ([], 1)


def event(model: str, decision: str, identity: str) -> dict[str, Any]:
    resource = {"prefect.resource.id": f"evergreen.model.{model}", "evergreen.decision": decision}
    return {"id": identity, "event": EVENT, "resource": resource, "occurred": datetime.now(UTC).isoformat()}


def actions(live: Live, automation: str) -> list[dict[str, Any]]:
    """Return what this automation has done, or tried and failed to do."""
    names = [f"prefect.automation.action.{end}" for end in ("executed", "failed")]
    found = live.post("/events/filter", filter={"event": {"name": names}}, limit=50)["events"]
    return [one for one in found if one["resource"].get("prefect.resource.name") == automation]


def versions(here: Settings, model: str) -> list[int]:
    with sqlite3.connect(here.root / "mlflow.db") as database:
        query = "select version from model_versions where name = ? order by version"
        return [row[0] for row in database.execute(query, (model,))]
