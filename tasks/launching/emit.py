"""The event that asks a Prefect automation for a retraining, sent so that its arrival is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect.client.orchestration import get_client
from prefect.events.schemas.events import Event, RelatedResource, Resource
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.utilities.urls import url_for

from tasks.core.errors import LaunchError

EVENT = "evergreen.decision.train"
SECONDS = 10.0  # how long one attempt at sending may take; there are two


@dataclass(frozen=True)
class Emitted:
    """An event the server has taken; `link` is its page, where the server has pages."""

    id: UUID
    link: str | None


def event_id(model: str, decision_id: str) -> UUID:
    """Return the id of the event of this decision: always the same, so that a server drops repetitions.

    Example:
        >>> str(event_id("demo", "train-decay-fb02626bb69f4985"))
        'e5441f25-5690-5456-9d24-62e2272ed743'
    """
    return uuid5(NAMESPACE_URL, f"evergreen:{model}:{decision_id}")


def emit_decision(model: str, decision_id: str) -> Emitted:
    """Return the event that says this decision is to be carried out, once the server has acknowledged it.

    It goes over HTTP and not through Prefect's queue of events: that is emptied in the background, loses what
    a dying process left in it, and tells nobody when the server refuses.

    Raises:
        LaunchError: when no server is set, none answers in time, or it refuses the event.
    """
    if not PREFECT_API_URL.value():
        raise LaunchError(
            "launch mode event without PREFECT_API_URL",
            "a server whose automation listens: a temporary one would forget the event",
            "set PREFECT_API_URL, or EVERGREEN_LAUNCH=inline",
            model=model,
        )
    event = _event(model, decision_id)
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
            get_client(httpx_settings={"timeout": SECONDS}, sync_client=True) as client,
        ):
            # The client's table of routes does not list this one; the API documents it.
            client.request("POST", cast(Any, "/events"), json=[event.model_dump(mode="json")])
    except (PrefectHTTPStatusError, httpx.HTTPError) as err:
        status = err.response.status_code if isinstance(err, httpx.HTTPStatusError) else None
        raise LaunchError(
            f"the event of decision {decision_id} not taken by the Prefect API "
            f"({status or type(err).__name__})",
            "an acknowledgement",
            "check PREFECT_API_URL and its key; the decision is kept and sent again by the next monitor run",
            model=model,
        ) from err
    link = url_for("received-event", obj_id=event.id, occurred=f"{event.occurred:%Y-%m-%d}")
    return Emitted(event.id, link or None)


def _event(model: str, decision_id: str) -> Event:
    resource = {
        "prefect.resource.id": f"evergreen.model.{model}",
        "prefect.resource.name": model,
        "evergreen.decision": decision_id,
    }
    by = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}
    return Event(
        event=EVENT,
        resource=Resource(resource),
        related=[RelatedResource(by)] if flow_run.id else [],
        payload={"model": model, "decision_id": decision_id},
        id=event_id(model, decision_id),
    )
