"""Names, times and changes of a drift check in the words of a person who uses the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from itertools import accumulate

from tasks.core.drift.profile import SCORE
from tasks.core.drift.results import JOINT, DriftVerdict, FeatureVerdict
from tasks.core.drift.shape import Shape
from tasks.core.window import Window

_DAY = timedelta(days=1)
_ORDERED = frozenset({"ks", "wasserstein"})  # measures that only a number has
_APART = ("missing", "unreadable", "not seen before", "other values")  # labels outside any order
_classes: ContextVar[tuple[str, ...]] = ContextVar("classes", default=())


def named(feature: str) -> str:
    """Return the feature as a reader knows it: scores and whole rows are no columns of theirs.

    Example:
        >>> named("spend"), named("__score__"), named("__score__2"), named("__rows__")
        ('spend', "the model's score", "the model's score of class 3", 'how the columns hang together')
    """
    if feature == JOINT:
        return "how the columns hang together"
    if not feature.startswith(SCORE):
        return feature
    place = feature.removeprefix(SCORE)
    if not place.isdigit():
        return "the model's score"
    classes, at = _classes.get(), int(place)
    return f"the model's score of class {classes[at] if at < len(classes) else at + 1}"


@contextmanager
def class_names(classes: Sequence[object] | None) -> Iterator[None]:
    """Let `named` call the champion's classes by their labels in the block; without them it counts from 1.

    Example:
        >>> with class_names(["north", "south"]):
        ...     named("__score__1")
        "the model's score of class south"
    """
    before = _classes.set(tuple(str(label)[:60] for label in classes or ()))
    try:
        yield
    finally:
        _classes.reset(before)


def told(reason: str) -> str:
    """Return the reason with every name as a reader knows it."""
    return re.sub(rf"{SCORE}\d*|{JOINT}", lambda found: named(found[0]), reason)


def inputs_of(verdict: DriftVerdict) -> list[FeatureVerdict]:
    """Return the verdicts on columns: neither the model's scores nor whole rows."""
    return [f for f in verdict.features if not f.feature.startswith((SCORE, JOINT))]


def percent(share: float) -> str:
    """Return a share from 0 to 1 as one reads it.

    Example:
        >>> percent(0.0), percent(0.0004), percent(0.031), percent(0.0999), percent(0.997), percent(1.0)
        ('0%', 'under 0.1%', '3.1%', '10%', 'over 99%', '100%')
    """
    if share <= 0 or share >= 1:
        return f"{share:.0%}"
    if share < 0.001:
        return "under 0.1%"
    if share >= 0.995:
        return "over 99%"
    return f"{share:.1%}" if share < 0.0995 else f"{share:.0%}"


def short_percent(share: float) -> str:
    """Return a share as `percent` does, as short as a drawing needs it.

    Example:
        >>> short_percent(0.0004), short_percent(0.031)
        ('<0.1%', '3.1%')
    """
    return percent(share).replace("under ", "<").replace("over ", ">")


def when(window: Window) -> str:
    """Return the window as one reads it; of whole days the last one is named, not the midnight after it.

    Example:
        >>> from datetime import UTC
        >>> day = datetime(2026, 1, 5, tzinfo=UTC)
        >>> when(Window(day, day + 7 * _DAY)), when(Window(day, day + _DAY))
        ('5 – 11 Jan 2026', 'Mon 5 Jan 2026')
        >>> when(Window(day, day + _DAY / 24))
        '5 Jan 2026 00:00 – 01:00 UTC'
    """
    start, end = window.start, window.end
    if _is_midnight(start) and _is_midnight(end):
        last = end - _DAY
        return f"{start:%a} {_date(start)}" if last == start else _span(start, last)
    if start.date() == (end - timedelta(microseconds=1)).date():
        return f"{_date(start)} {start:%H:%M} – {end:%H:%M} UTC"
    return f"{_date(start)} {start:%H:%M} – {_date(end)} {end:%H:%M} UTC"


def change(shape: Shape, *, ordered: bool) -> str:
    """Return what changed most in a feature, as a clause that follows its name.

    Args:
        shape: Shares of the rows before and now.
        ordered: Whether the labels are sizes of a number, small to large, rather than categories.

    Example:
        >>> change(Shape("plan", ("basic", "pro"), (0.6, 0.4), (0.9, 0.1)), ordered=False)
        '“basic” went from 60% to 90% of the rows'
        >>> change(Shape("x", ("up to 3", "above 3"), (0.5, 0.5), (0.2, 0.8)), ordered=True)
        'runs higher: “above 3” in 80% of the rows, 50% before'
    """
    moves = [now - old for old, now in zip(shape.reference, shape.current, strict=True)]
    if not moves:
        return "holds nothing"
    # Of two changes of one size the gain is told: what is there now says more than what is not.
    place = max(range(len(moves)), key=lambda at: (round(abs(moves[at]), 9), moves[at]))
    if not ordered or shape.labels[place] in _APART:
        return _one(shape, place)
    own = [at for at, label in enumerate(shape.labels) if label not in _APART]
    gains = max(own, key=lambda at: moves[at])
    before, now = percent(shape.reference[gains]), percent(shape.current[gains])
    way = _direction([shape.reference[at] for at in own], [shape.current[at] for at in own])
    return f"{way}: “{shape.labels[gains]}” in {now} of the rows, {before} before"


def changes_of(verdict: DriftVerdict) -> dict[str, str]:
    """Return by feature what changed, for those whose shape the verdict holds."""
    numbers = {f.feature for f in verdict.features if _ORDERED & {m.measure for m in f.measures}}
    return {shape.feature: change(shape, ordered=shape.feature in numbers) for shape in verdict.shapes}


def _one(shape: Shape, place: int) -> str:
    label = shape.labels[place]
    before, now = percent(shape.reference[place]), percent(shape.current[place])
    if label == "not seen before":
        return f"values never seen before in {now} of the rows" + (
            f", {before} before" if before != "0%" else ""
        )
    if label in {"missing", "unreadable"}:
        return f"{label} in {now} of the rows, {before} before"
    return f"“{label}” went from {before} to {now} of the rows"


def _direction(before: list[float], now: list[float]) -> str:
    """Return which way a number moved, by where the shares summed from below differ."""
    total_before, total_now = sum(before) or 1.0, sum(now) or 1.0
    gaps = [
        b / total_now - a / total_before
        for a, b in zip(accumulate(before), accumulate(now), strict=True)
    ]  # fmt: skip
    higher, lower = max(0.0, -min(gaps)), max(0.0, *gaps)
    if lower <= 0.25 * higher:
        return "runs higher"
    if higher <= 0.25 * lower:
        return "runs lower"
    ends = (now[0] - before[0], now[-1] - before[-1])
    if min(ends) > 0:
        return "spreads wider"
    return "is squeezed together" if max(ends) < 0 else "is spread differently"


def _is_midnight(moment: datetime) -> bool:
    return moment == moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _date(day: datetime) -> str:
    return f"{day.day} {day:%b %Y}"


def _span(first: datetime, last: datetime) -> str:
    """Return both dates, saying no month or year twice."""
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} – {_date(last)}"
    return (
        f"{first.day} {first:%b} – {_date(last)}"
        if first.year == last.year
        else f"{_date(first)} – {_date(last)}"
    )
