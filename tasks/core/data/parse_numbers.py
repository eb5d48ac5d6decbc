"""Cells of any kind as float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

EXACT_LIMIT = 2.0**53  # from here on neighbouring whole numbers share one float64
_PROBE = 10_000


def to_floats(column: pd.Series[Any]) -> Floats:
    """Return the column as float64: NaN where missing or no number, inf beyond the range of floats."""
    if types.is_complex_dtype(column.dtype):
        return np.full(len(column), np.nan)
    if types.is_bool_dtype(column.dtype) or types.is_numeric_dtype(column.dtype):
        return np.asarray(column.to_numpy(dtype="float64", na_value=np.nan))
    if not (types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)):
        return np.full(len(column), np.nan)
    values = column.astype(object)
    probe = values.iloc[:_PROBE]
    try:
        if probe.nunique() < len(probe) / 2:  # parse each text once
            codes, levels = pd.factorize(values)
            parsed = np.append(_parsed(pd.Series(levels, dtype=object)), np.nan)
            return np.asarray(parsed[codes], dtype=np.float64)
    except TypeError:  # values that cannot be hashed
        pass
    return _parsed(values)


def _parsed(values: pd.Series[Any]) -> Floats:
    try:
        numbers = pd.to_numeric(values, errors="coerce")
    except OverflowError:  # an integer beyond the range of floats
        numbers = pd.Series([], dtype="complex128")
    if numbers.dtype.kind == "c":  # one complex value garbles its neighbours
        cells = pd.Series([_within_floats(value) for value in values], dtype=object)
        numbers = pd.to_numeric(cells, errors="coerce")
    return np.asarray(numbers.to_numpy(dtype="float64", na_value=np.nan))


def _within_floats(value: Any) -> Any:  # Any: a cell of unchecked data
    if isinstance(value, complex | np.complexfloating):
        return None
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value
