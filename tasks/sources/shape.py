"""What every source owes its caller: few types, UTC times, exactly the rows that were asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.renames import likely_renames
from tasks.core.errors import ContractError, FetchError
from tasks.core.spec import ModelSpec
from tasks.core.spec_source import NO_KEY
from tasks.sources.times import to_utc, unreadable
from tasks.sources.where import Where, columns_of, matches, unreadable_name

NAMES = b"evergreen.columns"
_PART = b"evergreen.part"


def time_columns(spec: ModelSpec) -> list[str]:
    """Return the columns that hold times: the timestamp and, where declared, the time of writing."""
    return [name for name in (spec.source.timestamp, spec.source.updated) if name]


def first_key(spec: ModelSpec) -> str:
    """Return the first column of the source that is part of the key."""
    return spec.key_parts[0] if spec.key_parts else spec.source.key


def needed(columns: Iterable[str], where: Where, present: Iterable[str]) -> list[str]:
    """Return the columns to read: those asked for and filtered on, as far as they are there."""
    there = set(present)
    return [name for name in dict.fromkeys([*columns, *sorted(columns_of(where))]) if name in there]


def require_identity(present: Sequence[str], spec: ModelSpec, part: str = "the source") -> None:
    """Return nothing when key and times are there.

    Raises:
        ContractError: naming the missing column and its likely new name. Without these columns rows can
            be neither identified nor dated; every other column is the contract's to judge.
    """
    source = spec.source
    keys = (source.key,) if isinstance(source.identity, str) else tuple(source.identity)
    keys = () if source.identity == NO_KEY else keys
    lost = [name for name in (*keys, source.timestamp, source.updated) if name and name not in set(present)]
    if not lost:
        return
    others = [name for name in present if name not in set(spec.columns)]
    renames = ", ".join(f"{found} → {name}" for name, found in likely_renames(lost, others).items())
    raise ContractError(
        f"{part} without {', '.join(repr(name) for name in lost)}"
        + (f" (renamed? {renames})" if renames else f" among its {len(present)} columns"),
        "the key and time columns named under source",
        "correct source in the model block, or the column's name in the data",
        model=spec.name,
    )


def shaped(
    batch: pa.RecordBatch,
    columns: Sequence[str],
    where: Where,
    spec: ModelSpec,
    names: Sequence[str],
    *,
    part: str = "",
    layout: str | None = None,
    tally: Tally | None = None,
) -> pa.RecordBatch:
    """Return the rows of `batch` that `where` lets through, times in UTC, with the columns asked for.

    `names` are all columns of this part of the source, `part` is its own name; both travel in the schema's
    metadata. `layout` is the format of its times where it is not ISO 8601; `tally` counts those unread.
    """
    times = set(time_columns(spec))
    arrays, flags = [], {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name not in times:
            arrays.append(plain(column, name, spec))
            continue
        arrays.append(to_utc(column, name, spec, layout=layout))
        flags[unreadable_name(name)] = unread = unreadable(column, arrays[-1])
        if tally is not None:
            tally.add(name, len(unread), pc.sum(unread).as_py() or 0)
    whole = pa.RecordBatch.from_arrays([*arrays, *flags.values()], names=[*batch.schema.names, *flags])
    chosen = whole.filter(matches(where, whole)).select(
        [name for name in columns if name in batch.schema.names]
    )
    return chosen.replace_schema_metadata({NAMES: json.dumps(list(names)).encode(), _PART: part.encode()})


class Tally:
    """How many times of a pass over a source could not be read: few are bad rows, many are a bad column."""

    def __init__(self, spec: ModelSpec):
        self._spec = spec
        self._rows: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()

    def add(self, column: str, rows: int, unread: int) -> None:
        """Count the rows of one batch."""
        self._rows[column] += rows
        self._unread[column] += unread

    def judge(self, total: Callable[[], int]) -> None:
        """Return nothing where no more than `contract.max_bad_share` of all times cannot be read.

        `total` counts the rows of the whole source, of which the pass may have seen a part.

        Raises:
            FetchError: where more cannot.
        """
        share = self._spec.contract.max_bad_share
        for column, unread in self._unread.items():
            if unread > share * self._rows[column] and unread > share * total():
                raise FetchError(
                    f"{unread} values of {column!r} that are no time",
                    "ISO 8601, e.g. 2026-01-31T08:00:00Z",
                    "correct them, convert them in source.query, or set source.csv.timestamp_format or "
                    "source.timestamp_unit",
                    model=self._spec.name,
                )


def source_names(schema: pa.Schema) -> list[str]:
    """Return the columns that this part of the source had, wanted or not."""
    return list(json.loads((schema.metadata or {}).get(NAMES, b"[]")))


def part_name(schema: pa.Schema) -> str:
    """Return the name of the file these rows came from; empty where they came from none."""
    return str((schema.metadata or {}).get(_PART, b"").decode())


def plain(values: pa.Array, column: str, spec: ModelSpec) -> pa.Array:
    """Return the values in one of few types: whole number, float, boolean, text, time or null.

    Whole numbers stay exact: what does not fit int64 stays uint64 or decimal with no digits behind the point.

    Raises:
        FetchError: when the column holds bytes that are no text.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return plain(values.dictionary_decode(), column, spec)
    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = isinstance(kind, pa.UuidType)
        return _hex(values.storage, dashes=True) if is_uuid else plain(values.storage, column, spec)
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind) or pa.types.is_integer(kind):
        return _number(values)
    if pa.types.is_date(kind):
        return values.cast(pa.timestamp("us"))
    return _text(values, column, spec)


