"""What every source owes its caller: few types, UTC times, exactly the rows that were asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.renames import likely_renames
from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec
from tasks.sources.times import to_utc
from tasks.sources.where import Where, columns_of, matches

_NAMES = b"evergreen.columns"


def time_columns(spec: ModelSpec) -> list[str]:
    """Return the columns that hold times: the timestamp and, where declared, the time of writing."""
    return [name for name in (spec.source.timestamp, spec.source.updated) if name]


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
    lost = [
        name for name in (source.key, source.timestamp, source.updated) if name and name not in set(present)
    ]
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
    batch: pa.RecordBatch, columns: Sequence[str], where: Where, spec: ModelSpec, names: Sequence[str]
) -> pa.RecordBatch:
    """Return the rows of `batch` that `where` lets through, times in UTC, with the columns asked for.

    `names` are all columns of this part of the source; they travel in the schema's metadata.
    """
    times = set(time_columns(spec))
    arrays = [
        to_utc(column, name, spec) if name in times else plain(column)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    whole = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
    chosen = whole.filter(matches(where, whole)).select(
        [name for name in columns if name in batch.schema.names]
    )
    return chosen.replace_schema_metadata({_NAMES: json.dumps(list(names)).encode()})


def source_names(schema: pa.Schema) -> list[str]:
    """Return the columns that this part of the source had, wanted or not."""
    return list(json.loads((schema.metadata or {}).get(_NAMES, b"[]")))


def plain(values: pa.Array) -> pa.Array:
    """Return the values in one of few types: whole number, float, boolean, text, time or null."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return plain(values.dictionary_decode())
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return values.cast(pa.float64(), safe=False)
    if pa.types.is_integer(kind):
        return values.cast(pa.int64() if _fits(values) else pa.float64(), safe=False)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    if pa.types.is_date(kind):
        return values.cast(pa.timestamp("us"))
    return values


def _fits(values: pa.Array) -> bool:
    if values.type != pa.uint64():
        return True
    largest = pc.max(values).as_py()
    return largest is None or largest < 2**63


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
