"""Keys that no single column holds: several columns joined, or a digest of the row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.spec import ModelSpec
from tasks.core.spec_source import NO_KEY
from tasks.sources.shape import NAMES, source_names
from tasks.sources.spelling import key_texts
from tasks.sources.where import Where

if TYPE_CHECKING:
    from tasks.sources import Source

_BETWEEN = "|"
_DIGEST_BYTES = 16


def joined_key(parts: Sequence[pa.Array]) -> pa.Array:
    """Return the texts of several columns as one; null where one of them has none.

    Example:
        >>> joined_key([pa.array([7, 7.0, None]), pa.array(["a", "b", "c"])]).to_pylist()
        ['7|a', '7|b', None]
    """
    texts = [_escaped(key_texts(_in_microseconds(part))) for part in parts]
    return pc.binary_join_element_wise(*texts, _BETWEEN, null_handling="emit_null")


def row_digest(parts: Sequence[pa.Array]) -> pa.Array:
    """Return 32 hexadecimal digits per row, alike for rows that are alike in every column, gaps included.

    Example:
        >>> first, second, other = row_digest([pa.array([1.5, 1.5, None])]).to_pylist()
        >>> first == second != other
        True
    """
    texts = [pc.fill_null(_escaped(key_texts(_in_microseconds(part))), "\0") for part in parts]
    whole = pc.binary_join_element_wise(*texts, _BETWEEN)
    made = (
        hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest() for text in whole.to_pylist()
    )
    return pa.array(made, pa.string())


def _in_microseconds(values: pa.Array) -> pa.Array:
    """Return times in the one unit whose text a request's time has too; anything else as it is."""
    if not pa.types.is_timestamp(values.type):
        return values
    return values.cast(pa.timestamp("us", values.type.tz), safe=False)


def _escaped(texts: pa.Array) -> pa.Array:
    return pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), _BETWEEN, f"\\{_BETWEEN}")


class Keyed:
    """A source whose rows get a key made of columns they have.

    Rows without a key of their own are known by a digest of time, group and features: rows alike in all of
    these are one row, and one whose feature was corrected counts as another.
    """

    def __init__(self, rows: Source, spec: ModelSpec):
        self._rows, self._name, self._parts = rows, spec.source.key, spec.key_parts
        self._is_digest = spec.source.identity == NO_KEY
        self.incremental = rows.incremental
        # A column of this very name is the key that people have always meant.
        self._is_made = not (self._is_digest and self._name in rows.schema())

    @property
    def skipped(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._rows.skipped

    @property
    def dialect(self) -> Mapping[str, object]:
        """See `Source`."""
        return self._rows.dialect

    def schema(self) -> list[str]:
        """See `Source`."""
        return list(dict.fromkeys([*self._rows.schema(), *([self._name] if self._is_made else [])]))

    def batches(self, columns: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        """See `Source`."""
        if not self._is_made or self._name not in columns:
            yield from self._rows.batches(columns, where)
            return
        wanted = list(dict.fromkeys([*(name for name in columns if name != self._name), *self._parts]))
        for batch in self._rows.batches(wanted, where):
            there = [batch.column(name) for name in self._parts if name in batch.schema.names]
            made = row_digest(there) if self._is_digest else joined_key(there)
            whole = batch.append_column(self._name, made)
            names = list(dict.fromkeys([*source_names(batch.schema), self._name]))
            chosen = whole.select([name for name in columns if name in whole.schema.names])
            yield chosen.replace_schema_metadata(
                {**(batch.schema.metadata or {}), NAMES: json.dumps(names).encode()}
            )

    def count(self, where: Where, distinct: str | None = None) -> int:
        """See `Source`."""
        if not self._is_made or distinct != self._name:
            return self._rows.count(where, distinct)
        seen = [pc.unique(batch.column(0)) for batch in self.batches([self._name], where)]
        return len(pc.unique(pc.drop_null(pa.chunked_array(seen, pa.string())))) if seen else 0

    def checksum(self, where: Where) -> str | None:
        """See `Source`."""
        return self._rows.checksum(where)

    def close(self) -> None:
        """See `Source`."""
        self._rows.close()
