"""Keys that no single column holds: several columns joined, or a digest of the row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.spec import ModelSpec
from tasks.core.spec_source import NO_KEY
from tasks.sources.spelling import key_texts
from tasks.sources.wrapped import Wrapped

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


class Keyed(Wrapped):
    """A source whose rows get a key made of columns they have.

    Rows without a key of their own are known by a digest of time, group and features: rows alike in all of
    these are one row, and one whose feature was corrected counts as another.
    """

    def __init__(self, rows: Source, spec: ModelSpec):
        super().__init__(rows, spec.source.key)
        self._parts, self._is_digest = spec.key_parts, spec.source.identity == NO_KEY
        self.incremental = rows.incremental

    def needs(self) -> Sequence[str]:
        """Return the columns that make the key."""
        return self._parts

    def added(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with the key of each row."""
        there = [batch.column(name) for name in self._parts if name in batch.schema.names]
        return batch.append_column(self._column, row_digest(there) if self._is_digest else joined_key(there))


def keyed(rows: Source, spec: ModelSpec) -> Source:
    """Return the rows with the key that the block makes of several columns, or as they are.

    A column named like the word for "no key" is the key that people have always meant by that name.
    """
    if not spec.key_parts:
        return rows
    is_digest = spec.source.identity == NO_KEY
    return rows if is_digest and spec.source.key in rows.schema() else Keyed(rows, spec)
