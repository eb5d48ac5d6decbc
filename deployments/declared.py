"""What the YAML files declare: deployments with their models, checked before a server hears of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.events import DeploymentTriggerTypes
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object
from prefect.utilities.schema_tools.validation import ValidationError as BadParameters
from prefect.utilities.schema_tools.validation import validate
from pydantic import TypeAdapter, ValidationError

from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec, parse_spec

OURS = "evergreen"
"""Tag of every deployment, and first word of the name of every automation, that these commands may remove."""
DECIDED = "evergreen.decision.train"

_TRIGGER: TypeAdapter[Any] = TypeAdapter(DeploymentTriggerTypes)


@dataclass(frozen=True)
class Deployment:
    """One declared deployment: as written, with the flow's own name and the model it is for."""

    flow: str
    name: str
    written: Mapping[str, Any]  # Any: YAML
    spec: ModelSpec
    schema: Mapping[str, Any]  # Any: JSON schema of the flow's parameters

    @property
    def full_name(self) -> str:
        """Name by which the server knows it."""
        return f"{self.flow}/{self.name}"

    @property
    def pool(self) -> str:
        """Name of its work pool."""
        return str(self.written["work_pool"]["name"])


def read_files(files: Iterable[Path]) -> list[Deployment]:
    """Return every deployment that the files declare, in their order.

    Raises:
        SpecError: naming the file and the deployment that cannot work, and why.
    """
    found: dict[str, Deployment] = {}
    for file in files:
        for written in _written(file):
            one = _checked(written, file.name)
            if one.full_name in found:
                raise SpecError(
                    f"{file.name}: {one.full_name} declared twice", "one deployment of a flow per model"
                )
            found[one.full_name] = one
    return list(found.values())


def triggers_of(written: Mapping[str, Any]) -> list[Any]:  # Any: YAML, and Prefect's own union of triggers
    """Return the triggers of a deployment, as Prefect understands them."""
    return [_TRIGGER.validate_python(dict(trigger)) for trigger in written.get("triggers") or ()]


def _written(file: Path) -> list[dict[str, Any]]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as err:
        raise SpecError(f"no file {file.name}", "a YAML file", "name it with --file") from err
    except yaml.YAMLError as err:
        place = getattr(err, "problem_mark", None)
        line = f" at line {place.line + 1}" if place else ""
        raise SpecError(f"{file.name} is not YAML{line}", "valid YAML", "correct that line") from err
    listed = content.get("deployments") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise SpecError(f"{file.name} without a list of deployments", "deployments, as in prefect.yaml")
    top = {step: content[step] for step in ("build", "push", "pull") if content.get(step) is not None}
    return [{**top, **one} for one in listed]


def _checked(written: dict[str, Any], file: str) -> Deployment:
    where = f"{file}: {written.get('entrypoint', 'no entrypoint')} for {written.get('name', 'no name')}"
    pool = written.get("work_pool")
    if not isinstance(pool, dict) or not pool.get("name"):
        raise SpecError(f"{where} without work_pool.name", "the pool whose workers run it")
    flow = _flow(str(written.get("entrypoint")), where)
    schema = parameter_schema(flow).model_dump(exclude_unset=True)
    parameters = written.get("parameters") or {}
    spec = parse_spec(parameters.get("spec"), where=where)
    if written.get("name") != spec.name:
        raise SpecError(
            f"{where}, which is model {spec.name}",
            f"name: {spec.name}",
            "a launch finds the deployments of a model by its name",
        )
    _check_parameters(parameters, schema, where)
    one = Deployment(flow.name, spec.name, written, spec, schema)
    _check_tags(one, where)
    _check_schedules(one, where)
    _check_triggers(one, where)
    return one


def _flow(entrypoint: str, where: str) -> Flow[Any, Any]:
    todo = "write it as package.module.function, for example flows.retrain.retrain"
    try:
        found = import_object(entrypoint) if ":" not in entrypoint else None
    except (ImportError, AttributeError, ValueError) as err:
        raise SpecError(f"{where}: {type(err).__name__} at its entrypoint", "a flow", todo) from err
    if not isinstance(found, Flow):
        raise SpecError(f"{where}: no flow at its entrypoint", "a flow in a module", todo)
    return found


def _check_parameters(parameters: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    fields = schema.get("properties", {})
    for name in parameters:
        if name not in fields:
            near = get_close_matches(name, fields, n=1)
            todo = f"did you mean {near[0]!r}?" if near else "remove it"
            raise SpecError(f"{where}: parameter {name!r}", f"one of {', '.join(sorted(fields))}", todo)
    try:  # the way the server will; the spec has been read already, with better messages
        rest = {name: value for name, value in parameters.items() if name != "spec"}
        validate(rest, dict(schema), raise_on_error=True, ignore_required=True)
    except BadParameters as err:
        raise SpecError(f"{where}: {err}", "parameters that fit the flow", "correct that parameter") from err


def _check_tags(one: Deployment, where: str) -> None:
    wanted = {OURS, f"model:{one.spec.name}", f"flow:{one.flow}"}
    missing = sorted(wanted - set(one.written.get("tags") or ()))
    if missing:
        raise SpecError(
            f"{where} without tags {missing}",
            "the tags by which sync and automations find it",
            f"tags: {sorted(wanted)}",
        )


def _check_schedules(one: Deployment, where: str) -> None:
    for schedule in one.written.get("schedules") or ():
        if not schedule.get("slug") or (not schedule.get("timezone") and not schedule.get("interval")):
            raise SpecError(
                f"{where}: a schedule without slug or timezone",
                "both",
                "add for example slug: nightly, timezone: UTC; a schedule is known by its slug",
            )


def _check_triggers(one: Deployment, where: str) -> None:
    try:
        triggers = triggers_of(one.written)
    except ValidationError as err:
        raise SpecError(
            f"{where}: {err.error_count()} faults in its triggers",
            "a Prefect trigger",
            str(err.errors()[0]["msg"]),
        ) from err
    start, own = f"{OURS}: {one.name}: ", f"evergreen.model.{one.spec.name}"
    for trigger in triggers:
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
