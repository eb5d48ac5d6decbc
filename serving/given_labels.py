"""What a request with labels may hold: which prediction each is for, and a label that its model knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from serving.request import BadRows, Problem
from tasks.core.window import utc
from tasks.store.told import Told

MOST_LABELS = 1000
AHEAD = timedelta(minutes=1)
"""How far a caller's clock may be ahead of ours; our choice."""
_LONGEST_TEXT = 1000
_MOST_PROBLEMS = 20
_MOST_UNKNOWN = 5  # fields of one item that are named, where there is no such field
_YEARS = range(1900, 2200)  # of anything that was predicted; our choice
_FIELDS = ("prediction_id", "request_id", "index", "key", "event_time", "label", "known_at")
_ONE_WAY = "give prediction_id, or request_id with index, or key, perhaps with event_time"


def check_labels(
    items: Sequence[object],
    *,
    classes: Sequence[Any] | None,  # Any: labels may be text, numbers or booleans
    now: datetime,
) -> list[Told]:
    """Return the labels of a request, each with what it is for.

    Args:
        items: objects as JSON gives them.
        classes: the labels that the champion knows; None for a regressor, whose labels are numbers.
        now: no label is known later than this, but for a minute.

    Raises:
        BadRows: naming the wrong fields of the first items that have any; never a value.
    """
    told, problems = [], []
    for number, item in enumerate(items):
        found = _wrong(item, classes, now)
        problems += [Problem(number, field, why) for field, why in found]
        if len(problems) >= _MOST_PROBLEMS:  # enough to see what is wrong
            break
        if not found and isinstance(item, Mapping):
            told.append(_told(item, classes))
    if problems:
        raise BadRows(problems[:_MOST_PROBLEMS])
    return told


def _wrong(item: object, classes: Sequence[Any] | None, now: datetime) -> list[tuple[str | None, str]]:
    if not isinstance(item, Mapping):
        return [(None, "a label is an object of named fields")]
    unknown = (name for name in item if name not in _FIELDS)
    found: list[tuple[str | None, str]] = [
        (str(name)[:60], "there is no such field") for name in islice(unknown, _MOST_UNKNOWN)
    ]
    found += [
        (name, why) for name in _FIELDS if name in item and (why := _unfit(name, item[name], classes, now))
    ]
    if "label" not in item:
        found.append(("label", "this field is missing"))
    ways = {"prediction_id", "request_id", "key"} & set(item)
    if len(ways) != 1:
        found.append((None, _ONE_WAY))
    if ("index" in item) != ("request_id" in item):
        found.append(("index", "request_id and index belong together"))
    if "event_time" in item and "key" not in item:
        found.append(("event_time", "it goes with a key"))
    return found


def _unfit(name: str, value: object, classes: Sequence[Any] | None, now: datetime) -> str:
    """Return what is wrong with the value of this field; an empty text where nothing is."""
    if name == "label":
        return _no_label(value, classes)
    if name in ("event_time", "known_at"):
        return _no_time(value, latest=now + AHEAD if name == "known_at" else None)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if name == "index":
        fits = is_whole and 0 <= value < 2**31  # type: ignore[operator]  # whole numbers have an order
        return "" if fits else "a whole number from 0 is needed"
    if name == "key" and is_whole:
        return "" if abs(value) < 2**63 else "a smaller number is needed"  # type: ignore[arg-type]
    return _no_text(value)


def _no_time(value: object, *, latest: datetime | None) -> str:
    moment = _moment(value)
    if moment is None:
        return "a time with its zone is needed, for example 2026-05-12T08:00:00Z"
    return "that is in the future" if latest and moment > latest else ""


def _no_text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        return f"text of 1 to {_LONGEST_TEXT} characters is needed"
    return "text without a NUL is needed" if "\0" in value else ""


def _no_label(value: object, classes: Sequence[Any] | None) -> str:
    if classes is not None:
        fits = any(_is_class(value, one) for one in classes)
        return "" if fits else f"one of {sorted(map(str, classes))[:20]} is needed, in the type of the class"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # The bound first: there are whole numbers that no float can hold.
    fits = is_number and abs(value) < 1e300 and math.isfinite(value)  # type: ignore[arg-type]
    return "" if fits else "a finite number is needed"


def _is_class(value: object, one: Any) -> bool:  # Any: see check_labels
    alike = isinstance(value, str | int | float) and isinstance(value, bool) == isinstance(one, bool)
    return alike and bool(value == one)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        found = datetime.fromisoformat(value)
        return utc(found) if found.tzinfo and found.year in _YEARS else None
    except (ValueError, OverflowError):
        return None


def _told(item: Mapping[str, Any], classes: Sequence[Any] | None) -> Told:  # Any: checked values
    label = item["label"]
    if classes is not None:  # 1.0 and 1 are the same class, which is kept as training knew it
        label = next(one for one in classes if _is_class(label, one))
    identity = item.get("prediction_id")
    if "request_id" in item:
        identity = f"{item['request_id']}/{item['index']}"
    return Told(
        label=label,
        prediction_id=identity,
        key=str(item["key"]) if "key" in item else None,
        event_time=_moment(item.get("event_time")),
        known_at=_moment(item.get("known_at")),
    )
