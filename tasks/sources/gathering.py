"""Batches of a source as one table: in memory, or in a file that is mapped and so need not fit there."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.spec import ModelSpec
from tasks.sources.increments import Increment, read
from tasks.sources.shape import part_name, source_names
from tasks.sources.spelling import roles_of, unite

_Identity = tuple[tuple[str, ...], frozenset[str]]


@dataclass(frozen=True)
class Versions:
    """All versions of the rows in question, in one table, and the part each came from.

    `clashes` name the columns whose types in different parts cannot be one, with the parts.
    """

    table: pa.Table
    part: npt.NDArray[np.int32]
    part_names: tuple[tuple[str, ...], ...]
    part_columns: tuple[frozenset[str], ...]
    clashes: tuple[tuple[str, str], ...] = ()


def surviving(folder: Path, increments: Sequence[tuple[str, Increment]]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the increments, each stretch of time from the newest increment that covers it."""
    for index, (name, increment) in enumerate(increments):
        newer = [later for _, later in increments[index + 1 :]]
        for batch in read(folder, name):
            yield _without(batch, increment.column, newer) if newer else batch


def _without(batch: pa.RecordBatch, column: str, newer: Sequence[Increment]) -> pa.RecordBatch:
    values = batch.column(column)
    keep = pc.is_valid(values)  # a row never stamped is read again by every increment
    for later in newer:
        inside = pc.less(values, pa.scalar(later.high, values.type))
        if later.low is not None:
            inside = pc.and_(inside, pc.greater_equal(values, pa.scalar(later.low, values.type)))
        keep = pc.and_(keep, pc.invert(inside))
    return batch.filter(pc.fill_null(keep, False))


def gather(batches: Iterable[pa.RecordBatch], columns: Sequence[str], spec: ModelSpec) -> Versions:
    """Return the batches as one table, one type and spelling per column; one that some lack is null there."""
    kept: list[pa.Table] = []
    files: list[str] = []
    parts: dict[_Identity, int] = {}
    numbers: list[npt.NDArray[np.int32]] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        part = parts.setdefault(_identity(batch), len(parts))
        numbers.append(np.full(batch.num_rows, part, dtype=np.int32))
        files.append(part_name(batch.schema))
        kept.append(pa.Table.from_batches([batch]).replace_schema_metadata(None))
    return _joined(kept, numbers, list(parts), columns, files=files, spec=spec)


@contextmanager
def gather_on_disk(
    batches: Iterable[pa.RecordBatch], columns: Sequence[str], folder: Path, spec: ModelSpec
) -> Iterator[Versions]:
    """Give what `gather` gives while the rows stand in files of `folder`, mapped into memory page by page.

    Rows of one part stay together, so their order is that of `gather` where there is one part, and by part
    otherwise; whoever sorts them sees no difference. A column whose type or spelling differs between parts is
    held in memory, in the one they have in common.
    """
    parts: dict[tuple[_Identity, pa.Schema, str], int] = {}
    paths: list[Path] = []
    with ExitStack() as ends:
        try:
            with ExitStack() as writing:
                writers: list[pa.RecordBatchStreamWriter] = []
                for batch in batches:
                    if not batch.num_rows:
                        continue
                    plain = batch.replace_schema_metadata(None)
                    named = (_identity(batch), plain.schema, part_name(batch.schema))
                    part = parts.setdefault(named, len(parts))
                    if part == len(paths):
                        paths.append(folder / f".rows-{uuid.uuid4().hex[:12]}.arrow")
                        sink = writing.enter_context(pa.OSFile(str(paths[-1]), "wb"))
                        writers.append(writing.enter_context(pa.ipc.new_stream(sink, plain.schema)))
                    writers[part].write_batch(plain)
            tables = [
                pa.ipc.open_stream(ends.enter_context(pa.memory_map(str(path)))).read_all() for path in paths
            ]
            numbers = [np.full(len(table), part, dtype=np.int32) for part, table in enumerate(tables)]
            identities, files = [each[0] for each in parts], [each[2] for each in parts]
            yield _joined(tables, numbers, identities, columns, files=files, spec=spec)
        finally:
            for path in paths:
                path.unlink(missing_ok=True)


