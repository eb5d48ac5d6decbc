"""A file that cannot work, and a server that is away: one line each, before anything is asked of a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deployments.automations import silent_runs, wanted_automations
from deployments.checks import KEYS
from deployments.compare import pull_steps
from deployments.declared import Deployment, read_files
from deployments.state import Found, compare, far_pools
from deployments.sync import main

ROOT = Path(__file__).parents[2]
FULL = yaml.safe_load((ROOT / "prefect.yaml").read_text())
BEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
WEEKLY = {"slug": "weekly", "cron": "0 4 * * 1", "timezone": "UTC"}
ADD = f'to work_pool add job_variables: {{env: {{{BEAT}: "30"}}}}'


def write(folder: Path, edit: Callable[[dict[str, dict[str, Any]]], Any]) -> str:
    """Return a file with the repository's deployments, edited by flow."""
    copied = yaml.safe_load(yaml.safe_dump(FULL["deployments"]))
    by_flow = {one["entrypoint"].split(".")[1]: one for one in copied}
    edit(by_flow)
    file = folder / "prefect.yaml"
    # Without anchors in between: an edit of one deployment is none of another.
    plain = [yaml.safe_load(yaml.safe_dump(one)) for one in by_flow.values()]
    file.write_text(yaml.safe_dump({"deployments": plain}))
    return str(file)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda flows: flows["score"]["parameters"]["spec"].pop("source"), "source"),
        (lambda flows: flows["retrain"]["parameters"].update(forced=True), "did you mean 'force'"),
        (lambda flows: flows["retrain"]["parameters"].update(dry_run="perhaps"), "dry_run"),
        (
            lambda flows: flows["score"].update(entrypoint="flows.score.missing"),
            "AttributeError at its entrypoint",
        ),
        (lambda flows: flows["score"].update(tags=["evergreen"]), "flow:score"),
        (lambda flows: flows["score"]["schedules"][0].pop("slug"), "without slug or timezone"),
        (
            lambda flows: flows["retrain"]["triggers"][0].update(
                match={"prefect.resource.id": "evergreen.model.x"}
            ),
            "another model's decision retrains this one",
        ),
        (lambda flows: flows["monitor"].update(name="other"), "name: demo"),
        (lambda flows: flows["score"].update(concurency_limit=1), "did you mean 'concurrency_limit'"),
        (lambda flows: flows["score"].update(concurrency_limit="1"), "concurrency_limit '1'"),
        (lambda flows: flows["score"].update(concurrency_limit={"limt": 1}), "did you mean 'limit'"),
        (lambda flows: flows["score"].update(concurrency_limit={"collision_strategy": "ENQUEUE"}), "nothing"),
        (lambda flows: flows["score"].update(schedules={"cron": "0 2 * * *"}), "schedules that are no list"),
        (lambda flows: flows["retrain"].update(triggers=["a"]), "triggers that are no list"),
        (lambda flows: flows["score"].update(parameters=["a"]), "parameters that are no mapping"),
        (lambda flows: flows["score"].update(tags="evergreen"), "tags that are no list"),
        (lambda flows: flows["score"].update(paused="yes please"), "paused 'yes please'"),
        (lambda flows: flows["score"]["schedules"][0].update(cron="now and then"), "schedule nightly: "),
        (lambda flows: flows["score"]["schedules"][0].update(timezone="Utopia"), "schedule nightly: "),
        (lambda flows: flows["score"]["schedules"][0].update(actve=False), "did you mean 'active'"),
        (lambda flows: flows["score"]["schedules"][0].update(active="no"), "active 'no'"),
        (lambda flows: flows["score"]["schedules"][0].update(interval=60), "2 of cron, interval, rrule"),
        (lambda flows: flows["score"]["schedules"].append(flows["score"]["schedules"][0]), "declared twice"),
        (
            lambda flows: flows["retrain"].update(schedules=[WEEKLY | {"parameters": {"forced": True}}]),
            "schedule weekly: parameter 'forced'",
        ),
        (
            lambda flows: flows["retrain"].update(
                schedules=[WEEKLY | {"parameters": {"dry_run": "perhaps"}}]
            ),
            "dry_run",
        ),
        (lambda flows: flows["retrain"].update(schedules=[WEEKLY | {"parameters": ["a"]}]), "no mapping"),
        (
            lambda flows: flows["retrain"]["triggers"][0]["parameters"].update(decision="{{ event.id }}"),
            "parameter 'decision'",
        ),
        (lambda flows: flows["retrain"]["triggers"][0]["parameters"].update(force="perhaps"), "force"),
        (lambda flows: flows["retrain"]["triggers"][0].update(parameters=["a"]), "faults in its triggers"),
        (lambda flows: flows["score"].update(work_pool={"name": "evergreen"}), ADD),
        (lambda flows: flows["score"]["work_pool"]["job_variables"].update(env={BEAT: "180"}), ADD),
        (lambda flows: flows["score"]["work_pool"].update(job_variables="env"), "no mapping"),
    ],
    ids=[
        *("spec", "unknown", "type", "entrypoint", "tags", "slug", "match", "name"),
        *(
            "key",
            "limit",
            "limit-key",
            "no-limit",
            "schedules",
            "triggers",
            "parameters",
            "tag-text",
            "paused",
        ),
        *("cron", "timezone", "schedule-key", "active", "two-kinds", "slug-twice"),
        *(
            "schedule-name",
            "schedule-value",
            "schedule-list",
            "trigger-name",
            "trigger-value",
            "trigger-list",
        ),
        *("heartbeat", "slow-heartbeat", "job-variables"),
    ],
)
def test_a_wrong_file_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[dict[str, dict[str, Any]]], Any],
    says: str,
) -> None:
    # No server listens there: a wrong file is refused before anybody is asked.
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["--file", write(tmp_path, edit)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("SpecError: found ")
    assert len(said.splitlines()) == 1
    assert says in said


@pytest.mark.parametrize(
    ("address", "says"),
    [("http://127.0.0.1:9/api", "no answer from the Prefect server"), (None, "no PREFECT_API_URL")],
)
def test_a_server_that_is_away_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str | None, says: str
) -> None:
    with temporary_settings({PREFECT_API_URL: address}):
        assert main(["--file", write(tmp_path, lambda _: None), "--check"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("DeployError: found ")
    assert says in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no file"),
        (b"a: [", "is not YAML"),
        (b"deployments: 3", "without a list of deployments"),
        (b"name: caf\xe9", "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_declaration_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes | None, says: str
) -> None:
    file = tmp_path / "other.yaml"
    if text is not None:
        file.write_bytes(text)
    assert main(["--file", str(file)]) == 2
    said = capsys.readouterr().err
    assert "other.yaml" in said
    assert says in said


def declared(folder: Path, edit: Callable[[dict[str, dict[str, Any]]], Any]) -> list[Deployment]:
    return read_files([Path(write(folder, edit))])


def on_server(one: Deployment, **more: Any) -> dict[str, Any]:
    """The deployment as a server that has taken it answers, as JSON."""
    limit = one.written["concurrency_limit"]
    when = ("cron", "timezone")
    return {
        "id": "11111111-1111-4111-8111-111111111111", "name": one.name,
        "entrypoint": one.written["entrypoint"],
        "tags": one.written["tags"], "parameters": one.written["parameters"],
        "parameter_openapi_schema": one.schema, "work_pool_name": one.pool, "work_queue_name": "default",
        "job_variables": one.written["work_pool"]["job_variables"], "paused": False,
        "global_concurrency_limit": {"limit": limit["limit"]},
        "concurrency_options": {"collision_strategy": limit["collision_strategy"]},
        "pull_steps": pull_steps(one, "/code"), "description": one.written["description"],
        "enforce_parameter_schema": True,
        "schedules": [
            {"id": slug, "slug": slug, "active": True, "schedule": {key: each[key] for key in when}}
            for each in one.written["schedules"] for slug in [each["slug"]]
        ],
        **more,
    }  # fmt: skip


def found(*, deployments: dict[str, Any], automations: list[dict[str, Any]], kind: str = "process") -> Found:
    return Found({"evergreen": kind}, deployments, automations, {})


def only_score(flows: dict[str, dict[str, Any]]) -> None:
    for flow in set(flows) - {"score"}:
        flows.pop(flow)


@pytest.mark.parametrize(
    ("said", "differs"),
    [({}, []), ({"paused": True}, []), ({"paused": False}, ["paused"])],
    ids=["unsaid", "equal", "other"],
)
def test_a_pause_that_the_file_declares_wins_and_another_is_a_persons(
    tmp_path: Path, said: dict[str, Any], differs: list[str]
) -> None:
    (one,) = declared(tmp_path, lambda flows: (only_score(flows), flows["score"].update(said)))
    there = on_server(one, paused=True)
    todo = compare([one], found(deployments={one.full_name: there}, automations=[]), code="/code")
    assert todo.deploy.get(one.full_name, []) == differs


@pytest.mark.parametrize(
    ("said", "differs"),
    [({}, []), ({"active": False}, []), ({"active": True}, ["schedules"])],
    ids=["unsaid", "equal", "other"],
)
def test_a_schedule_that_the_file_switches_wins_and_another_is_a_persons(
    tmp_path: Path, said: dict[str, Any], differs: list[str]
) -> None:
    (one,) = declared(
        tmp_path, lambda flows: (only_score(flows), flows["score"]["schedules"][0].update(said))
    )
    there = on_server(one)
    there["schedules"][0]["active"] = False
    todo = compare([one], found(deployments={one.full_name: there}, automations=[]), code="/code")
    assert todo.deploy.get(one.full_name, []) == differs


def test_what_is_declared_as_paused_is_not_overdue(tmp_path: Path) -> None:
    name = "evergreen: demo: score is overdue"
    assert name in wanted_automations(declared(tmp_path, only_score), {}).automations
    paused = declared(tmp_path, lambda flows: (only_score(flows), flows["score"].update(paused=True)))
    assert name not in wanted_automations(paused, {}).automations


def test_silent_runs_of_other_models_are_still_ended_when_a_file_declares_nothing(tmp_path: Path) -> None:
    (one,) = declared(tmp_path, only_score)
    silent = {"id": "silent", **silent_runs().model_dump(mode="json")}
    server = found(deployments={one.full_name: on_server(one)}, automations=[silent])
    assert compare([], server, code="/code").automations == []
    assert compare([], server, code="/code", prune=True).automations == ["silent"]
    assert compare([], found(deployments={}, automations=[silent]), code="/code").automations == ["silent"]


def test_a_pool_elsewhere_is_told_that_the_code_is_looked_for_in_this_folder(tmp_path: Path) -> None:
    deployments = declared(tmp_path, only_score)
    (note,) = far_pools(deployments, found(deployments={}, automations=[], kind="docker"), "/here")
    assert "evergreen is of type docker" in note
    assert "/here" in note
    assert "--code" in note
    assert far_pools(deployments, found(deployments={}, automations=[]), "/here") == []
    pulls = declared(tmp_path, lambda flows: (only_score(flows), flows["score"].update(pull=[])))
    assert far_pools(pulls, found(deployments={}, automations=[], kind="docker"), "/here") == []


def test_a_run_gets_the_heartbeat_of_its_deployment_wherever_its_worker_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BEAT, "180")  # as of a worker outside the repository
    (one,) = declared(tmp_path, only_score)
    template = ProcessWorker.get_default_base_job_template()
    given = one.written["work_pool"]["job_variables"]
    job = ProcessJobConfiguration.model_validate(apply_values(template["job_configuration"], dict(given)))
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="any"))
    assert job.env[BEAT] == "30"


def test_every_key_that_may_be_declared_is_one_that_prefect_reads() -> None:
    assert set(KEYS) <= set(DeploymentConfig.model_fields)
