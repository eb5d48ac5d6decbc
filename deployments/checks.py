"""Whether a deployment, as written, can work; refused in one line before a server hears of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.events import DeploymentTriggerTypes
from prefect.utilities.schema_tools.validation import ValidationError as BadParameters
from prefect.utilities.schema_tools.validation import validate
from pydantic import TypeAdapter, ValidationError

from tasks.core.errors import SpecError
from tasks.core.spec import parse_spec

OURS = "evergreen"
"""Tag of every deployment, and first word of the name of every automation, that these commands may remove."""
DECIDED = "evergreen.decision.train"
HEARTBEAT = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
"""Environment of every run: a run that is silent for three of these is marked Crashed."""
KEYS = (
    *("name", "version", "tags", "description", "schedules", "paused", "concurrency_limit", "entrypoint"),
    *("parameters", "enforce_parameter_schema", "build", "push", "pull", "work_pool", "triggers"),
)
"""What a deployment may say; Prefect ignores any other key in silence."""

_POOL = ("name", "work_queue_name", "job_variables")
_LIMIT = ("limit", "collision_strategy", "grace_period_seconds")
_KINDS = {"cron": CronSchedule, "interval": IntervalSchedule, "rrule": RRuleSchedule}
_WHEN = (*_KINDS, "timezone", "day_or", "anchor_date")
_SCHEDULE = (*_WHEN, "active", "parameters", "slug", "replaces")
_TRIGGER: TypeAdapter[Any] = TypeAdapter(DeploymentTriggerTypes)
_FILLED = ("{{", "__prefect_kind")  # filled in when it is deployed or when an event starts a run

Written = Mapping[str, Any]  # Any: YAML


def triggers_of(written: Written) -> list[Any]:  # Any: Prefect's own union of triggers
    """Return the triggers of a deployment, as Prefect understands them."""
    return [_TRIGGER.validate_python(dict(trigger)) for trigger in written.get("triggers") or ()]


def check_shape(written: Written, where: str) -> None:
    """Refuse keys that mean nothing, and parts of the wrong kind.

    Raises:
        SpecError: naming the part.
    """
    _known(written, KEYS, where)
    for part in ("schedules", "triggers"):
        listed = written.get(part) or []
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise SpecError(
                f"{where}: {part} that are no list of mappings", f"{part}: [{{…}}]", "write a list"
            )
    tags = written.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise SpecError(f"{where}: tags that are no list of names", "tags: [evergreen, …]", "write a list")
    _mapping(written, "parameters", where)
    _switch(written, "paused", where)
    _check_pool(written, where)
    _check_limit(written.get("concurrency_limit"), where)


def check_parameters(parameters: Written, schema: Written, where: str) -> None:
    """Refuse parameters the flow has not got, and values that do not fit; templates are filled later.

    Raises:
        SpecError: naming the parameter.
    """
    fields = schema.get("properties", {})
    _known(parameters, sorted(fields), where, what="parameter")
    try:  # the way the server will; the spec is read elsewhere, with better messages
        rest = {name: value for name, value in parameters.items() if name != "spec" and not _filled(value)}
        validate(rest, dict(schema), raise_on_error=True, ignore_required=True)
    except BadParameters as err:
        raise SpecError(f"{where}: {err}", "parameters that fit the flow", "correct that parameter") from err


def check_tags(written: Written, wanted: Collection[str], where: str) -> None:
    """Refuse a deployment that neither sync nor the automations would find.

    Raises:
        SpecError: naming the tags that are missing.
    """
    missing = sorted(set(wanted) - set(written.get("tags") or ()))
    if missing:
        raise SpecError(
            f"{where} without tags {missing}",
            "the tags by which sync and automations find it",
            f"tags: {sorted(wanted)}",
        )


def check_schedules(written: Written, schema: Written, where: str) -> None:
    """Refuse schedules that nobody can tell apart, or that mean no time.

    Raises:
        SpecError: naming the schedule.
    """
    slugs: set[str] = set()
    for schedule in written.get("schedules") or ():
        if not schedule.get("slug") or (not schedule.get("timezone") and not schedule.get("interval")):
            raise SpecError(
                f"{where}: a schedule without slug or timezone",
                "both",
                "add for example slug: nightly, timezone: UTC; a schedule is known by its slug",
            )
        here = f"{where}, schedule {schedule['slug']}"
        if str(schedule["slug"]) in slugs:
            raise SpecError(f"{here} declared twice", "one schedule per slug", "rename one")
        slugs.add(str(schedule["slug"]))
        _known(schedule, _SCHEDULE, here)
        _switch(schedule, "active", here)
        _check_when(schedule, here)
        _check_own(schedule, written, schema, here)


def check_triggers(written: Written, schema: Written, where: str) -> None:
    """Refuse triggers that Prefect does not take, or that act on another model's events.

    Raises:
        SpecError: naming the trigger.
    """
    try:
        triggers = triggers_of(written)
    except (ValidationError, TypeError, ValueError) as err:
        faults = err.errors() if isinstance(err, ValidationError) else [{"msg": str(err)}]
        raise SpecError(
            f"{where}: {len(faults)} faults in its triggers", "a Prefect trigger", str(faults[0]["msg"])
        ) from err
    start, own = f"{OURS}: {written['name']}: ", f"evergreen.model.{written['name']}"
    for trigger, as_written in zip(triggers, written.get("triggers") or (), strict=True):
        if not (trigger.name or "").startswith(start):
            raise SpecError(
                f"{where}: trigger {trigger.name!r}", f"a name that starts with {start!r}", "rename it"
            )
        if DECIDED in getattr(trigger, "expect", ()) and trigger.match.get("prefect.resource.id") != [own]:
            raise SpecError(
                f"{where}: a trigger on decisions about {trigger.match.get('prefect.resource.id')}",
                own,
                "match the resource of its own model, or another model's decision retrains this one",
            )
        _check_own(as_written, written, schema, f"{where}, trigger {trigger.name!r}")


def _check_pool(written: Written, where: str) -> None:
    pool = written.get("work_pool")
    if not isinstance(pool, dict) or not pool.get("name"):
        raise SpecError(f"{where} without work_pool.name", "the pool whose workers run it")
    _known(pool, _POOL, f"{where}, work_pool")
    variables = _mapping(pool, "job_variables", f"{where}, work_pool")
    environment = _mapping(variables, "env", f"{where}, job_variables")
    ((name, value),) = HEARTBEAT.items()
    if environment.get(name) != value:
        raise SpecError(
            f"{where}: work_pool without a heartbeat of {value} s",
            "one that goes with the run: a healthy run silent for 90 s is marked Crashed",
            f'to work_pool add job_variables: {{env: {{{name}: "{value}"}}}}',
        )


def _check_limit(limit: Any, where: str) -> None:  # Any: YAML
    if isinstance(limit, dict):
        _known(limit, _LIMIT, f"{where}, concurrency_limit")
        if limit.get("collision_strategy") not in (None, "ENQUEUE", "CANCEL_NEW"):
            raise SpecError(
                f"{where}: collision_strategy {limit['collision_strategy']!r}", "ENQUEUE or CANCEL_NEW"
            )
        limit = limit.get("limit", "nothing")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise SpecError(
            f"{where}: concurrency_limit {limit!r}",
            "a whole number from 1, or a mapping with one",
            "write for example concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}",
        )


def _check_when(schedule: Written, where: str) -> None:
    given = {key: schedule[key] for key in _WHEN if schedule.get(key) is not None}
    kinds = [kind for key, kind in _KINDS.items() if key in given]
    if len(kinds) != 1:
        raise SpecError(f"{where} with {len(kinds)} of cron, interval, rrule", "one of them")
    try:
        kinds[0].model_validate(given)
    except (ValidationError, TypeError, ValueError) as err:
        said = str(err.errors()[0]["msg"]) if isinstance(err, ValidationError) else str(err)
        told = " ".join(said.split())
        raise SpecError(f"{where}: {told}", "a schedule that Prefect takes", "correct it") from err


def _check_own(part: Written, written: Written, schema: Written, where: str) -> None:
    """Refuse parameters of a schedule or a trigger that its runs would be refused for."""
    parameters = _mapping(part, "parameters", where)
    check_parameters(parameters, schema, where)
    if "spec" in parameters and parse_spec(parameters["spec"], where=where).name != written["name"]:
        raise SpecError(f"{where}: the spec of another model", str(written["name"]), "leave it out")


def _known(given: Written, known: Collection[str], where: str, *, what: str = "key") -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            todo = f"did you mean {near[0]!r}?" if near else "remove it"
            raise SpecError(f"{where}: {what} {name!r}", f"one of {', '.join(known)}", todo)


def _mapping(written: Written, part: str, where: str) -> Written:
    found = written.get(part) or {}
    if not isinstance(found, dict):
        raise SpecError(f"{where}: {part} that are no mapping", f"{part}: {{name: value}}", "write a mapping")
    return found


def _switch(written: Written, part: str, where: str) -> None:
    if not isinstance(written.get(part), bool | None):
        raise SpecError(f"{where}: {part} {written[part]!r}", "true or false", "correct it, or leave it out")


def _filled(value: Any) -> bool:  # Any: YAML
    return any(mark in str(value) for mark in _FILLED)