class Rows:
    """Rows of a table by position; unlike the table's own `take`, it never joins whole columns in memory."""

    def __init__(self, table: pa.Table):
        self._schema = table.schema
        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)

    def at(self, positions: npt.NDArray[np.int64]) -> pa.Table:
        """Return the rows at these positions, in this order."""
        owner = np.searchsorted(self._ends, positions, side="right")
        order = np.argsort(owner, kind="stable")
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        places = pa.array(back)
        pieces = []
        for number in np.unique(owner):
            batch = self._batches[number]
            local = positions[order][owner[order] == number] - (self._ends[number] - batch.num_rows)
            pieces.append((batch, pa.array(local)))
        columns = []  # one after the other, so that no more than one is held twice
        for index, field in enumerate(self._schema):
            taken = [batch.column(index).take(local) for batch, local in pieces]
            columns.append(pa.concat_arrays(taken).take(places) if taken else pa.array([], field.type))
        return pa.table(columns, schema=self._schema)


def _identity(batch: pa.RecordBatch) -> _Identity:
    return tuple(source_names(batch.schema)), frozenset(batch.schema.names)


def _joined(
    kept: Sequence[pa.Table],
    numbers: Sequence[npt.NDArray[np.int32]],
    parts: Sequence[_Identity],
    columns: Sequence[str],
    *,
    files: Sequence[str],
    spec: ModelSpec,
) -> Versions:
    present = [name for name in columns if any(name in table.column_names for table in kept)]
    roles = roles_of(spec)
    united: dict[str, pa.ChunkedArray] = {}
    clashes: list[tuple[str, str]] = []
    for name in present:
        pieces = _per_type(kept, name)
        types = [piece.type for piece in pieces]
        joined, fits = unite(pieces, roles.get(name), positive=spec.label.positive)
        united[name] = _in_order(joined, kept, name, types)
        if not fits:
            clashes.append((name, _clash(name, kept, files)))
    table = pa.table(united)
    pa.default_memory_pool().release_unused()  # what decoding needed goes back before more is taken
    part_of = np.concatenate(numbers) if numbers else np.empty(0, dtype=np.int32)
    names, there = tuple(names for names, _ in parts), tuple(there for _, there in parts)
    return Versions(table, part_of, names, there, tuple(clashes))


def _per_type(kept: Sequence[pa.Table], name: str) -> list[pa.ChunkedArray]:
    """Return the column's chunks, those of one type together, types in order of appearance."""
    chunks: dict[pa.DataType, list[pa.Array]] = {}
    for table in kept:
        if name in table.column_names:
            column = table.column(name)
            chunks.setdefault(column.type, []).extend(column.chunks)
    return [pa.chunked_array(arrays, kind) for kind, arrays in chunks.items()]


def _in_order(
    united: Sequence[pa.ChunkedArray], kept: Sequence[pa.Table], name: str, types: Sequence[pa.DataType]
) -> pa.ChunkedArray:
    """Return the column of all tables again, in their order, from its chunks by type."""
    kind, taken = united[0].type, [0] * len(types)
    arrays: list[pa.Array] = []
    for table in kept:
        if name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, kind))
            continue
        place = types.index(table.schema.field(name).type)
        arrays += united[place].slice(taken[place], table.num_rows).chunks
        taken[place] += table.num_rows
    return pa.chunked_array(arrays, kind)


def _clash(name: str, kept: Sequence[pa.Table], files: Sequence[str]) -> str:
    """Return which type the column has where, each type once."""
    first: dict[str, str] = {}
    for table, file in zip(kept, files, strict=True):
        if name in table.column_names:
            kind = str(table.schema.field(name).type)
            first.setdefault(kind, f"{kind} in {file}" if file else kind)
    return f"column {name!r} has types that cannot be one: {', '.join(first.values())}"
