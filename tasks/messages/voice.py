"""What a model's people are told of an incident, on which channels, and until when it waits."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from sqlalchemy.engine import Engine

from tasks.core.messages import Message, Tier, louder_again, opening
from tasks.core.policy.alerting import Look, quiet_until
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.messages.channels import closes, wakes
from tasks.messages.deliver import DEPLOYER
from tasks.store import deliveries
from tasks.store.alerts import Incident
from tasks.store.deliveries import Delivery


@dataclass(frozen=True)
class Voice:
    """Speaks for one model: `now` is the clock's, by which people sleep; `link` is where to look."""

    spec: ModelSpec
    now: datetime
    link: str = ""

    def opening(self, look: Look, tier: Tier) -> dict[str, Message]:
        """Return what each channel of the tier is told when an incident begins."""
        said = opening(self.spec.name, look.cause, tier, look.message, key=uuid.uuid4().hex, link=self.link)
        return dict.fromkeys(addressed(self.spec, tier), said)

    def louder(
        self, incident: Incident, tier: Tier, why: str, told: Mapping[str, Message]
    ) -> dict[str, Message]:
        """Return what each channel of a louder tier is told of an incident that others were told of.

        A pager that has an incident of it would only note a second message on that; it gets a second one.
        """
        key = next((said.key for said in told.values()), uuid.uuid4().hex)
        first = Message(incident.model, incident.cause, _tier(incident), "", incident.message, key)
        found = {}
        for channel in addressed(self.spec, tier):
            own = f"{key}-{tier}" if closes(channel) and channel in told else key
            found[channel] = louder_again(first, tier, why, key=own, link=self.link)
        return found

    def wait(self, channel: str, said: Message) -> datetime | None:
        """Return until when the channel is left alone with this message; None: it is told at once.

        What is critical never waits, nor does the end of an incident that a pager closes without a sound.
        """
        if said.tier == "critical" or (said.ends and closes(channel)):
            return None
        return quiet_until(self.spec.alerts.quiet, self.now)

    def waits(self, row: Delivery) -> datetime | None:
        """Return until when a message on its way waits; what a deployer is told does not."""
        return None if row.channel == DEPLOYER else self.wait(row.channel, Message.from_dict(row.content))

    def readdress(self, engine: Engine, row: Delivery) -> bool:
        """Return True when this row waited for a channel that nobody names any more, and others are told."""
        # The deployer is named by a place, never by the spec.
        named = {DEPLOYER, *(name for tier in get_args(Tier) for name in getattr(self.spec.alerts, tier))}
        if row.channel in named or deliveries.ends_incident(row):
            return False
        instead = addressed(self.spec, Message.from_dict(row.content).tier)
        if deliveries.readdress(engine, row, instead, self.now):
            task_logger(__name__).warning(
                "%s: channel %s is not named any more; its message goes to %s",
                self.spec.name, row.channel, ", ".join(instead) or "nobody",
            )  # fmt: skip
        return True


def run_page() -> str:
    """Return the address of this flow run's page, empty where there is no run or no UI is known."""
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.utilities.urls import url_for

    flow, inner = FlowRunContext.get(), TaskRunContext.get()
    identity = flow.flow_run.id if flow and flow.flow_run else inner.task_run.flow_run_id if inner else None
    page = (url_for("flow-run", identity) or "") if identity else ""
    return "" if "@" in page else page  # an address with a password in it is for nobody to read


def addressed(spec: ModelSpec, tier: str) -> list[str]:
    """Return the channels of this tier; what is for information wakes nobody."""
    named = list(dict.fromkeys(getattr(spec.alerts, tier)))
    kept = [name for name in named if not (tier == "info" and wakes(name))]
    if len(kept) < len(named):
        task_logger(__name__).warning(
            "%s: alerts.info names %s, which wakes people and is left out",
            spec.name, ", ".join(name for name in named if name not in kept),
        )  # fmt: skip
    return kept


def _tier(incident: Incident) -> Tier:
    return "critical" if incident.tier == "critical" else "warning" if incident.tier == "warning" else "info"
