"""What the YAML files declare: deployments with their models, checked before a server hears of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object

from deployments.checks import (
    OURS,
    check_parameters,
    check_schedules,
    check_shape,
    check_tags,
    check_triggers,
)
from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec, parse_spec


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


def _written(file: Path) -> list[dict[str, Any]]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as err:
        raise SpecError(f"no file {file.name}", "a YAML file", "name it with --file") from err
    except UnicodeDecodeError as err:
        raise SpecError(f"{file.name} is not UTF-8", "a YAML file", "save it as UTF-8") from err
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
    check_shape(written, where)
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
    check_parameters(parameters, schema, where)
    check_tags(written, (OURS, f"model:{spec.name}", f"flow:{flow.name}"), where)
    check_schedules(written, schema, where)
    check_triggers(written, schema, where)
    return Deployment(flow.name, spec.name, written, spec, schema)


def _flow(entrypoint: str, where: str) -> Flow[Any, Any]:
    todo = "write it as package.module.function, for example flows.retrain.retrain"
    try:
        found = import_object(entrypoint) if ":" not in entrypoint else None
    except (ImportError, AttributeError, ValueError) as err:
        raise SpecError(f"{where}: {type(err).__name__} at its entrypoint", "a flow", todo) from err
    if not isinstance(found, Flow):
        raise SpecError(f"{where}: no flow at its entrypoint", "a flow in a module", todo)
    return found
