"""Times written as text, and numbers counted since 1970, as moments; what cannot be read is null."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

UTC_TIMES = pa.timestamp("us", "UTC")
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

_DATED = r"^\d{4}-\d{2}-\d{2}"
_ZONE = r"(?:Z|[+-]\d{2}(?::?\d{2})?)"
_WITH_ZONE = _DATED + r".*\d{2}:\d{2}.*" + _ZONE + "$"
_DIGITS = r"^-?\d+(?:\.\d+)?$"
_REWRITTEN = (
    (r"\[[^\]]*\]$", ""),  # the name of a zone after its offset, as Java writes it
    (r"\s*(?:UTC|GMT|z)$", "Z"),
    (r"(:\d{2}),(\d)", r"\1.\2"),
    (r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3"),
    (r"^(\d{4})(\d{2})(\d{2})[T ]?(\d{2})(\d{2})(" + _ZONE + r"?)$", r"\1-\2-\3T\4:\5\6"),
    (r"^(\d{4})(\d{2})(\d{2})[T ]?(\d{2})(\d{2})(\d{2}(?:\.\d+)?)(" + _ZONE + r"?)$", r"\1-\2-\3T\4:\5:\6\7"),
    (r"^(\d{4}-\d{2}-\d{2})" + _ZONE + "$", r"\1"),
)
_ENDLESS_WORD = r"^[+-]?[iI][nN][fF]"
_ENDLESS = {"infinity": LAST, "+infinity": LAST, "-infinity": FIRST}

Place = Callable[[pa.Array], pa.Array]


def read_texts(
    texts: pa.Array, place: Place, *, layout: str | None = None, unit: str | None = None
) -> pa.Array:
    """Return ISO 8601 texts as UTC moments in microseconds; null for blanks and for what is no time.

    Basic and extended forms, a trailing UTC, years 1 to 9999 and Postgres' infinity are read.

    Args:
        texts: The texts.
        place: Gives UTC moments for local ones; called only where a text has no zone of its own.
        layout: A format of strptime that the texts have instead of ISO 8601.
        unit: That of numbers counted since 1970, which are times where it is given.
    """
    texts = pc.utf8_trim_whitespace(texts)
    if layout is not None:
        by_layout = _by_layout(texts, layout, place)
        if by_layout.null_count == texts.null_count:
            return by_layout
        return pc.coalesce(by_layout, read_texts(texts, place, unit=unit))
    for pattern, spelling in _REWRITTEN:
        if pc.any(pc.match_substring_regex(texts, pattern)).as_py():
            texts = pc.replace_substring_regex(texts, pattern, spelling)
    zoned = pc.fill_null(pc.match_substring_regex(texts, _WITH_ZONE), False)
    local = pc.and_(pc.fill_null(pc.match_substring_regex(texts, _DATED), False), pc.invert(zoned))
    moments = _iso(_only(texts, zoned), UTC_TIMES)
    if pc.any(local).as_py():
        naive = _iso(_only(texts, local), pa.timestamp("us"))
        if naive.null_count < len(naive):
            moments = pc.coalesce(moments, place(naive))
    if unit is not None:
        counted = pc.fill_null(pc.match_substring_regex(texts, _DIGITS), False)
        numbers = _only(texts, counted).cast(pa.float64() if _fractional(texts) else pa.int64())
        moments = pc.coalesce(moments, since_1970(numbers, unit))
    if not pc.any(pc.match_substring_regex(texts, _ENDLESS_WORD)).as_py():
        return moments
    endless = [_ENDLESS.get(text.lower()) if text else None for text in texts.to_pylist()]
    return pc.coalesce(moments, pa.array(endless, UTC_TIMES))


def since_1970(numbers: pa.Array, unit: str) -> pa.Array:
    """Return numbers of seconds, milliseconds… since 1970 as UTC moments; null where they are not finite."""
    if pa.types.is_floating(numbers.type):
        finite = pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, numbers.type)).cast(pa.float64())
        scaled = pc.multiply(finite, 10**6 / PER_SECOND[unit])  # may overflow; the bounds take that in
        low, high = float(_micros(FIRST)), float(_micros(LAST))  # the latter is a little beyond
        bounded = pc.max_element_wise(
            pc.min_element_wise(scaled, high, skip_nulls=False), low, skip_nulls=False
        )
        return clamped(pc.round(bounded).cast(pa.int64(), safe=False).cast(UTC_TIMES), "UTC")
    return clamped(numbers.cast(pa.int64()).cast(pa.timestamp(unit)), "UTC")


def clamped(times: pa.Array, zone: str | None) -> pa.Array:
    """Return timestamps of any unit in microseconds, those beyond the years 1 to 9999 as their ends."""
    unit = times.type.unit
    counts = times.cast(pa.int64())
    if unit == "us" and _all_within(counts):
        return counts.cast(pa.timestamp("us", zone))
    if PER_SECOND[unit] <= PER_SECOND["us"]:
        factor = PER_SECOND["us"] // PER_SECOND[unit]
        low, high = -(-_micros(FIRST) // factor), _micros(LAST) // factor
        counts = pc.max_element_wise(
            pc.min_element_wise(counts, high, skip_nulls=False), low, skip_nulls=False
        )
        counts = pc.multiply(counts, factor)
    else:
        counts = _floor_divided(counts)
    return counts.cast(pa.timestamp("us", zone))


def _all_within(counts: pa.Array) -> bool:
    ends = pc.min_max(counts).as_py()
    return ends["min"] is None or (ends["min"] >= _micros(FIRST) and ends["max"] <= _micros(LAST))


def _floor_divided(counts: pa.Array) -> pa.Array:
    """Nanoseconds as microseconds, rounded down."""
    whole = pc.divide(counts, 1000)  # Arrow rounds towards zero
    return pc.if_else(pc.greater(pc.multiply(whole, 1000), counts), pc.subtract(whole, 1), whole)


def _micros(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds


def _by_layout(texts: pa.Array, layout: str, place: Place) -> pa.Array:
    if "%z" in layout:
        read = pd.to_datetime(texts.to_pandas(), format=layout, utc=True, errors="coerce")
        return pa.array(read.astype("datetime64[us, UTC]"), UTC_TIMES)
    if "%f" in layout:  # Arrow has no fractions there
        read = pd.to_datetime(texts.to_pandas(), format=layout, errors="coerce").astype("datetime64[us]")
        return place(pa.array(read, pa.timestamp("us")))
    return place(pc.strptime(texts, format=layout, unit="us", error_is_null=True))


def _iso(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the texts as Arrow reads them; the few that it does not as pandas or Python read them."""
    try:
        return clamped(texts.cast(kind), kind.tz)
    except pa.ArrowInvalid:
        pass
    values = texts.to_pandas()
    read = pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce").astype("datetime64[us, UTC]")
    left = read.isna() & values.notna()
    if left.any():
        by_text = {text: _by_hand(text) for text in values[left].unique()}
        read[left] = pd.Series(
            [by_text[text] for text in values[left]], index=values.index[left], dtype="datetime64[us, UTC]"
        )
    return pa.array(read, UTC_TIMES).cast(kind) if kind == UTC_TIMES else _without_zone(read)


def _without_zone(read: pd.Series) -> pa.Array:
    return pa.array(read.dt.tz_localize(None).astype("datetime64[us]"), pa.timestamp("us"))


def _by_hand(text: str) -> datetime | None:
    """Return the moment of one text; of a year that nanoseconds do not reach, say."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return LAST if moment.year > 1 else FIRST


def _only(texts: pa.Array, mask: pa.Array) -> pa.Array:
    return pc.if_else(mask, texts, pa.scalar(None, pa.string()))


def _fractional(texts: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, r"^-?\d+\.\d+$")).as_py())
