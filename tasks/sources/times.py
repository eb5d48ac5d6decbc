"""Times as sources store them, turned into UTC, and UTC bounds turned into theirs.

Bounds that are pushed down may let a few rows too many through, never one too few; the exact filter runs
on the UTC values afterwards. So a text column, a zone with a lost hour or a mix of offsets costs a little
reading and no rows.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import FetchError, SpecError
from tasks.core.spec import ModelSpec
from tasks.sources.time_texts import PER_SECOND, UTC_TIMES, clamped, read_texts, since_1970
from tasks.sources.where import Clause

__all__ = ["DATE_LIKE", "UTC_TIMES", "Kind", "is_exact", "kind_of", "pushed", "to_utc", "unreadable", "zone"]

DATE_LIKE = "____-__-__%"
_FIXED_ZONES = {"UTC", "Etc/UTC", "GMT"}

Kind = Literal["aware", "naive", "date", "text", "number"]


def kind_of(kind: pa.DataType, column: str, spec: ModelSpec) -> Kind | None:
    """Return how a column of this type keeps its times; None when it holds nothing.

    Raises:
        FetchError: when it is no kind of time, has no zone and the spec names none, or holds numbers and the
            spec does not say what they count.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return None
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return "aware"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone(spec, column)
        return "naive" if pa.types.is_timestamp(kind) else "date"
    if _is_text(kind):
        return "text"
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if number and spec.source.timestamp_unit is not None:
        return "number"
    raise FetchError(
        f"column {column!r} of type {kind}",
        "a timestamp, a date or ISO 8601 text",
        "set source.timestamp_unit (s, ms, us or ns since 1970)"
        if number
        else "convert it in the source or in source.query",
        model=spec.name,
    )


def _is_text(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def zone(spec: ModelSpec, column: str) -> str:
    """Return the zone of times that carry none.

    Raises:
        FetchError: when the spec names none; guessing would lose or double rows.
        SpecError: when the spec names a zone that does not exist.
    """
    name = spec.source.timezone
    if name is None:
        raise FetchError(
            f"timestamps without a zone in {column!r}",
            "times that say their zone",
            "set source.timezone, e.g. UTC",
            model=spec.name,
        )
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as err:
        raise SpecError(
            f"source.timezone {name!r}", "an IANA zone such as UTC or Europe/Oslo", model=spec.name
        ) from err
    return name


def to_utc(values: pa.Array, column: str, spec: ModelSpec, *, layout: str | None = None) -> pa.Array:
    """Return the same moments as UTC timestamps in microseconds; null where there is none or none is read.

    A time that a clock change repeats is taken as the earlier one, one that it skips as the later one; what
    lies beyond the years 1 to 9999 is their end. `layout` is the strptime format of texts that are not ISO.

    Raises:
        FetchError: when the column cannot hold times, or has no zone and the spec names none.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = kind_of(values.type, column, spec)
    if kind is None:
        return pa.nulls(len(values), UTC_TIMES)
    if kind == "aware":
        return clamped(values, "UTC")
    if kind == "number":
        exact = pa.types.is_integer(values.type)
        return since_1970(values if exact else values.cast(pa.float64()), str(spec.source.timestamp_unit))
    if kind == "text":
        unit = spec.source.timestamp_unit
        texts = values.cast(pa.string())
        return read_texts(texts, lambda naive: _placed(naive, zone(spec, column)), layout=layout, unit=unit)
    if kind == "date":
        values = values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        seconds = pc.multiply(values, 86_400).cast(pa.timestamp("s"))
        return _placed(clamped(seconds, None), zone(spec, column))
    return _placed(clamped(values, None), zone(spec, column))


def unreadable(raw: pa.Array, moments: pa.Array) -> pa.Array:
    """Return where something stands that is no time; blanks are none."""
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    filled = pc.is_valid(raw)
    if _is_text(raw.type):
        blank = pc.equal(pc.utf8_trim_whitespace(raw.cast(pa.string())), "")
        filled = pc.and_(filled, pc.invert(pc.fill_null(blank, True)))
    return pc.and_(filled, pc.is_null(moments))


def _placed(naive: pa.Array, name: str) -> pa.Array:
    if name in _FIXED_ZONES:
        return naive.cast(pa.int64()).cast(UTC_TIMES)
    placed = pc.assume_timezone(naive, name, ambiguous="earliest", nonexistent="latest")
    return clamped(placed, "UTC")  # midnight in New York may be in the year 10000


def pushed(clause: Clause, kind: Kind, spec: ModelSpec) -> datetime | date | str | int:
    """Return the clause's bound as a column of this kind can be compared with it, never too tight."""
    moment = clause.moment
    if kind == "number":
        micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        count = micros * PER_SECOND[str(spec.source.timestamp_unit)] // PER_SECOND["us"]
        return count if clause.op == "ge" else count + 1
    if kind == "aware":
        return moment
    if kind == "naive":
        name = zone(spec, clause.column)
        slack = timedelta(0) if name in _FIXED_ZONES else timedelta(hours=3)
        local = moment.astimezone(ZoneInfo(name)).replace(tzinfo=None)
        return local - slack if clause.op == "ge" else local + slack
    # A date, or text that starts with one, may be up to 14 hours off in either direction.
    day = moment.date() + (timedelta(days=-1) if clause.op == "ge" else timedelta(days=2))
    return day.isoformat() if kind == "text" else day


def is_exact(kind: Kind, spec: ModelSpec) -> bool:
    """Return whether a pushed bound lets exactly the right rows through."""
    return kind == "aware" or (kind == "naive" and spec.source.timezone in _FIXED_ZONES)
