"""Telling people, once per incident, on every channel that works."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from sqlalchemy.engine import Engine

from tasks.clock import now_or
from tasks.core.messages import LONGEST, Message, Tier, opening
from tasks.core.policy.decision import Decision
from tasks.core.policy.tiers import incident_of, over
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.messages import promotions
from tasks.messages.channels import wakes
from tasks.messages.deliver import DEPLOYER, Sent, send_rows
from tasks.settings import Settings
from tasks.store import alerts, deliveries
from tasks.store.deliveries import Delivery
from tasks.store.engine import open_store

_LEVELS = {"critical": logging.CRITICAL, "warning": logging.WARNING, "info": logging.INFO}


@dataclass(frozen=True)
class Told:
    """What became of a message: `is_new` says whether it opened an incident; only then anybody was told.

    What failed is not lost: it is tried again by `deliver_pending`.
    """

    is_new: bool
    reached: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delivered:
    """The channels, one entry per message, that took what was waiting, failed again, or were given up."""

    reached: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def tell(
    spec: ModelSpec,
    tier: Tier,
    cause: str,
    message: str,
    *,
    as_of: datetime,
    settings: Settings | None = None,
    link: str = "",
) -> Told:
    """Return who was told of this incident; nobody when it is open already.

    The message goes to the log and to every block named for the tier in `spec.alerts`; what is for
    information wakes nobody, so pagers named there are left out. The incident and what each channel is to be
    told are written in one transaction and sent afterwards: a channel that fails or hangs is logged by name,
    loses nothing for the others, and is tried again by `deliver_pending`. `link` is where to look; without
    one it is the page of this run, where the address of the Prefect UI is known.

    Raises:
        ValueError: when the tier is unknown.
    """
    place = settings or Settings()
    incident = _Incident.begun(spec, tier, cause, message, as_of, place, link)
    return incident.told(send_rows(incident.engine, incident.rows, now_or(None), place))


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def announce(
    spec: ModelSpec, decision: Decision, *, as_of: datetime, settings: Settings | None = None, link: str = ""
) -> tuple[Told, ...]:
    """Return what became of the messages about this decision: one per incident that it opens.

    Bad data is critical; suspected labels, decay, drift that is likely to hurt and a loop that does not help
    itself are warnings; other drift, age and the first training are for information. Incidents that the
    decision's evidence shows to be over are settled; what the evidence does not know stays open.
    """
    place = settings or Settings()
    ended = [row for cause in sorted(over(decision)) for row in _ended(spec, cause, as_of, place)[1]]
    begun = []
    opened = incident_of(decision)
    if opened:
        cause, tier = opened
        begun.append(_Incident.begun(spec, tier, cause, decision.sentence(), as_of, place, link))
    if decision.escalate:
        begun.append(_Incident.begun(spec, "warning", "futility", decision.sentence(), as_of, place, link))
    rows = ended + [row for incident in begun for row in incident.rows]
    sent = send_rows(open_store(place), rows, now_or(None), place)
    return tuple(incident.told(sent) for incident in begun)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def settle(spec: ModelSpec, cause: str, *, as_of: datetime, settings: Settings | None = None) -> bool:
    """Return True when this ended an open incident; the next one of this cause is told again.

    The channels that were told of it are told that it is over, and pagers close theirs.
    """
    place = settings or Settings()
    ended, rows = _ended(spec, cause, as_of, place)
    send_rows(open_store(place), rows, now_or(None), place)
    return ended


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def deliver_pending(
    spec: ModelSpec, *, as_of: datetime | None = None, settings: Settings | None = None
) -> Delivered:
    """Return what became of the messages of this model that wait to be sent, or sent again.

    What failed waits 1 minute, then twice as long each time up to 1 hour, and is given up with a critical
    line in the log after 24 tries. `as_of` is the time by the clock, default: now; never the moment that a
    flow acts as of. What waits for a channel that the spec does not name any more goes to those it does.
    Where a deployer is set, a move of the last 7 days that nobody announced to it is announced first; what
    waits for a deployer is left alone where none is set, for it is another place's to send.
    """
    place, now = settings or Settings(), now_or(as_of)
    engine = open_store(place)
    if place.deployer and (missed := promotions.put_missing(engine, spec.name, now)):
        task_logger(__name__).warning(
            "%s: nobody had told the deployer of version %d (%s)", spec.name, missed.version, missed.action
        )
    others = () if place.deployer else (DEPLOYER,)
    for row in deliveries.due(engine, spec.name, now, without=others):
        _readdress(spec, engine, row, now)
    rows = deliveries.due(engine, spec.name, now, without=others)
    sent = send_rows(engine, rows, now, place)
    done = Delivered(
        _channels(rows, sent.reached), _channels(rows, sent.failed), _channels(rows, sent.given_up)
    )
    if rows:
        task_logger(__name__).info(
            "%s: of %d waiting messages %d arrived, %d failed, %d were given up",
            spec.name, len(rows), len(done.reached), len(done.failed), len(done.given_up),
        )  # fmt: skip
    return done


@dataclass(frozen=True)
class _Incident:
    """An incident as this call found or opened it, and what is to be sent of it."""

    spec: ModelSpec
    tier: Tier
    cause: str
    text: str
    engine: Engine
    is_new: bool
    rows: tuple[Delivery, ...]

    @classmethod
    def begun(
        cls, spec: ModelSpec, tier: Tier, cause: str, text: str, as_of: datetime, place: Settings, link: str
    ) -> _Incident:
        """Open the incident, unless it is open, with a message to every channel of its tier."""
        if tier not in _LEVELS:
            raise ValueError(f"tier {tier!r} is none of {', '.join(_LEVELS)}")
        engine, text = open_store(place), text[:LONGEST]
        said = opening(spec.name, cause, tier, text, key=uuid.uuid4().hex, link=link or _run_page())
        incident, is_new = alerts.open_incident(
            engine, model=spec.name, cause=cause, tier=tier, message=text, at=as_of,
            contents=dict.fromkeys(_addressed(spec, tier), said), now=now_or(None),
        )  # fmt: skip
        rows = deliveries.about(engine, [deliveries.opened(incident.id)]) if is_new else []
        return cls(spec, tier, cause, text, engine, is_new, tuple(rows))

    def told(self, sent: Sent) -> Told:
        """Return who was told, after a line in the log at the level of the tier."""
        if not self.is_new:
            task_logger(__name__).debug("%s: %s is known already", self.spec.name, self.cause)
            return Told(is_new=False)
        reached = _channels(self.rows, sent.reached)
        task_logger(__name__).log(
            _LEVELS[self.tier], "[%s] %s: %s: %s (told %d of %d channels)",
            self.tier, self.spec.name, self.cause, self.text, len(reached), len(self.rows),
        )  # fmt: skip
        return Told(True, reached, tuple(row.channel for row in self.rows if row.channel not in reached))


def _ended(spec: ModelSpec, cause: str, as_of: datetime, place: Settings) -> tuple[bool, list[Delivery]]:
    """Return whether this ended an open incident, and what is to be sent of that."""
    engine = open_store(place)
    ended = alerts.end_incident(engine, spec.name, cause, as_of, now=now_or(None), link=_run_page())
    if ended is None:
        return False, []
    task_logger(__name__).info("%s: %s is over", spec.name, cause)
    now = now_or(None)
    rows = deliveries.about(engine, [deliveries.resolved(ended.id)])
    return True, [row for row in rows if row.next_at <= now]


def _addressed(spec: ModelSpec, tier: str) -> list[str]:
    """Return the channels of this tier; what is for information wakes nobody."""
    named = list(dict.fromkeys(getattr(spec.alerts, tier)))
    kept = [name for name in named if not (tier == "info" and wakes(name))]
    if len(kept) < len(named):
        task_logger(__name__).warning(
            "%s: alerts.info names %s, which wakes people and is left out",
            spec.name, ", ".join(name for name in named if name not in kept),
        )  # fmt: skip
    return kept


def _readdress(spec: ModelSpec, engine: Engine, row: Delivery, now: datetime) -> None:
    """Send what waits for a channel that nobody names any more to those that are named."""
    # The deployer is named by a place, never by the spec.
    named = {DEPLOYER, *(name for tier in _LEVELS for name in getattr(spec.alerts, tier))}
    if row.channel in named or deliveries.ends_incident(row):
        return
    instead = _addressed(spec, Message.from_dict(row.content).tier)
    if deliveries.readdress(engine, row, instead, now):
        task_logger(__name__).warning(
            "%s: channel %s is not named any more; its message goes to %s",
            spec.name, row.channel, ", ".join(instead) or "nobody",
        )  # fmt: skip


def _channels(rows: Iterable[Delivery], ids: Iterable[int]) -> tuple[str, ...]:
    wanted = set(ids)
    return tuple(row.channel for row in rows if row.id in wanted)


def _run_page() -> str:
    """Return the address of this flow run's page, empty where there is no run or no UI is known."""
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.utilities.urls import url_for

    flow, inner = FlowRunContext.get(), TaskRunContext.get()
    identity = flow.flow_run.id if flow and flow.flow_run else inner.task_run.flow_run_id if inner else None
    page = (url_for("flow-run", identity) or "") if identity else ""
    return "" if "@" in page else page  # an address with a password in it is for nobody to read
