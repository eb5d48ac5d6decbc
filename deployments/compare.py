"""What differs between a declared deployment and the one a server has; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.events.schemas.automations import AutomationCore
from pydantic import BaseModel

from deployments.checks import triggers_of
from deployments.declared import Deployment

SIGNS = {"+": "add", "~": "change", "-": "remove"}
Sign = Literal["+", "~", "-"]
_WHEN = ("cron", "day_or", "interval", "anchor_date", "rrule", "timezone")


@dataclass(frozen=True)
class Change:
    """One line of the difference: what would be added, changed or removed, and which of its parts."""

    sign: Sign
    kind: str
    name: str
    what: str = ""


def differing(
    one: Deployment, found: Mapping[str, Any], triggers: Collection[AutomationCore], code: str
) -> list[str]:
    """Return the parts of a deployment that differ from what is declared, by name.

    A part that holds a template (`{{ … }}`) is filled when it is deployed, and so always differs.

    Args:
        one: the declared deployment.
        found: what the server has, as JSON.
        triggers: the automations on the server that start this deployment and are ours.
        code: folder of the code where the worker runs.
    """
    wanted, has = _wanted(one, code), _has(found)
    differ = [part for part, value in wanted.items() if value != has[part]]
    schedules = {
        slug: when for slug, when in _schedules(found["schedules"]).items() if slug in wanted_slugs(one)
    }
    if not _same_schedules(one, schedules):
        differ.append("schedules")
    declared = [_own(trigger, found["id"]) for trigger in triggers_of(one.written)]
    if len(declared) != len(triggers) or _by_name(declared) != _by_name(triggers):
        differ.append("triggers")
    return differ


def wanted_slugs(one: Deployment) -> set[str]:
    """Return the names of the schedules a deployment is declared with."""
    return {schedule["slug"] for schedule in one.written.get("schedules") or ()}


def content(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation does, comparable: without its ids, and without being on or off."""
    dumped = automation.model_dump(include={"description", "trigger", "actions"})
    plain: dict[str, Any] = _plain(dumped)
    return plain


def pull_steps(one: Deployment, code: str) -> list[Any]:
    """Return how a worker finds the code: as declared, else the folder it stands in."""
    declared = one.written.get("pull")
    if declared is None:
        return [{"prefect.deployments.steps.set_working_directory": {"directory": code}}]
    return [declared] if isinstance(declared, dict) else list(declared)


def _wanted(one: Deployment, code: str) -> dict[str, Any]:
    written = one.written
    limit = written.get("concurrency_limit")
    limit = limit if isinstance(limit, dict) else {"limit": limit}
    parts = {
        "entrypoint": written.get("entrypoint"),
        "tags": sorted(written.get("tags") or ()),
        "parameters": written.get("parameters") or {},
        "parameter schema": _schema(one.schema),
        "work pool": one.pool,
        "work queue": written["work_pool"].get("work_queue_name") or "default",
        "job variables": written["work_pool"].get("job_variables") or {},
        "concurrency": (limit.get("limit"), limit.get("collision_strategy")),
        "pull steps": pull_steps(one, code),
    }
    for part in ("description", "enforce_parameter_schema", "paused"):  # unsaid: as the server has it
        if written.get(part) is not None:
            parts[part] = written[part]
    return parts


def _has(found: Mapping[str, Any]) -> dict[str, Any]:
    limit = found.get("global_concurrency_limit") or {}
    options = found.get("concurrency_options") or {}
    return {
        "entrypoint": found.get("entrypoint"),
        "tags": sorted(found.get("tags") or ()),
        "parameters": found.get("parameters") or {},
        "parameter schema": _schema(found.get("parameter_openapi_schema") or {}),
        "work pool": found.get("work_pool_name"),
        "work queue": found.get("work_queue_name") or "default",
        "job variables": found.get("job_variables") or {},
        "concurrency": (limit.get("limit"), options.get("collision_strategy")),
        "pull steps": found.get("pull_steps") or [],
        "description": found.get("description"),
        "enforce_parameter_schema": found.get("enforce_parameter_schema"),
        "paused": found.get("paused"),
    }


def _schema(schema: Mapping[str, Any]) -> Any:  # Any: JSON
    return _plain(
        {name: schema[name] for name in ("properties", "required", "definitions") if schema.get(name)}
    )


def _schedules(found: Collection[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(schedule.get("slug")): schedule for schedule in found}


def _same_schedules(one: Deployment, found: Mapping[str, Mapping[str, Any]]) -> bool:
    declared = _schedules(one.written.get("schedules") or ())
    return declared.keys() == found.keys() and all(
        _when(schedule, schedule) == _when(found[slug]["schedule"], schedule)
        and (schedule.get("parameters") or {}) == (found[slug].get("parameters") or {})
        and schedule.get("active") in (None, found[slug].get("active"))  # unsaid: as a person left it
        for slug, schedule in declared.items()
    )


def _when(schedule: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return when a schedule runs, in one spelling; what is not declared stays as the server chose it."""
    given = {
        key: schedule[key] for key in _WHEN if schedule.get(key) is not None and declared.get(key) is not None
    }
    kind: type[BaseModel] = CronSchedule if "cron" in given else IntervalSchedule
    if "rrule" in given:
        kind = RRuleSchedule
    return kind.model_validate(given).model_dump(include=set(given))


def _own(trigger: Any, deployment_id: Any) -> AutomationCore:  # Any: Prefect's own union; a UUID or its text
    trigger.set_deployment_id(deployment_id)
    automation: AutomationCore = trigger.as_automation()
    return automation


def _by_name(automations: Collection[AutomationCore]) -> dict[str, Any]:
    return {automation.name: content(automation) for automation in automations}


def _plain(value: Any) -> Any:  # Any: a tree of JSON and sets
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
