"""What is known of the labels of some keys, read so that nobody has to wait for it."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.store.schema import labels

Heard = Literal["new", "corrected", "same", "outdated"]
Target = tuple[str, str | None, datetime | None]
_CHUNK = 5_000  # keys per query, below the bound-parameter limits of both databases
_TARGET = (labels.c.row_key, labels.c.prediction_id, labels.c.event_time)


@dataclass(frozen=True)
class Label:
    """A label, what it is for, and since when it is known.

    `row_key` is that of the prediction also where `prediction_id` names a single one.
    """

    row_key: str
    label: Any  # Any: text, a number or a boolean
    known_at: datetime
    prediction_id: str | None = None
    event_time: datetime | None = None

    @property
    def target(self) -> Target:
        """What the label is for."""
        return self.row_key, self.prediction_id, self.event_time


@dataclass
class Known:
    """Labels of one target by when they became known, oldest first."""

    moments: list[datetime] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)  # Any: labels may be of any type

    def hear(self, one: Label) -> Heard:
        """Return what the label is beside what is known; what is news is known from now on."""
        place = bisect_right(self.moments, one.known_at)
        if place and _same(self.values[place - 1], one.label):
            return "same"
        is_newest = place == len(self.moments)
        self.learn(one.known_at, one.label)
        return "outdated" if not is_newest else "corrected" if place else "new"

    def learn(self, known_at: datetime, label: Any) -> None:  # Any: labels may be of any type
        """Put the label behind all that were known by then."""
        place = bisect_right(self.moments, known_at)
        self.moments.insert(place, known_at)
        self.values.insert(place, label)


class Nearby:
    """As much of what is known as these labels need: between their moments, and the next on either side.

    Read it first, which may take its time where much is known of a key; then `catch_up` in the transaction
    that writes, which reads only what came since.
    """

    def __init__(self, model: str, given: Sequence[Label]) -> None:
        """Take the labels that are to be judged."""
        self._model = model
        ordered = sorted({one.row_key for one in given})
        self._parts = [ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK)]
        moments = [one.known_at for one in given]
        self._low, self._high = (min(moments), max(moments)) if moments else (None, None)
        self._seen: list[int] = []
        self._known: dict[Target, Known] = defaultdict(Known)

    def read(self, connection: Connection) -> None:
        """Read what was known before this call."""
        for keys in self._parts:
            about = self._about(keys)
            last = connection.execute(sa.select(sa.func.max(labels.c.id)).where(*about)).scalar_one() or 0
            self._seen.append(last)
            if last:
                self._learn(connection, *about, labels.c.id <= last, self._is_near(keys, last))

    def catch_up(self, connection: Connection) -> None:
        """Read what came since: ids of a model grow, for who writes its labels holds their lock."""
        for keys, last in zip(self._parts, self._seen, strict=True):
            self._learn(connection, *self._about(keys), labels.c.id > last)

    def hear(self, one: Label) -> Heard:
        """Return what the label is beside what is known; what is news is known from now on."""
        return self._known[one.target].hear(one)

    def _about(self, keys: Iterable[str]) -> tuple[sa.ColumnElement[bool], ...]:
        return labels.c.model == self._model, labels.c.row_key.in_(list(keys))

    def _is_near(self, keys: Iterable[str], last: int) -> sa.ColumnElement[bool]:
        moment, number = labels.c.known_at, labels.c.id
        before = (moment.desc(), number.desc()), moment <= self._low
        after = (moment, number), moment > self._high
        nearest = []
        for order, side in (before, after):
            place = sa.func.row_number().over(partition_by=_TARGET, order_by=order).label("place")
            ranked = sa.select(number, place).where(*self._about(keys), number <= last, side).subquery()
            nearest.append(number.in_(sa.select(ranked.c.id).where(ranked.c.place == 1)))
        return sa.or_(sa.and_(moment > self._low, moment <= self._high), *nearest)

    def _learn(self, connection: Connection, *where: sa.ColumnElement[bool]) -> None:
        c = labels.c
        query = sa.select(c.row_key, c.prediction_id, c.event_time, c.known_at, c.label).where(*where)
        for row in connection.execute(query.order_by(c.known_at, c.id)):
            self._known[row.row_key, row.prediction_id, row.event_time].learn(row.known_at, row.label)


def _same(one: Any, other: Any) -> bool:  # Any: labels may be of any type
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
