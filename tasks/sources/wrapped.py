"""A source that hands on another one's rows with a column of its own beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tasks.sources.shape import NAMES, source_names
from tasks.sources.where import Where

if TYPE_CHECKING:
    from tasks.sources import Source


class Wrapped:
    """Everything but the added column is the wrapped source's own; see `Source`."""

    incremental = False

    def __init__(self, rows: Source, column: str):
        self._rows, self._column = rows, column

    @property
    def skipped(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._rows.skipped

    @property
    def dialect(self) -> Mapping[str, object]:
        """See `Source`."""
        return self._rows.dialect

    def schema(self) -> list[str]:
        """Return the names of all columns, the added one among them."""
        return list(dict.fromkeys([*self._rows.schema(), self._column]))

    def batches(self, columns: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        """Yield the rows; the added column is made only where it is asked for."""
        if self._column not in columns:
            yield from self._rows.batches(columns, where)
            return
        others = [name for name in columns if name != self._column]
        for batch in self._rows.batches(list(dict.fromkeys([*others, *self.needs()])), where):
            whole = self.added(batch)
            names = list(dict.fromkeys([*source_names(batch.schema), self._column]))
            chosen = whole.select([name for name in columns if name in whole.schema.names])
            yield chosen.replace_schema_metadata(
                {**(batch.schema.metadata or {}), NAMES: json.dumps(names).encode()}
            )

    def needs(self) -> Sequence[str]:
        """Return the columns that the added one is made of."""
        raise NotImplementedError

    def added(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with the added column."""
        raise NotImplementedError

    def count(self, where: Where, distinct: str | None = None) -> int:
        """Return how many rows match; values of the added column are counted by reading the rows."""
        if distinct == self._column:
            return count_streamed(self, where, distinct, distinct=True)
        return self._rows.count(where, distinct)

    def checksum(self, where: Where) -> str | None:
        """See `Source`."""
        return self._rows.checksum(where)

    def close(self) -> None:
        """See `Source`."""
        self._rows.close()


def count_streamed(source: Source, where: Where, column: str, *, distinct: bool) -> int:
    """Return how many rows match, or how many different values `column` has in them, by reading them."""
    rows = 0
    seen: list[pa.Array] = []
    for batch in source.batches([column], where):
        rows += batch.num_rows
        if distinct:
            seen.append(pc.unique(pc.drop_null(batch.column(0)).cast(pa.string())))
    if not distinct:
        return rows
    return len(pc.unique(pa.chunked_array(seen, pa.string()))) if seen else 0
