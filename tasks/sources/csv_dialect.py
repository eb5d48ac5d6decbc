"""How a CSV file is written: what the spec says, and the rest guessed from the file's first lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.spelling import MISSING
from tasks.core.errors import FetchError
from tasks.core.spec import ModelSpec
from tasks.sources.time_texts import UTC_TIMES, read_texts

SAMPLE_BYTES = 256 * 1024
NO_NUMBER = (*MISSING, "?", "-", "\\N", "n/a", "none", "#N/A", "#N/A N/A", "<NA>", "(null)")
"""Texts that stand for no value in a column of numbers."""

LAYOUTS = (
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y"),
    *("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y"),
    *("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p"),
    *("%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y"),
    *("%m-%d-%Y %H:%M:%S", "%m-%d-%Y %H:%M", "%m-%d-%Y"),
    *("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d"),
    *("%d-%b-%Y %H:%M:%S", "%d-%b-%Y %H:%M", "%d-%b-%Y", "%d %b %Y %H:%M:%S", "%d %b %Y"),
)
"""Forms of times that are tried where a file has no ISO 8601."""

_SEPARATORS = (",", ";", "\t", "|")
_LINES = 20
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8"))
_WESTERN = re.compile(r"[À-ÖØ-öø-ÿŠšŽžŒœŸ€–—‘’“”°§²³µ«»]")
_GROUPED = re.compile(r"-?\d{1,3}((?P<sign>[., '_])\d{3})(?:(?P=sign)\d{3})*(?:[.,]\d+)?")


@dataclass(frozen=True)
class Dialect:
    """How one CSV file is written; `layouts` are candidate formats of its times, none for ISO 8601."""

    separator: str = ","
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"
    quote: str = '"'
    missing: tuple[str, ...] = ()
    newlines_in_values: bool = True
    skip_rows: int = 0
    layouts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def guess(sample: bytes, spec: ModelSpec, name: str) -> Dialect:
    """Return how the file of which these are the first bytes is written; what the spec says is not guessed.

    Raises:
        FetchError: when its encoding cannot be told.
    """
    said = spec.source.csv
    encoding = said.encoding or guess_encoding(sample, spec, name)
    text = sample.decode(encoding, errors="ignore").removeprefix("\ufeff")
    lines = text.splitlines()[: _LINES + (said.skip_rows or 0)]
    quote = said.quote or _quote(text)
    skip, separator = _header(lines, spec, quote)
    rows = _rows(text, skip, separator, quote)
    names = tuple(rows[0]) if rows else ()
    numbers = [cell for column in _cells(rows, names, numeric_columns(spec)) for cell in column]
    decimal, thousands = _signs(numbers, separator)
    decimal = said.decimal or {",": ".", ".": ","}.get(said.thousands or "", decimal)
    if said.thousands is not None or thousands == decimal:
        thousands = said.thousands or ""
    times = [name for name in (spec.source.timestamp, spec.source.updated) if name]
    return Dialect(
        separator=separator,
        decimal=decimal,
        thousands=thousands,
        encoding=encoding,
        quote=quote,
        missing=said.missing or ("\\N",),
        newlines_in_values=said.newlines_in_values,
        skip_rows=skip,
        layouts=(said.timestamp_format,)
        if said.timestamp_format
        else _layouts(_cells(rows, names, times), spec),
        names=names,
    )


def guess_encoding(sample: bytes, spec: ModelSpec, name: str) -> str:
    """Return the encoding of these first bytes: by their mark, UTF-8, or Windows-1252 where it reads well."""
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    if sample[:200].count(0) > 20:
        return "utf-16-le" if sample[1:2] == b"\0" else "utf-16-be"
    whole = sample if len(sample) < SAMPLE_BYTES else sample[:-4]
    try:
        whole.decode("utf-8", errors="strict")
    except UnicodeDecodeError as err:
        if err.reason == "unexpected end of data" and len(sample) >= SAMPLE_BYTES:
            return "utf-8"
    else:
        return "utf-8"
    text = sample.decode("cp1252", errors="replace")
    foreign = [sign for sign in text if ord(sign) > 127]
    # A word of foreign letters alone is another alphabet: Western ones stand between plain letters.
    if all(_WESTERN.match(sign) for sign in foreign) and not re.search(r"[^\x00-\x7f]{3}", text):
        return "cp1252"
    raise FetchError(
        f"{name!r} that is not UTF-8 text",
        "UTF-8, or an encoding that can be told",
        "set source.csv.encoding, e.g. cp1252, cp1251, shift_jis",
        model=spec.name,
    )


def unread_by(texts: pa.Array, layouts: Sequence[str]) -> dict[str, int]:
    """Return how many texts each layout cannot read; what stands for nothing counts as read."""
    known = texts.filter(pc.invert(pc.is_in(texts, pa.array(NO_NUMBER))))
    return {
        layout: read_texts(known, _as_utc, layout=layout).null_count - known.null_count for layout in layouts
    }


def numeric_columns(spec: ModelSpec) -> set[str]:
    """Return the columns that hold numbers."""
    label = {spec.label.column} if spec.task == "regression" else set()
    weight = {spec.gate.weight} if spec.gate.weight else set()
    return {*spec.features.numeric, *label, *weight}


def _as_utc(naive: pa.Array) -> pa.Array:
    return naive.cast(UTC_TIMES)


def _header(lines: Sequence[str], spec: ModelSpec, quote: str) -> tuple[int, str]:
    """Return on which line the header stands and what separates its cells: where most of our columns are."""
    said = spec.source.csv
    separators = [said.separator] if said.separator else list(_SEPARATORS)
    first = said.skip_rows
    if first is None and lines and re.fullmatch(r"sep=.", lines[0]):
        first, separators = 1, [said.separator or lines[0][4]]
    places = range(len(lines)) if first is None else [first]
    wanted = set(spec.columns)
    best = (0, 0, first or 0, separators[0])
    for place in places:
        for separator in separators:
            cells = next(csv.reader(lines[place : place + 1], delimiter=separator, quotechar=quote), [])
            ours = len(wanted & set(cells))
            if ours > best[0]:
                best = (ours, len(cells), place, separator)
    return best[2], best[3]


def _rows(text: str, skip: int, separator: str, quote: str) -> list[list[str]]:
    body = "".join(text.splitlines(keepends=True)[skip:])
    try:
        rows = list(csv.reader(io.StringIO(body, newline=""), delimiter=separator, quotechar=quote))
    except csv.Error:
        return [line.split(separator) for line in body.splitlines()]
    return rows[:-1] if len(rows) > 2 and len(text) > SAMPLE_BYTES / 8 else rows


def _cells(rows: Sequence[Sequence[str]], names: Sequence[str], wanted: Iterable[str]) -> list[list[str]]:
    places = [place for place, name in enumerate(names) if name in set(wanted)]
    return [[row[place].strip() for row in rows[1:] if len(row) == len(names)] for place in places]


def _quote(text: str) -> str:
    singles = re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|\n])", text, re.MULTILINE)
    return "'" if '"' not in text and len(singles) > 1 else '"'


def _signs(cells: Sequence[str], separator: str) -> tuple[str, str]:
    """Return the decimal sign and the sign between thousands of these numbers."""
    known = [cell for cell in cells if re.search(r"\d", cell)]
    groups = [match for cell in known if (match := _GROUPED.fullmatch(cell))]
    both = [cell for cell in known if "," in cell and "." in cell]
    if both:
        decimal = "," if both[0].rindex(",") > both[0].rindex(".") else "."
        return decimal, "." if decimal == "," else ","
    commas, dots = [c for c in known if "," in c], [c for c in known if "." in c]
    thousands = next((m["sign"] for m in groups if m["sign"] in " '_"), "")
    if commas:
        grouped = [m for m in groups if m["sign"] == ","]
        several = any(cell.count(",") > 1 for cell in commas)
        if (
            several
            or (dots and len(grouped) == len(commas))
            or (separator == "," and len(grouped) == len(commas))
        ):
            return ".", ","
        return ",", thousands
    if any(cell.count(".") > 1 for cell in dots) and all(_GROUPED.fullmatch(cell) for cell in dots):
        return ",", "."
    return ".", thousands


def _layouts(columns: Sequence[Sequence[str]], spec: ModelSpec) -> tuple[str, ...]:
    """Return the layouts that read most of the sampled times; none where ISO 8601 does."""
    cells = [cell for column in columns for cell in column if cell not in NO_NUMBER]
    texts = pa.array(cells, pa.string())
    iso = read_texts(texts, _as_utc, unit=spec.source.timestamp_unit)
    if 2 * iso.null_count <= len(texts):
        return ()
    unread = unread_by(texts, LAYOUTS)
    fewest = min(unread.values())
    return tuple(name for name in LAYOUTS if unread[name] == fewest) if 2 * fewest < len(texts) else ()
