"""Labels that a caller tells: found their predictions, judged by time, and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import utc
from tasks.store.engine import reading
from tasks.store.labels import AHEAD, Label, hear
from tasks.store.schema import predictions

Outcome = Literal["new", "corrected", "same", "outdated", "kept_for_later", "refused"]
NO_SUCH = (
    "no prediction has this id (they read REQUEST_ID/ROW, the first row is 0), or it is not in the store yet"
)
MOST_TOLD = 100
"""Labels of one target that one call may tell; our choice: more is no correction but a history."""
TOO_MANY = f"more than {MOST_TOLD} labels for the same in one request"
_CHUNK = 5_000


@dataclass(frozen=True)
class Told:
    """A label as a caller gives it: for a prediction by its id, or for a key, perhaps at one time.

    `known_at` None: it is known since now.
    """

    label: Any  # Any: text, a number or a boolean
    prediction_id: str | None = None
    key: str | None = None
    event_time: datetime | None = None
    known_at: datetime | None = None


@dataclass(frozen=True)
class Heard:
    """What became of a label, and why where it was refused."""

    outcome: Outcome
    problem: str = ""


def hear_told(engine: Engine, model: str, told: Sequence[Told], *, now: datetime) -> list[Heard]:
    """Return what became of each label; all but those refused are in the store when this returns.

    A label for an id that no prediction has is refused, one for a key is kept for later. A label that was
    known before its event happened is refused; a caller's clock may be a minute behind. So is what goes
    beyond `MOST_TOLD` for one target.
    """
    moment = utc(now)
    with reading(engine) as connection:
        by_id = _by_id(connection, model, {one.prediction_id for one in told if one.prediction_id})
        keys = {one.key for one in told if one.key is not None}
        first = _first_events(connection, model, keys)
        timed = {one.event_time for one in told if one.event_time is not None}
        there = _events(connection, model, keys, timed) if timed else set()
    placed = _limited([_placed(one, by_id, first, there, now=moment) for one in told])
    good = [one for one, _ in placed if isinstance(one, Label)]
    heard = iter(hear(engine, model, good, source="api", heard_at=moment) if good else [])
    found = []
    for one, is_served in placed:
        if isinstance(one, Heard):
            found.append(one)
            continue
        outcome = next(heard)
        waits = not is_served and outcome != "same"
        found.append(Heard("kept_for_later" if waits else outcome))
    return found


def _placed(
    one: Told,
    by_id: dict[str, tuple[str, datetime]],
    first: dict[str, datetime],
    there: set[tuple[str, datetime]],
    *,
    now: datetime,
) -> tuple[Label | Heard, bool]:
    """Return the label as it is kept, or why it is refused; and whether a prediction is there for it."""
    known_at = utc(one.known_at) if one.known_at else now
    if one.prediction_id is not None:
        if one.prediction_id not in by_id:
            return Heard("refused", NO_SUCH), False
        key, happened = by_id[one.prediction_id]
        is_served = True
    else:
        key = str(one.key)
        happened = one.event_time or first.get(key, known_at)
        is_served = (key, one.event_time) in there if one.event_time else key in first
    if known_at < happened - AHEAD:
        return Heard("refused", "it was known before the event happened"), is_served
    known_at = max(known_at, happened)
    return Label(key, one.label, known_at, one.prediction_id, one.event_time), is_served


def _limited(placed: Iterable[tuple[Label | Heard, bool]]) -> list[tuple[Label | Heard, bool]]:
    """Return the same with what goes beyond the limit refused."""
    told: Counter[object] = Counter()
    found = []
    for one, is_served in placed:
        if isinstance(one, Label):
            told[one.target] += 1
        too_many = isinstance(one, Label) and told[one.target] > MOST_TOLD
        found.append((Heard("refused", TOO_MANY) if too_many else one, is_served))
    return found


def _by_id(connection: Connection, model: str, ids: Iterable[str]) -> dict[str, tuple[str, datetime]]:
    c, found = predictions.c, {}
    for part in _parts(ids):
        query = sa.select(c.prediction_id, c.row_key, c.event_time)
        query = query.where(c.model == model, c.prediction_id.in_(part))
        found.update({row.prediction_id: (row.row_key, row.event_time) for row in connection.execute(query)})
    return found


def _first_events(connection: Connection, model: str, keys: Iterable[str]) -> dict[str, datetime]:
    c, found = predictions.c, {}
    first = sa.func.min(c.event_time, type_=c.event_time.type).label("first")
    for part in _parts(keys):
        query = sa.select(c.row_key, first).where(c.model == model, c.row_key.in_(part)).group_by(c.row_key)
        found.update({row.row_key: row.first for row in connection.execute(query)})
    return found


def _events(
    connection: Connection, model: str, keys: Iterable[str], times: Iterable[datetime]
) -> set[tuple[str, datetime]]:
    c, found, moments = predictions.c, set[tuple[str, datetime]](), sorted(times)
    for part in _parts(keys):
        query = sa.select(c.row_key, c.event_time).distinct()
        query = query.where(c.model == model, c.row_key.in_(part))
        query = query.where(c.event_time >= moments[0], c.event_time <= moments[-1])
        found.update((row.row_key, row.event_time) for row in connection.execute(query))
    return found


def _parts(texts: Iterable[str]) -> list[list[str]]:
    ordered = sorted(texts)
    return [ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK)]
