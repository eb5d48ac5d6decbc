"""The cell of every row of one feature, in the order of the rows, with what has no cell told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.bins import Bins, _cells_of_labels
from tasks.core.drift.counting.fast import steps_of
from tasks.core.drift.counting.values import Codes, Floats, _nulls, read_floats, read_labels

if TYPE_CHECKING:
    from tasks.core.drift.counting.values import Column

NULL, INFINITE, UNREADABLE = -1, -2, -3


@dataclass(frozen=True, eq=False)
class Places:
    """Where each row of a feature is counted.

    Attributes:
        codes: Per row its cell, or NULL, INFINITE, UNREADABLE.
        steps: Numeric: per row its distance from the reference mean, a whole number; 0 without a value.
        beyond: Numeric with known extremes: per row whether its value lies outside of them.
    """

    codes: Codes
    steps: Floats | None = None
    beyond: NDArray[np.bool_] | None = None


def places_of(bins: Bins, column: Column, *, key: bytes | None = None) -> Places:
    """Return the cell of every row of the column, which is not changed."""
    return _of_numbers(bins, column) if bins.kind == "numeric" else _of_labels(bins, column, key)


def _of_numbers(bins: Bins, column: Column) -> Places:
    values, nulls = read_floats(column)
    codes = np.searchsorted(bins.edges, values, side="left").astype(np.int64)
    usable = np.isfinite(values)
    if usable.all():
        steps = steps_of(bins, values)
    else:
        steps = np.zeros(len(values))
        steps[usable] = steps_of(bins, values[usable])
        codes[np.isinf(values)] = INFINITE
        codes[np.isnan(values)] = UNREADABLE
        if nulls:
            codes[_nulls(column)] = NULL
    if bins.values or bins.low is None or bins.high is None:
        return Places(codes, steps)
    return Places(codes, steps, usable & ((values < bins.low) | (values > bins.high)))


def _of_labels(bins: Bins, column: Column, key: bytes | None) -> Places:
    read = read_labels(column)
    cells = np.append(_cells_of_labels(bins, read.labels, key), UNREADABLE)
    codes = cells[read.codes]  # -1, a null or nothing readable, finds the appended last
    if read.nulls:
        codes[_nulls(column)] = NULL
    return Places(codes)
