"""Times as sources store them, turned into UTC, and UTC bounds turned into theirs.

Bounds that are pushed down may let a few rows too many through, never one too few; the exact filter runs
on the UTC values afterwards. So a text column, a zone with a lost hour or a mix of offsets costs a little
reading and no rows.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import FetchError, SpecError
from tasks.core.spec import ModelSpec
from tasks.sources.where import Clause

DATE_LIKE = "____-__-__%"
UTC_TIMES = pa.timestamp("us", "UTC")
_DATED = r"^\d{4}-\d{2}-\d{2}"
_WITH_ZONE = _DATED + r".*\d{2}:\d{2}.*(?:[Zz]|UTC|[+-]\d{2}(?::?\d{2})?)$"
_FIXED_ZONES = {"UTC", "Etc/UTC", "GMT"}

Kind = Literal["aware", "naive", "date", "text"]


def kind_of(kind: pa.DataType, column: str, spec: ModelSpec) -> Kind | None:
    """Return how a column of this type keeps its times; None when it holds nothing.

    Raises:
        FetchError: when it is no kind of time, or has no zone and the spec names none.
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
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    raise FetchError(
        f"column {column!r} of type {kind}",
        "a timestamp, a date or ISO 8601 text",
        "convert it in the source or in source.query",
        model=spec.name,
    )


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


def to_utc(values: pa.Array, column: str, spec: ModelSpec) -> pa.Array:
    """Return the same moments as UTC timestamps in microseconds; nulls stay null.

    A time that a clock change repeats is taken as the earlier one, one that it skips as the later one.

    Raises:
        FetchError: when a value is no time, or has no zone and the spec names none.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = kind_of(values.type, column, spec)
    if kind is None:
        return pa.nulls(len(values), UTC_TIMES)
    if kind == "aware":
        return values.cast(UTC_TIMES, safe=False)
    if kind == "text":
        return _parsed(values.cast(pa.string()), column, spec)
    return _placed(values.cast(pa.timestamp("us"), safe=False), zone(spec, column))


def _placed(naive: pa.Array, name: str) -> pa.Array:
    placed = pc.assume_timezone(naive, name, ambiguous="earliest", nonexistent="latest")
    return placed.cast(UTC_TIMES)


def _parsed(texts: pa.Array, column: str, spec: ModelSpec) -> pa.Array:
    texts = pc.utf8_trim_whitespace(texts)
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), UTC_TIMES)
    has_zone = pc.fill_null(pc.match_substring_regex(texts, _WITH_ZONE), False).to_numpy(zero_copy_only=False)
    values = texts.to_pandas()
    parsed = pd.Series(pd.NaT, index=values.index, dtype="datetime64[us, UTC]")
    parsed[has_zone] = _read(values[has_zone])
    dated = pc.fill_null(pc.match_substring_regex(texts, _DATED), False).to_numpy(zero_copy_only=False)
    without = dated & ~has_zone
    if without.any():
        name = zone(spec, column)
        naive = pa.array(_read(values[without]).dt.tz_localize(None).astype("datetime64[us]"))
        parsed[without] = _placed(naive, name).to_pandas().to_numpy()
    bad = int(parsed.isna().sum() - values.isna().sum())
    if bad:
        raise FetchError(
            f"{bad} values of {column!r} that are no time",
            "ISO 8601, e.g. 2026-01-31T08:00:00Z",
            "correct them in the source or convert them in source.query",
            model=spec.name,
        )
    return pa.array(parsed, UTC_TIMES)


def _read(texts: pd.Series) -> pd.Series:
    parsed = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    return parsed.astype("datetime64[us, UTC]")


def pushed(clause: Clause, kind: Kind, spec: ModelSpec) -> datetime | date | str:
    """Return the clause's bound as a column of this kind can be compared with it, never too tight."""
    moment = clause.moment
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
