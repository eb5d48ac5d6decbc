"""Profiles of Arrow batches: the counts that pandas would give, without a detour through pandas.

Numbers are counted in the memory Arrow holds them in. Everything else is counted by its dictionary: each
different value is read once, as `values` reads it, and its rows are added up by code. What Arrow cannot
encode (lists, structs) goes through pandas column by column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from pyarrow import types

from tasks.core.drift.counting.bins import (
    Bins,
    Counts,
    count,
    count_absent,
    counts_of_labels,
    counts_of_numbers,
)
from tasks.core.drift.counting.values import Codes, Floats, float_of, name_values
from tasks.core.drift.profile import Profile, Reference, Scores, profile_frame

if TYPE_CHECKING:
    import pandas as pd

_CODES = 2**16  # codes at a time: widened to int64 they stay in the processor's cache


def profile_batch(
    batch: pa.RecordBatch | pa.Table,
    reference: Reference,
    *,
    scores: Scores | None = None,
    key: bytes | None = None,
) -> Profile:
    """Return what `profile_frame` would of the same rows as pandas, count for count.

    Whole numbers stay exact: where pandas would make floats of them because of a null beside them, the frame
    meant is `batch.to_pandas(integer_object_nulls=True)`.

    Raises:
        DriftError: when the key is not the one that masked the reference, or the scores do not fit.
    """
    names = set(batch.schema.names)
    counts = {
        bins.name: count_array(bins, batch.column(bins.name), key=key)
        for bins in reference.bins
        if bins.name in names
    }
    return profile_of_counts(counts, reference, rows=batch.num_rows, scores=scores, key=key)


def profile_of_counts(
    counts: Mapping[str, Counts],
    reference: Reference,
    *,
    rows: int,
    scores: Scores | None = None,
    key: bytes | None = None,
) -> Profile:
    """Return the profile of rows whose columns were counted one by one; a column not counted is absent.

    Raises:
        DriftError: when the key is not the one that masked the reference, or the scores do not fit.
    """
    bare = profile_frame(cast("pd.DataFrame", _NoColumns(rows)), reference, scores=scores, key=key)
    features = {name: counts.get(name, held) for name, held in bare.features.items()}
    absent = tuple(name for name in bare.absent if name not in counts)
    return Profile(bare.reference_id, rows, features, absent)


def count_array(bins: Bins, column: pa.Array | pa.ChunkedArray, *, key: bytes | None = None) -> Counts:
    """Return what the cells of one feature hold of this column."""
    if isinstance(column, pa.ChunkedArray):
        total = count_absent(bins, 0)
        for chunk in column.chunks:
            total += count_array(bins, chunk, key=key)
        return total
    if types.is_null(column.type):
        return count_absent(bins, len(column))
    if bins.kind == "numeric" and _is_native(column.type):
        values = _native(column)
        nulls = np.count_nonzero(np.isnan(values)) if types.is_floating(column.type) else column.null_count
        return counts_of_numbers(bins, values, int(nulls))
    try:
        encoded = column if types.is_dictionary(column.type) else column.dictionary_encode()
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, AttributeError):  # lists, structs, extensions
        return count(bins, column.to_pandas(integer_object_nulls=True), key=key)
    entries, nulls = _entries(encoded.dictionary)
    if bins.kind == "numeric":
        return _count_numbers(bins, encoded, entries, nulls)
    return _count_labels(bins, encoded, entries, nulls, key)


class _NoColumns:
    """So many rows without a column: what `profile_frame` checks and counts of them, it need not read."""

    columns = ()

    def __init__(self, rows: int):
        self._rows = rows

    def __len__(self) -> int:
        return self._rows


def _is_native(kind: pa.DataType) -> bool:
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind))


def _native(column: pa.Array) -> Floats:
    if types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count:
        column = column.cast(pa.float64(), safe=False).fill_null(_scalar(pa.float64(), np.float64(math.nan)))
    values: Floats = np.from_dlpack(column)  # no copy, and unlike to_numpy no import of pandas
    return values.astype(np.float64, copy=False)


def _scalar(kind: pa.DataType, value: np.float64 | np.int64) -> pa.Scalar:
    """Return the number for Arrow; its own `scalar` would import pandas first."""
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(value.tobytes())])[0]


def _entries(dictionary: pa.Array) -> tuple[list[object], list[bool]]:
    """Return the different values as Python has them, and which of them are nulls."""
    kind = dictionary.type
    if _is_native(kind) or types.is_decimal(kind) or types.is_string(kind) or types.is_large_string(kind):
        values = dictionary.to_pylist()
        return values, [_is_null(value) for value in values]
    column = dictionary.to_pandas(integer_object_nulls=True)  # times and the like, as pandas names them
    return list(column), column.isna().tolist()


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _codes(encoded: pa.DictionaryArray) -> Codes:
    """Return the place of each row's value in the dictionary; one past its end for a null."""
    codes = encoded.indices
    if codes.null_count:
        past = _scalar(pa.int64(), np.int64(len(encoded.dictionary)))
        codes = codes.cast(pa.int64()).fill_null(past)
    return cast("Codes", np.from_dlpack(codes))  # of any width


def _count_numbers(
    bins: Bins, encoded: pa.DictionaryArray, entries: list[object], nulls: list[bool]
) -> Counts:
    values = np.array([*map(float_of, entries), np.nan])
    codes = _codes(encoded)
    null = np.array([*nulls, True])[codes]
    return counts_of_numbers(bins, values[codes], int(np.count_nonzero(null)))


def _count_labels(
    bins: Bins, encoded: pa.DictionaryArray, entries: list[object], nulls: list[bool], key: bytes | None
) -> Counts:
    codes = _codes(encoded)
    held = np.zeros(len(entries) + 1, dtype=np.int64)
    for begin in range(0, len(codes), _CODES):
        held += np.bincount(codes[begin : begin + _CODES].astype(np.int64, copy=False), minlength=len(held))
    null = np.array([*nulls, True])
    labels, label_of_entry = name_values(entries)
    named = np.append(label_of_entry, -1)
    named[null] = -1
    times = np.zeros(len(labels), dtype=np.int64)
    np.add.at(times, named[named >= 0], held[named >= 0])
    return counts_of_labels(bins, labels, times, rows=len(encoded), nulls=int(held[null].sum()), key=key)
