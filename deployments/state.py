"""What a server has of ours, and the difference to what is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.events.schemas.automations import AutomationCore

from deployments.api import Api
from deployments.automations import Wanted, channel_slug, silent_runs, wanted_automations
from deployments.checks import OURS, triggers_of
from deployments.compare import Change, content, differing, wanted_slugs
from deployments.declared import Deployment

_BLOCK = "/block_types/slug/{}/block_documents/name/{}"
_UNKNOWN_TO_SERVER = ("email",)  # our own kind of block: a server has no code of it


@dataclass(frozen=True)
class Found:
    """What a server has: pools' types, our deployments and automations as JSON, blocks' ids; by name.

    A name of an automation may come twice: a deployment that was deleted by hand leaves its triggers behind.
    """

    pools: Mapping[str, str]
    deployments: Mapping[str, dict[str, Any]]  # Any: JSON
    automations: Sequence[dict[str, Any]]  # Any: JSON
    blocks: Mapping[str, str]


@dataclass
class Difference:
    """What has to be done so that a server has what is declared."""

    pools: list[str] = field(default_factory=list)
    deploy: dict[str, list[str]] = field(
        default_factory=dict
    )  # by name: the parts that differ, none: it is new
    drop: list[str] = field(default_factory=list)
    schedules: list[tuple[str, str, str]] = field(default_factory=list)  # deployment, slug, id
    apply: list[tuple[AutomationCore, dict[str, Any] | None]] = field(
        default_factory=list
    )  # and what is there
    automations: list[str] = field(default_factory=list)  # ids of those to remove
    notes: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def read_server(api: Api, deployments: Sequence[Deployment]) -> Found:
    """Return what the server has that is ours, or that the declared deployments name."""
    flows = {flow["id"]: flow["name"] for flow in api.all("/flows/filter")}
    ours = api.all("/deployments/filter", deployments={"tags": {"all_": [OURS]}})
    named = {f"{flows.get(one['flow_id'])}/{one['name']}": one for one in ours}
    for one in deployments:  # also one of the same name that has not got our tag yet
        if one.full_name not in named and (found := api.get(f"/deployments/name/{one.full_name}")):
            named[one.full_name] = found
    automations = [one for one in api.all("/automations/filter") if one["name"].startswith(f"{OURS}: ")]
    pools = {one.pool for one in deployments}
    alerts = [one.spec.alerts for one in deployments]
    channels = {channel_slug(name) for one in alerts for name in (*one.critical, *one.warning)}
    return Found(
        {pool: str(there["type"]) for pool in pools if (there := api.get(f"/work_pools/{pool}"))},
        named,
        automations,
        {channel: found for channel in channels if (found := _block(api, channel))},
    )


def compare(deployments: Sequence[Deployment], found: Found, *, code: str, prune: bool = False) -> Difference:
    """Return what has to be done, and the lines that say so.

    Whatever is of a model that no given file declares is left alone, and said, unless `prune`: a file that
    was left out of the command must not take another model's deployments down.
    """
    todo = Difference()
    wanted = wanted_automations(deployments, found.blocks)
    todo.notes += wanted.notes
    models = {one.spec.name for one in deployments}
    todo.pools = sorted({one.pool for one in deployments} - found.pools.keys())
    todo.changes += [Change("+", "work pool", pool, "of type process") for pool in todo.pools]
    for one in deployments:
        _compare_deployment(todo, one, found, code)
    _compare_absent(todo, deployments, found, models, prune)
    _compare_automations(todo, deployments, wanted, found, models, prune)
    return todo


def far_pools(deployments: Sequence[Deployment], found: Found, code: str) -> list[str]:
    """Return what to say about deployments whose workers would look for the code in this machine's folder."""
    pools = {one.pool for one in deployments if one.written.get("pull") is None}
    return [
        f"pool {pool} is of type {kind}: its workers will look for the code in {code}, a folder of this "
        "machine; say with --code where it stands for them, or declare pull steps"
        for pool, kind in sorted(found.pools.items())
        if pool in pools and kind != "process"
    ]


def _compare_deployment(todo: Difference, one: Deployment, found: Found, code: str) -> None:
    there = found.deployments.get(one.full_name)
    if there is None:
        todo.deploy[one.full_name] = []
        todo.changes.append(Change("+", "deployment", one.full_name))
        return
    mine = [
        AutomationCore.model_validate(each) for each in found.automations if _is_trigger(each, one, there)
    ]
    if parts := differing(one, there, mine, code):
        todo.deploy[one.full_name] = parts
        todo.changes.append(Change("~", "deployment", one.full_name, ", ".join(parts)))
    for schedule in there["schedules"]:
        if schedule.get("slug") not in wanted_slugs(one):
            slug = str(schedule.get("slug") or "without a name")
            todo.schedules.append((one.full_name, slug, schedule["id"]))
            todo.changes.append(Change("-", "schedule", f"{one.full_name}: {slug}"))


def _compare_absent(
    todo: Difference, deployments: Sequence[Deployment], found: Found, models: set[str], prune: bool
) -> None:
    declared = {one.full_name for one in deployments}
    left: dict[str, int] = {}
    for name, there in sorted(found.deployments.items()):
        if name in declared:
            continue
        model = next((tag[6:] for tag in there["tags"] if tag.startswith("model:")), there["name"])
        if model not in models and not prune:
            left[model] = left.get(model, 0) + 1
            continue
        todo.drop.append(name)
        todo.changes.append(Change("-", "deployment", name))
    todo.notes += [
        f"{model}: {count} deployments of a model no file here declares; left alone, --prune removes them"
        for model, count in left.items()
    ]


def _compare_automations(
    todo: Difference,
    deployments: Sequence[Deployment],
    wanted: Wanted,
    found: Found,
    models: set[str],
    prune: bool,
) -> None:
    kept = {
        each["id"]
        for one in deployments
        if (there := found.deployments.get(one.full_name))
        for each in found.automations
        if _is_trigger(each, one, there)
    }
    for name, automation in wanted.automations.items():
        there = next((each for each in found.automations if each["name"] == name), None)
        kept |= {there["id"]} if there else set()
        if there and content(AutomationCore.model_validate(there)) == content(automation):
            continue
        todo.apply.append((automation, there))
        todo.changes.append(Change("~" if there else "+", "automation", name))
    if found.deployments.keys() - set(todo.drop):  # of other models: silent runs of theirs are ended too
        kept |= {each["id"] for each in found.automations if each["name"] == silent_runs().name}
    for each in found.automations:
        name = each["name"]
        model = name.split(": ")[1] if name.count(": ") > 1 else None
        if each["id"] not in kept and (prune or model is None or model in models):
            todo.automations.append(each["id"])
            todo.changes.append(Change("-", "automation", name))


def _is_trigger(automation: Mapping[str, Any], one: Deployment, there: Mapping[str, Any]) -> bool:
    """Return whether an automation on the server is a declared trigger of this deployment."""
    starts = any(action.get("deployment_id") == there["id"] for action in automation["actions"])
    return starts and automation["name"] in {trigger.name for trigger in triggers_of(one.written)}


def _block(api: Api, channel: str) -> str | None:
    slug, _, name = channel.partition("/")
    document = None if slug in _UNKNOWN_TO_SERVER else api.get(_BLOCK.format(slug, name))
    return str(document["id"]) if document else None