def _number(values: pa.Array) -> pa.Array:
    if pa.types.is_decimal(values.type):
        return _decimals(values)
    if pa.types.is_float16(values.type):
        return values.cast(pa.float64())
    return values.cast(pa.int64()) if values.type != pa.uint64() or _fits(values) else values


def _text(values: pa.Array, column: str, spec: ModelSpec) -> pa.Array:
    kind = values.type
    if pa.types.is_fixed_size_binary(kind):
        return _hex(values, dashes=False)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return _decoded(values, column, spec)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    return values


def _decimals(values: pa.Array) -> pa.Array:
    """Whole decimals as whole numbers, others as floats."""
    known = pc.drop_null(values)
    if len(known) and not bool(pc.all(pc.equal(pc.floor(known), known)).as_py()):
        return values.cast(pa.float64(), safe=False)
    digits = min(values.type.precision, 38)
    whole = values.cast(pa.decimal128(38, 0)) if values.type.scale > 0 or digits < 38 else values
    return whole.cast(pa.int64()) if _fits(whole) else whole


def _fits(values: pa.Array) -> bool:
    ends = pc.min_max(values).as_py().values()
    return all(end is None or -(2**63) <= int(end) < 2**63 for end in ends)


def _hex(values: pa.Array, *, dashes: bool) -> pa.Array:
    """Bytes of one length as hexadecimal digits, those of a uuid in its usual form."""
    size = values.type.byte_width
    digits = b"".join(value.as_py() or bytes(size) for value in values).hex()
    texts = pa.array(
        [digits[start : start + 2 * size] for start in range(0, len(digits), 2 * size)], pa.string()
    )
    if dashes:
        texts = pc.replace_substring_regex(texts, "^(.{8})(.{4})(.{4})(.{4})(.{12})$", r"\1-\2-\3-\4-\5")
    return pc.if_else(pc.is_valid(values), texts, pa.scalar(None, pa.string()))


def _decoded(values: pa.Array, column: str, spec: ModelSpec) -> pa.Array:
    try:
        return values.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        raise FetchError(
            f"column {column!r} of bytes that are no UTF-8 text",
            "text, or bytes of one length",
            "convert it in the source or in source.query, e.g. to hexadecimal digits",
            model=spec.name,
        ) from None


def common_type(kinds: Iterable[pa.DataType]) -> pa.DataType:
    """Return the type that holds all of these, in any order; text when nothing else does."""
    distinct = {kind for kind in kinds if not pa.types.is_null(kind)}
    if not distinct:
        return pa.null()
    if len(distinct) == 1:
        return distinct.pop()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in distinct):
        return pa.float64()
    if all(pa.types.is_timestamp(kind) and kind.tz for kind in distinct):
        return pa.timestamp("us", "UTC")
    return pa.string()


def cast_all(table: pa.Table, types: dict[str, pa.DataType]) -> pa.Table:
    """Return the table with exactly these columns in these types; a column it lacks is all null."""
    columns = []
    for name, kind in types.items():
        if name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, kind))
        else:
            column = table.column(name)
            columns.append(column if column.type == kind else column.cast(kind, safe=False))
    return pa.table(columns, names=list(types))
