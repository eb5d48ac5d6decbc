"""Telling people, once per incident, on every channel that works."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.policy.decision import Decision
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import alerts
from tasks.store.engine import open_store

Tier = Literal["critical", "warning", "info"]

CHANNEL_SECONDS = 20.0
"""How long all channels together may take; they are told side by side, so that none waits for another."""
_LEVELS = {"critical": logging.CRITICAL, "warning": logging.WARNING, "info": logging.INFO}
_MOST = 1000
_TIERS: dict[str, Tier] = {
    "data": "critical",
    "labels": "warning",
    "decay": "warning",
    "drift": "info",
    "age": "info",
    "first": "info",
}
# What people call a channel, and what Prefect calls the block. Other names are taken as Prefect's own.
_BLOCKS = {
    "slack": "slack-webhook",
    "teams": "ms-teams-webhook",
    "pagerduty": "pager-duty-webhook",
    "opsgenie": "opsgenie-webhook",
    "discord": "discord-webhook",
    "mattermost": "mattermost-webhook",
    "webhook": "custom-webhook",
    "sendgrid": "sendgrid-email",
    "twilio": "twilio-sms",
}


@dataclass(frozen=True)
class Told:
    """What became of a message: `is_new` says whether it opened an incident; only then anybody was told."""

    is_new: bool
    reached: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@task(retries=0, timeout_seconds=120, cache_policy=NO_CACHE)
def tell(
    spec: ModelSpec,
    tier: Tier,
    cause: str,
    message: str,
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> Told:
    """Return who was told of this incident; nobody when it is open already.

    The message goes to the log and to every block named for the tier in `spec.alerts`. A channel that fails
    or hangs is logged by name and loses nothing for the others. When all channels failed nobody knows, so the
    incident is closed again and the next check tells it anew. Not retried: that would tell some twice.

    Raises:
        ValueError: when the tier is unknown.
    """
    return _tell(spec, tier, cause, message, as_of, settings)


@task(retries=0, timeout_seconds=240, cache_policy=NO_CACHE)
def announce(
    spec: ModelSpec, decision: Decision, *, as_of: datetime, settings: Settings | None = None
) -> tuple[Told, ...]:
    """Return what became of the messages about this decision: one per incident that it opens.

    Bad data is critical; suspected labels, decay and a loop that does not help itself are warnings; drift,
    age and the first training are for information. Incidents that the decision's evidence shows to be over
    are settled; what the evidence does not know stays open.
    """
    engine = open_store(settings)
    for cause in sorted(_over(decision)):
        if alerts.resolve(engine, spec.name, cause, as_of):
            task_logger(__name__).info("%s: %s is over", spec.name, cause)
    told = []
    if decision.cause != "none":
        told.append(_tell(spec, _TIERS[decision.cause], decision.cause, decision.sentence(), as_of, settings))
    if decision.escalate:
        told.append(_tell(spec, "warning", "futility", decision.sentence(), as_of, settings))
    return tuple(told)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def settle(spec: ModelSpec, cause: str, *, as_of: datetime, settings: Settings | None = None) -> bool:
    """Return True when this ended an open incident; the next one of this cause is told again."""
    ended = alerts.resolve(open_store(settings), spec.name, cause, as_of)
    if ended:
        task_logger(__name__).info("%s: %s is over", spec.name, cause)
    return ended


def _over(decision: Decision) -> set[str]:
    """Return the incidents that cannot be open any more after this decision."""
    known = decision.evidence
    over = {
        "data": known.get("data_ok") is True,
        "labels": known.get("label_fault") is None,
        "decay": _newest(known.get("performance")) == "ok",
        "drift": _newest(known.get("drift")) == "ok",
        "first": known.get("has_champion") is True,
        "age": True,
        "futility": not decision.escalate and (decision.kind == "TRAIN" or decision.cause == "none"),
    }
    return {cause for cause, ended in over.items() if ended and cause != decision.cause}


def _newest(checks: object) -> str | None:
    return checks[-1]["outcome"] if isinstance(checks, list) and checks else None


def _tell(
    spec: ModelSpec, tier: Tier, cause: str, message: str, as_of: datetime, settings: Settings | None
) -> Told:
    if tier not in _LEVELS:
        raise ValueError(f"tier {tier!r} is none of {', '.join(_LEVELS)}")
    engine, text = open_store(settings), message[:_MOST]
    if not alerts.open_once(engine, model=spec.name, cause=cause, tier=tier, message=text, at=as_of):
        task_logger(__name__).debug("%s: %s is known already", spec.name, cause)
        return Told(is_new=False)
    channels = tuple(dict.fromkeys(getattr(spec.alerts, tier)))
    subject = f"[{tier}] {spec.name}: {cause}"
    failed = _send(channels, text, subject)
    if channels and len(failed) == len(channels):
        alerts.resolve(engine, spec.name, cause, as_of)
    task_logger(__name__).log(
        _LEVELS[tier], "%s: %s (told %d of %d channels)",
        subject, text, len(channels) - len(failed), len(channels),
    )  # fmt: skip
    for name, why in failed.items():
        task_logger(__name__).error("%s: channel %s was not reached: %s", spec.name, name, why)
    return Told(True, tuple(name for name in channels if name not in failed), tuple(failed))


def _send(channels: tuple[str, ...], text: str, subject: str) -> dict[str, str]:
    """Return the channels that were not reached, each with the kind of its failure.

    Only the kind: the text of such an error often holds the webhook's URL, which is a secret.
    """
    failed = dict.fromkeys(channels, f"no answer in {CHANNEL_SECONDS:.0f} s")

    def one(name: str) -> None:
        try:
            _load(name).notify(body=text, subject=subject)
        except Exception as err:  # whatever a channel does, the others must be told
            failed[name] = type(err).__name__
        else:
            failed.pop(name)

    threads = [_started(lambda name=name: one(name)) for name in channels]
    deadline = time.monotonic() + CHANNEL_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(failed)


def _started(work: Callable[[], None]) -> threading.Thread:
    """Return a running thread that sees this run's context and never keeps the process from ending."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), daemon=True)
    thread.start()
    return thread


def _load(channel: str) -> Any:  # Any: a Prefect notification block, of whatever kind the name says
    from prefect.blocks.core import Block

    kind, _, name = channel.partition("/")
    return Block.load(f"{_BLOCKS.get(kind, kind)}/{name}")
