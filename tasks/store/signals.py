"""What each look found of each cause, and the incidents that open, end or grow louder by it.

A look and what follows from it are written in one transaction, under the lock of the model's messages: of any
number of processes that look at once each sees what the others found, and one of them tells people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.messages import Message, Tier, in_words
from tasks.core.policy.alerting import (
    Look,
    Patience,
    is_over,
    is_overdue,
    look_at,
    louder,
    opens_as,
    patience_with,
)
from tasks.core.spec_alerts import Alerts
from tasks.core.window import utc
from tasks.store import alerts, deliveries
from tasks.store.alerts import Incident
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema_serving import signals

_RAISED = "told louder:"


class Voice(Protocol):
    """What is said to whom, and when."""

    @property
    def now(self) -> datetime:
        """The moment by the clock."""

    @property
    def link(self) -> str:
        """Where to look."""

    def opening(self, look: Look, tier: Tier) -> Mapping[str, Message]:
        """Return what each channel of the tier is told when an incident begins."""

    def louder(
        self, incident: Incident, tier: Tier, why: str, told: Mapping[str, Message]
    ) -> Mapping[str, Message]:
        """Return what each channel of a louder tier is told of an incident that others were told of."""

    def wait(self, channel: str, said: Message) -> datetime | None:
        """Return until when the channel is left alone with this message; None: it is told at once."""


@dataclass(frozen=True)
class Heard:
    """What became of a look: nothing where it was taken before (not `is_new`) or people are patient."""

    look: Look
    is_new: bool = True
    opened: Incident | None = None
    ended: Incident | None = None
    raised: tuple[Incident, Tier] | None = None
    is_open: bool = False

    @property
    def topics(self) -> list[str]:
        """The topics of the messages that this look led to."""
        found = []
        if self.opened:
            found.append(deliveries.opened(self.opened.id))
        if self.raised:
            found.append(deliveries.opened(self.raised[0].id, self.raised[1]))
        if self.ended:
            found += [deliveries.resolved(self.ended.id, tier) for tier in ("", *alerts.LOUDER_TIERS)]
        return found


def take(
    engine: Engine,
    model: str,
    looks: Collection[Look],
    *,
    name: str,
    at: datetime,
    rules: Alerts,
    voice: Voice,
) -> list[Heard]:
    """Return what became of each look, one per cause; `name` says which window or run looked.

    Of a cause the same name counts once: looked at again, later, and found otherwise, it takes the place of
    what it found before. Looks at one cause have their order by `at`; one that comes late is put where it
    belongs.
    """
    with writing(engine, lock=f"deliveries:{model}") as connection:
        names = {look.cause: look_at(look.cause, name, at) for look in looks}
        taken = _taken(connection, model, names)
        otherwise = {look.cause for look in looks if _says_otherwise(look, taken.get(look.cause), utc(at))}
        _replace(connection, model, names, [look for look in looks if look.cause in otherwise], utc(at))
        rows = [
            {
                "model": model, "cause": look.cause, "look": names[look.cause], "is_bad": look.is_bad,
                "tier": look.tier, "message": look.message, "at": utc(at),
            }
            for look in looks
            if look.cause not in taken
        ]  # fmt: skip
        insert_new(connection, signals, rows)
        is_open = {one.cause: one for one in alerts.of_model(connection, model, open_only=True)}
        return [
            _follow(connection, look, is_open.get(look.cause), _At(model, utc(at), rules, voice))
            if look.cause not in taken or look.cause in otherwise
            else Heard(look, is_new=False)
            for look in looks
        ]


def raise_overdue(
    engine: Engine, model: str, *, at: datetime, rules: Alerts, voice: Voice
) -> list[tuple[Incident, Tier]]:
    """Return the warnings that lasted too long and are critical by this call: each of them once, ever."""
    with writing(engine, lock=f"deliveries:{model}") as connection:
        raised: list[tuple[Incident, Tier]] = []
        for incident in alerts.of_model(connection, model, open_only=True):
            tier, since = _loudest(connection, incident)
            if is_overdue(tier, since, at, rules):
                why = f"a warning for {in_words(utc(at) - since)}"
                _raise(connection, incident, "critical", why, at=utc(at), voice=voice)
                raised.append((incident, "critical"))
        return raised


def history(engine: Engine, model: str, cause: str) -> list[tuple[str, Look]]:
    """Return the looks at this cause by the name of each, oldest first."""
    query = sa.select(signals).where(signals.c.model == model, signals.c.cause == cause)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(signals.c.at, signals.c.id))
        return [(row.look, Look(row.cause, row.tier, row.is_bad, row.message)) for row in rows]


def raised(engine: Engine, incident: Incident) -> dict[str, datetime]:
    """Return the louder tiers in which this incident was told, and since when."""
    with reading(engine) as connection:
        return _raises(connection, incident)


@dataclass(frozen=True)
class _At:
    """Where and when one looks, and by which rules."""

    model: str
    at: datetime
    rules: Alerts
    voice: Voice


def _follow(connection: Connection, look: Look, incident: Incident | None, here: _At) -> Heard:
    """Open, end or raise the incident of a look that was just written, where the looks together say so."""
    patience = patience_with(look.cause, here.rules)
    rows = _recent(connection, here.model, look.cause, patience)
    looks = [one for _, one in rows]
    tier = opens_as(looks, patience)
    if incident is None:
        if tier is None:
            return Heard(look)
        newest_at, newest = rows[-1]
        row = {"model": here.model, "cause": look.cause, "tier": tier, "message": newest.message}
        contents = here.voice.opening(newest, tier)
        opened, _ = alerts.begin(
            connection, {**row, "opened_at": newest_at}, contents, now=here.voice.now, wait=here.voice.wait
        )
        return Heard(look, opened=opened, is_open=True)
    since = [one for at, one in rows if at >= incident.opened_at]
    if is_over(since, patience):
        moment, voice = max(rows[-1][0], incident.opened_at), here.voice
        ended = alerts.end(
            connection, here.model, look.cause, moment, now=voice.now, link=voice.link, wait=voice.wait
        )
        return Heard(look, ended=ended)
    if tier is not None and louder(tier, _loudest(connection, incident)[0]):
        _raise(connection, incident, tier, looks[-1].message, at=here.at, voice=here.voice)
        return Heard(look, raised=(incident, tier), is_open=True)
    return Heard(look, is_open=True)


def _raise(
    connection: Connection, incident: Incident, tier: Tier, why: str, *, at: datetime, voice: Voice
) -> None:
    """Tell of the incident again in a louder tier; the tier in which it began stays in the history."""
    row = {"model": incident.model, "cause": f"{_RAISED}{incident.id}", "look": tier, "is_bad": True}
    insert_new(connection, signals, [{**row, "tier": tier, "message": why, "at": at}])
    before = deliveries.rows_about(connection, [deliveries.opened(incident.id)])
    contents = voice.louder(
        incident, tier, why, {one.channel: Message.from_dict(one.content) for one in before}
    )
    deliveries.supersede(connection, incident.id, list(contents), voice.now)
    topic = deliveries.opened(incident.id, tier)
    alerts.write(connection, incident, topic, contents, now=voice.now, wait=voice.wait)


def _taken(
    connection: Connection, model: str, names: Mapping[str, str]
) -> dict[str, tuple[datetime, bool, str]]:
    """Return by cause, of those with the names of their looks, when this look was taken and what it found."""
    mine = (signals.c.model == model, signals.c.cause.in_(list(names)))
    query = sa.select(signals).where(*mine, signals.c.look.in_(set(names.values())))
    return {
        row.cause: (row.at, row.is_bad, row.tier)
        for row in connection.execute(query)
        if names[row.cause] == row.look
    }


def _says_otherwise(look: Look, before: tuple[datetime, bool, str] | None, at: datetime) -> bool:
    """Return whether a look that was taken before finds something else by now; the later moment counts."""
    if before is None or at < before[0]:
        return False
    return look.is_bad != before[1] or (look.is_bad and look.tier != before[2])


def _replace(
    connection: Connection, model: str, names: Mapping[str, str], looks: Iterable[Look], at: datetime
) -> None:
    for look in looks:
        mine = (signals.c.cause == look.cause, signals.c.look == names[look.cause])
        found = {"is_bad": look.is_bad, "tier": look.tier, "message": look.message, "at": at}
        connection.execute(signals.update().where(signals.c.model == model, *mine).values(found))


def _recent(
    connection: Connection, model: str, cause: str, patience: Patience
) -> list[tuple[datetime, Look]]:
    query = sa.select(signals).where(signals.c.model == model, signals.c.cause == cause)
    query = query.order_by(signals.c.at.desc(), signals.c.id.desc()).limit(patience.memory)
    rows: Iterable[sa.Row[tuple[object, ...]]] = connection.execute(query).all()
    found = [(row.at, Look(row.cause, row.tier, row.is_bad, row.message)) for row in rows]
    return found[::-1]


def _loudest(connection: Connection, incident: Incident) -> tuple[str, datetime]:
    """Return the loudest tier in which people were told of the incident, and since when."""
    found = (incident.tier, incident.opened_at)
    for tier, at in _raises(connection, incident).items():
        if louder(tier, found[0]):
            found = (tier, at)
    return found


def _raises(connection: Connection, incident: Incident) -> dict[str, datetime]:
    mine = (signals.c.model == incident.model, signals.c.cause == f"{_RAISED}{incident.id}")
    query = sa.select(signals.c.look, signals.c.at).where(*mine).order_by(signals.c.at)
    return {row.look: row.at for row in connection.execute(query)}
