"""Which rows to read: any of some conjunctions of time bounds, the same for every kind of source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.window import Window

_NO_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Clause:
    """One bound: the column's time is at or after, or before, the moment; or there is none.

    `unreadable` asks for what stands there and is no time; `null` for all without a time, those included.
    """

    column: str
    op: Literal["ge", "lt", "null", "unreadable"]
    moment: datetime = _NO_MOMENT


Where = tuple[tuple[Clause, ...], ...]


def just_after(moment: datetime) -> datetime:
    """Return the exclusive bound that still lets `moment` itself in."""
    return moment + timedelta(microseconds=1)


def between(column: str, start: datetime, end: datetime) -> tuple[Clause, Clause]:
    """Return the bounds of the half-open interval."""
    return Clause(column, "ge", start), Clause(column, "lt", end)


def within(column: str, window: Window) -> Where:
    """Return the filter for one column in one window."""
    return (between(column, window.start, window.end),)


def columns_of(where: Where) -> set[str]:
    """Return the columns that the filter looks at."""
    return {clause.column for part in where for clause in part}


def matches(where: Where, batch: pa.RecordBatch) -> pa.BooleanArray:
    """Return one flag per row; time columns must be UTC timestamps already.

    Where the filter asks for unreadable times, the batch has the flags in `unreadable_name(column)`.

    An empty filter lets everything through. A null never satisfies a bound.
    """
    if not where:
        return pa.array([True] * batch.num_rows, pa.bool_())
    flags = None
    for part in where:
        both = None
        for clause in part:
            if clause.op == "unreadable":
                one = batch.column(unreadable_name(clause.column))
            else:
                one = _matches(clause, batch.column(clause.column))
            both = one if both is None else pc.and_(both, one)
        flags = both if flags is None else pc.or_(flags, both)
    return flags


def unreadable_name(column: str) -> str:
    """Return the name of the column of flags that says where a time could not be read."""
    return f"\0unreadable {column}"


def _matches(clause: Clause, values: pa.Array) -> pa.BooleanArray:
    if clause.op == "null":
        return pc.is_null(values)
    compare = pc.greater_equal if clause.op == "ge" else pc.less
    return pc.fill_null(compare(values, pa.scalar(clause.moment, values.type)), False)
