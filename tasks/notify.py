"""Telling people, once per incident, on every channel that works."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from sqlalchemy.engine import Engine

from tasks.clock import now_or
from tasks.core.messages import LONGEST, Tier
from tasks.core.policy.alerting import Look, Seen, look_of, one_per_cause, patience_with
from tasks.core.policy.decision import Decision
from tasks.core.policy.tiers import incident_of, over
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.messages import promotions
from tasks.messages.deliver import DEPLOYER, Sent, send_rows
from tasks.messages.voice import Voice, run_page
from tasks.settings import Settings
from tasks.store import alerts, deliveries, signals
from tasks.store.alerts import Incident
from tasks.store.deliveries import Delivery
from tasks.store.engine import open_store
from tasks.store.signals import Heard

_LEVELS = {"critical": logging.CRITICAL, "warning": logging.WARNING, "info": logging.INFO}


@dataclass(frozen=True)
class Told:
    """What became of a message: `is_new` says whether it opened an incident; only then anybody was told.

    What failed is not lost: it is tried again by `deliver_pending`, as is what waits for quiet hours to end.
    """

    is_new: bool
    reached: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signalled:
    """What several looks led to, by cause; `held` were bad without opening anything yet."""

    opened: tuple[str, ...] = ()
    louder: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


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

    Where people asked for patience, this is one bad look, at `as_of`, and opens an incident when enough of
    the last ones were bad; see `signal`.

    Raises:
        ValueError: when the tier is unknown.
    """
    desk = _Desk.here(spec, settings, link)
    heard = desk.hear(Look(cause, tier, True, message[:LONGEST]), _stamp(as_of), as_of)
    return desk.sent([heard])[0]


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def tell_decided(
    spec: ModelSpec,
    decision_id: str,
    outcome: str,
    message: str,
    *,
    as_of: datetime,
    settings: Settings | None = None,
    link: str = "",
) -> Told:
    """Return who was told how a decision ended, for information; nobody where that was told before.

    It opens no incident: what was decided is done. Who wants to know of promotions, of challengers that were
    kept back and of what people ruled names a channel in `alerts.info`.

    Args:
        spec: The model.
        decision_id: Its id in the ledger; each outcome of it is told once.
        outcome: The end in one word, for example promoted.
        message: What was decided, by whom and why.
        as_of: When it counts as decided.
        settings: This place.
        link: Where to look; default: the page of this run.
    """
    desk, cause = _Desk.here(spec, settings, link), f"decided {decision_id} {outcome}"
    look = Look(cause, "info", True, message[:LONGEST])
    said = {
        channel: replace(one, subject=f"[info] {spec.name}: {outcome}")
        for channel, one in desk.voice.opening(look, "info").items()
    }
    incident = alerts.note_once(
        desk.engine, model=spec.name, cause=cause, message=look.message, at=as_of,
        contents=said, now=desk.voice.now, wait=desk.voice.wait,
    )  # fmt: skip
    return desk.sent([Heard(look, opened=incident)])[0]


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def announce(
    spec: ModelSpec, decision: Decision, *, as_of: datetime, settings: Settings | None = None, link: str = ""
) -> tuple[Told, ...]:
    """Return what became of the messages about this decision: one per incident that it opens.

    Bad data is critical; suspected labels, decay, drift that is likely to hurt and a loop that does not help
    itself are warnings; other drift, age and the first training are for information. Incidents that the
    decision's evidence shows to be over are settled; what the evidence does not know stays open. Where people
    asked for patience, a window that was checked is a look, however often decisions rest on it.
    """
    desk = _Desk.here(spec, settings, link)
    looks = [Look(cause, "info", False) for cause in sorted(over(decision))]
    if opened := incident_of(decision):
        looks.append(Look(opened[0], opened[1], True, decision.sentence()[:LONGEST]))
    if decision.escalate:
        looks.append(Look("futility", "warning", True, decision.sentence()[:LONGEST]))
    heard = [desk.hear(look, look_of(decision, look.cause), as_of) for look in looks]
    return tuple(told for one, told in zip(heard, desk.sent(heard), strict=True) if one.look.is_bad)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def settle(spec: ModelSpec, cause: str, *, as_of: datetime, settings: Settings | None = None) -> bool:
    """Return True when this ended an open incident; the next one of this cause is told again.

    The channels that were told of it are told that it is over, and pagers close theirs. Where people asked
    for patience, this is one clean look, and more may be needed.
    """
    desk = _Desk.here(spec, settings)
    heard = desk.hear(Look(cause, "info", False), _stamp(as_of), as_of)
    desk.sent([heard])
    return heard.ended is not None


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def signal(
    spec: ModelSpec,
    looks: Sequence[Seen],
    *,
    look: str,
    as_of: datetime,
    settings: Settings | None = None,
    link: str = "",
) -> Signalled:
    """Return which incidents these looks opened, raised or ended; people are told of those, and only those.

    `look` names the window or run that looked: looking again under the same name is no second look, but what
    it finds by now takes the place of what it found before. An incident opens when `alerts.open_after` says
    so, ends after `alerts.close_after` clean looks in a row, and is told again, once, when it grows louder
    than people know. Facts are told at once. A cause that is not among the looks was not looked at, which is
    neither bad nor clean.
    """
    desk = _Desk.here(spec, settings, link)
    seen = [replace(one, message=one.message[:LONGEST]) for one in one_per_cause(looks)]
    heard = signals.take(
        desk.engine, spec.name, seen, name=look, at=as_of, rules=spec.alerts, voice=desk.voice
    )
    desk.sent(heard)
    found = Signalled(
        opened=tuple(one.look.cause for one in heard if one.opened),
        louder=tuple(one.look.cause for one in heard if one.raised),
        ended=tuple(one.look.cause for one in heard if one.ended),
        held=tuple(one.look.cause for one in heard if one.is_new and one.look.is_bad and not one.is_open),
    )
    task_logger(__name__).info(
        "%s: looked at %d causes as %s: %d opened, %d louder, %d ended, %d held back",
        spec.name, len(seen), look, *map(len, (found.opened, found.louder, found.ended, found.held)),
    )  # fmt: skip
    return found


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def escalate(
    spec: ModelSpec, *, as_of: datetime, settings: Settings | None = None, link: str = ""
) -> tuple[str, ...]:
    """Return the causes of the warnings that lasted longer than `alerts.escalate_after` and are critical now.

    The critical channels are told once per incident, whoever asks and how often. The incident stays a warning
    in the history, beside when it was told louder.
    """
    if spec.alerts.escalate_after is None:
        return ()
    desk = _Desk.here(spec, settings, link)
    raised = signals.raise_overdue(desk.engine, spec.name, at=as_of, rules=spec.alerts, voice=desk.voice)
    desk.sent([Heard(Look(one.cause, tier, True, one.message), raised=(one, tier)) for one, tier in raised])
    return tuple(incident.cause for incident, _ in raised)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def deliver_pending(
    spec: ModelSpec, *, as_of: datetime | None = None, settings: Settings | None = None
) -> Delivered:
    """Return what became of the messages of this model that wait to be sent, or sent again.

    What failed waits 1 minute, then twice as long each time up to 1 hour, and is given up with a critical
    line in the log after 24 tries; what is not critical waits for the end of quiet hours. `as_of` is the time
    by the clock, default: now; never the moment that a flow acts as of. What waits for a channel that the
    spec does not name any more goes to those it does. Where a deployer is set, a move of the last 7 days that
    nobody announced to it is announced first; what waits for a deployer is left alone where none is set, for
    it is another place's to send.
    """
    place, now = settings or Settings(), now_or(as_of)
    engine = open_store(place)
    if place.deployer and (missed := promotions.put_missing(engine, spec.name, now)):
        task_logger(__name__).warning(
            "%s: nobody had told the deployer of version %d (%s)", spec.name, missed.version, missed.action
        )
    others = () if place.deployer else (DEPLOYER,)
    voice = Voice(spec, now)
    found = deliveries.due(engine, spec.name, now, without=others)
    named = [row for row in found if not voice.readdress(engine, row)]
    deliveries.hold(engine, [(row, until) for row in named if (until := voice.waits(row))])
    rows = [row for row in deliveries.due(engine, spec.name, now, without=others) if not voice.waits(row)]
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
class _Desk:
    """Where looks come in and messages go out: one model, in one place, at one moment of the clock."""

    spec: ModelSpec
    place: Settings
    engine: Engine
    voice: Voice

    @classmethod
    def here(cls, spec: ModelSpec, settings: Settings | None, link: str = "") -> _Desk:
        place = settings or Settings()
        return cls(spec, place, open_store(place), Voice(spec, now_or(None), link or run_page()))

    def hear(self, look: Look, name: str, as_of: datetime) -> Heard:
        """Return what became of one look; where one look decides, nothing is remembered of it."""
        if not patience_with(look.cause, self.spec.alerts).is_none:
            return signals.take(
                self.engine, self.spec.name, [look], name=name, at=as_of, rules=self.spec.alerts,
                voice=self.voice,
            )[0]  # fmt: skip
        voice, model = self.voice, self.spec.name
        if not look.is_bad:
            ended = alerts.end_incident(
                self.engine, model, look.cause, as_of, now=voice.now, link=voice.link, wait=voice.wait
            )
            return Heard(look, ended=ended)
        incident, is_new = alerts.open_incident(
            self.engine, model=model, cause=look.cause, tier=look.tier, message=look.message, at=as_of,
            contents=voice.opening(look, look.tier), now=voice.now, wait=voice.wait,
        )  # fmt: skip
        return Heard(look, opened=incident if is_new else None, is_open=True)

    def sent(self, heard: Sequence[Heard]) -> list[Told]:
        """Send what the looks led to, and return who was told, look by look, after a line in the log each."""
        rows = deliveries.about(self.engine, [topic for one in heard for topic in one.topics])
        due = [row for row in rows if row.done_at is None and row.next_at <= self.voice.now]
        sent = send_rows(self.engine, due, self.voice.now, self.place)
        tried = {row.id for row in due}
        return [
            self._told(one, [row for row in rows if row.topic in one.topics], tried, sent) for one in heard
        ]

    def _told(self, one: Heard, rows: Sequence[Delivery], tried: set[int], sent: Sent) -> Told:
        log, name, cause = task_logger(__name__), self.spec.name, one.look.cause
        if one.ended:
            log.info("%s: %s is over", name, cause)
        if not one.opened and not one.raised:
            log.debug("%s: %s is known already, or not yet told", name, cause)
            return Told(is_new=False)
        tier, text = _said(one)
        reached = _channels(rows, sent.reached)
        waiting = tuple(row.channel for row in rows if row.id not in tried and row.done_at is None)
        log.log(
            _LEVELS[tier], "[%s] %s: %s: %s (told %d of %d channels)",
            tier, name, cause, text, len(reached), len(rows),
        )  # fmt: skip
        failed = tuple(row.channel for row in rows if row.channel not in (*reached, *waiting))
        return Told(True, reached, failed, waiting)


def _said(one: Heard) -> tuple[str, str]:
    incident: Incident | None = one.opened
    if incident:
        return incident.tier, incident.message
    return (one.raised[1] if one.raised else one.look.tier), one.look.message


def _channels(rows: Iterable[Delivery], ids: Iterable[int]) -> tuple[str, ...]:
    wanted = set(ids)
    return tuple(row.channel for row in rows if row.id in wanted)


def _stamp(as_of: datetime) -> str:
    return utc(as_of).isoformat()
