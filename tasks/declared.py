"""Code that a run's parameters name: in a deployment's run only what the deployment declares."""

from __future__ import annotations

from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import deployment

from tasks.core.errors import LaunchError, SpecError
from tasks.core.importing import named_code
from tasks.core.spec import ModelSpec


def check_declared(spec: ModelSpec) -> None:
    """Return nothing where the run's model block names no code beyond that of its deployment's own block.

    Whoever may start a run types its parameters; what code there is to run, a deployment's file decides. A
    run by hand, outside a deployment, is its user's own matter.

    Raises:
        SpecError: when it names more.
        LaunchError: when it names code and the Prefect API does not say what the deployment declares.
    """
    named = named_code(spec)
    if not named or not deployment.id:
        return
    foreign = sorted(named - _declared_by(str(deployment.id), spec.name))
    if foreign:
        raise SpecError(
            f"a parameter naming {', '.join(foreign)[:200]}, which this deployment does not declare",
            "the code of its own model block",
            "change the block in prefect.yaml and deploy again",
            model=spec.name,
        )


def _declared_by(identity: str, model: str) -> set[str]:
    try:
        with get_client(sync_client=True) as client:
            block: Any = client.read_deployment(identity).parameters.get("spec")
    except (PrefectException, httpx.HTTPError) as err:
        raise LaunchError(
            f"no word from the Prefect API on this deployment ({type(err).__name__})",
            "its model block, which says what code may run",
            "check PREFECT_API_URL, then run again",
            model=model,
        ) from None
    return named_code(ModelSpec.model_validate(block)) if block else set()
