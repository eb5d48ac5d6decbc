"""Columns as the types a contract asks for, converted only where nothing is lost, with every fault marked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Number
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
from pandas.api import types

from tasks.core.data.parse_numbers import EXACT_LIMIT, Mask, to_floats

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_MAX_BITS = 1024  # beyond the range of floats; Python refuses to print much longer integers
_OFFSET = re.compile(r"(?:Z|z|[+-]\d{2}:?\d{2})\s*$")


@dataclass(frozen=True)
class Coerced:
    """A column in its agreed type, and per reason code where a value could not be brought into it.

    `values` has the index of the column given; it means nothing where a fault is marked.
    """

    values: pd.Series[Any]
    faults: dict[str, Mask] = field(default_factory=dict)

    @property
    def faulty(self) -> Mask:
        """Where any fault is."""
        masks = list(self.faults.values())
        return np.logical_or.reduce(masks) if masks else np.zeros(len(self.values), dtype=bool)


def coerce(column: pd.Series[Any], kind: str) -> Coerced:
    """Return the column as `kind`, one of the keys of `COERCERS`, whatever container its values came in."""
    if isinstance(column.dtype, pd.CategoricalDtype | pd.ArrowDtype | pd.SparseDtype):
        column = column.astype(object)
    return COERCERS[kind](column)


def to_number(column: pd.Series[Any]) -> Coerced:
    """Return float64 values, missing as NaN; numbers, booleans, Decimals and number texts convert.

    Whole numbers beyond 2**53 are rounded to the nearest float, as any decimal fraction is.
    Faults: `wrong_type` for what is no number, `infinite` for what is not finite.
    """
    numbers = to_floats(column)
    wrong = np.isnan(numbers) & ~_nulls(column)
    faults = {"wrong_type": wrong, "infinite": np.isinf(numbers)}
    return Coerced(pd.Series(numbers, index=column.index, name=column.name), faults)


def to_integer(column: pd.Series[Any]) -> Coerced:
    """Return whole numbers as float64, missing as NaN.

    Faults: those of `to_number`, `not_integer` for 1.7, and `inexact` from 2**53 on.
    """
    coerced = to_number(column)
    numbers = coerced.values.to_numpy()
    finite = np.isfinite(numbers)
    fraction = np.zeros(len(numbers), dtype=bool)
    fraction[finite] = numbers[finite] != np.floor(numbers[finite])
    inexact = finite & (np.abs(numbers) >= EXACT_LIMIT)
    return Coerced(coerced.values, {**coerced.faults, "not_integer": fraction, "inexact": inexact})


def to_boolean(column: pd.Series[Any]) -> Coerced:
    """Return True and False (dtype bool, or object with None where values are missing).

    Booleans, 0 and 1, and the texts true, false, 0 and 1 convert; "no" and 2 are `wrong_type`.
    """
    nulls = _nulls(column)
    if types.is_bool_dtype(column.dtype) or types.is_numeric_dtype(column.dtype):
        numbers = to_floats(column)
        wrong = ~nulls & ~np.isin(numbers, (0.0, 1.0))
        truths = (numbers == 1.0).astype(object)
    else:
        truths = np.array([_truth(value) for value in column.astype(object)], dtype=object)
        wrong = ~nulls & np.array([value is None for value in truths], dtype=bool)
    truths[nulls | wrong] = None
    values = pd.Series(truths, index=column.index, name=column.name, dtype=object)
    return Coerced(values if (nulls | wrong).any() else values.astype(bool), {"wrong_type": wrong})


def to_text(column: pd.Series[Any]) -> Coerced:
    """Return text (object, None where missing); a number is `wrong_type`: 01234 may have become 1234."""
    nulls, values = _nulls(column), column.astype(object)
    if types.infer_dtype(values, skipna=True) in {"string", "empty"}:
        wrong = np.zeros(len(column), dtype=bool)
    else:
        wrong = ~nulls & np.array([not isinstance(value, str) for value in values], dtype=bool)
    return Coerced(_with_none(values, nulls), {"wrong_type": wrong})


def to_category(column: pd.Series[Any]) -> Coerced:
    """Return plain scalars of one type: text, booleans, integers or floats (None or NaN where missing).

    Mixed types become text, so that 1 and "1" are one category. Faults: `wrong_type` for anything that
    is no plain scalar (lists, times, bytes), `infinite`.
    """
    if types.is_bool_dtype(column.dtype) or types.is_numeric_dtype(column.dtype):
        return _numeric_category(column)
    if not (types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)):
        return Coerced(column, {"wrong_type": ~_nulls(column)})
    values, nulls = column.astype(object), _nulls(column)
    kind = types.infer_dtype(values, skipna=True)
    if kind in {"string", "empty", "boolean"}:
        whole = kind == "boolean" and not nulls.any()
        return Coerced(values.astype(bool) if whole else _with_none(values, nulls))
    if kind == "integer":
        return _integers(values, nulls)
    if kind in {"floating", "mixed-integer-float", "decimal"}:
        return to_number(column)
    return _mixed_category(values, nulls)


def to_label(column: pd.Series[Any]) -> Coerced:
    """Return classes as `to_category` does; where text and other types are mixed the rarer is `wrong_type`.

    Turning all of them into text would make 1 and "1" one class, and another one than the champion knows.
    """
    values = column.astype(object)
    if types.infer_dtype(values, skipna=True) not in {"mixed", "mixed-integer"}:
        return to_category(column)
    nulls = _nulls(column)
    text = np.array([isinstance(value, str) for value in values], dtype=bool)
    kept = text if 2 * text.sum() >= (~nulls).sum() else ~text
    coerced = to_category(values.where(kept))
    wrong = coerced.faults.get("wrong_type", np.zeros(len(values), dtype=bool)) | (~kept & ~nulls)
    return Coerced(coerced.values, {**coerced.faults, "wrong_type": wrong})


def to_key(column: pd.Series[Any]) -> Coerced:
    """Return keys as `to_category` does; a fractional or rounded number is `inexact`: no identity."""
    coerced = to_category(column)
    if not types.is_float_dtype(coerced.values.dtype):
        return coerced
    numbers = coerced.values.to_numpy()
    finite = np.isfinite(numbers)
    inexact = np.zeros(len(numbers), dtype=bool)
    inexact[finite] = (numbers[finite] != np.floor(numbers[finite])) | (
        np.abs(numbers[finite]) >= EXACT_LIMIT
    )
    return Coerced(coerced.values, {**coerced.faults, "inexact": inexact})


def to_time(column: pd.Series[Any]) -> Coerced:
    """Return aware UTC times in nanoseconds; ISO texts with an offset convert.

    Faults: `naive_time` for a time without zone (guessing one loses or doubles rows), else `wrong_type`.
    """
    nulls = _nulls(column)
    none = np.zeros(len(column), dtype=bool)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        times = _nanoseconds(column)
        return Coerced(times, {"wrong_type": times.isna().to_numpy() & ~nulls})
    if types.is_datetime64_dtype(column.dtype):
        return Coerced(column, {"naive_time": ~nulls})
    if not (types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)):
        return Coerced(column, {"wrong_type": ~nulls})
    values = column.astype(object)
    naive = none | np.array([_is_naive(value) for value in values], dtype=bool)
    times = pd.to_datetime(
        values.where(~naive & ~_foreign_to_time(values)), errors="coerce", utc=True, format="ISO8601"
    )
    wrong = times.isna().to_numpy() & ~nulls
    unread = (
        naive
        & pd.to_datetime(values.where(naive), errors="coerce", utc=True, format="ISO8601").isna().to_numpy()
    )
    return Coerced(times, {"naive_time": naive & ~unread, "wrong_type": wrong & (~naive | unread)})


def canonical(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values as text for comparison: True is "True", 1 and 1.0 are "1"; missing stays missing."""
    if types.is_bool_dtype(values.dtype) or types.is_integer_dtype(values.dtype):
        return values.astype(str)
    if types.infer_dtype(values, skipna=True) == "string":
        return values
    return pd.Series(values.map(_text, na_action="ignore"), dtype=object)


COERCERS: dict[str, Callable[[pd.Series[Any]], Coerced]] = {
    "number": to_number,
    "integer": to_integer,
    "boolean": to_boolean,
    "string": to_text,
    "category": to_category,
    "label": to_label,
    "key": to_key,
    "time": to_time,
}


def _nulls(column: pd.Series[Any]) -> Mask:
    return np.asarray(column.isna(), dtype=bool)


def _with_none(values: pd.Series[Any], nulls: Mask) -> pd.Series[Any]:
    """Return object values whose missing ones are all None; the values themselves when none is missing."""
    return values.mask(nulls, None) if nulls.any() else values


def _truth(value: Any) -> bool | None:  # Any: a cell of unchecked data
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().lower())
    if isinstance(value, bool | np.bool_ | Number):
        return None if value not in (0, 1) else bool(value)
    return None


def _numeric_category(column: pd.Series[Any]) -> Coerced:
    nulls = _nulls(column)
    if types.is_complex_dtype(column.dtype):
        return Coerced(column, {"wrong_type": ~nulls})
    if types.is_bool_dtype(column.dtype):
        return Coerced(_with_none(column.astype(object), nulls) if nulls.any() else column.astype(bool))
    if types.is_integer_dtype(column.dtype):
        return _integers(column.astype(object), nulls)
    return to_number(column)


def _integers(values: pd.Series[Any], nulls: Mask) -> Coerced:
    """Return int64 where nothing is missing, floats where they are exact, else the numbers as text."""
    largest = max((abs(int(value)) for value in values[~nulls]), default=0)
    if not nulls.any() and largest < 2**63:
        return Coerced(values.astype("int64"))
    if largest < EXACT_LIMIT:
        return Coerced(pd.Series(to_floats(values), index=values.index, name=values.name))
    return _mixed_category(values, nulls)


def _mixed_category(values: pd.Series[Any], nulls: Mask) -> Coerced:
    plain = np.array([_is_plain(value) for value in values], dtype=bool)
    infinite = np.array([_is_infinite(value) for value in values], dtype=bool)
    text = canonical(values.mask(~plain | nulls, None))
    return Coerced(text, {"wrong_type": ~plain & ~nulls, "infinite": infinite})


def _is_plain(value: Any) -> bool:  # Any: a cell of unchecked data
    if isinstance(value, int):
        return value.bit_length() < _MAX_BITS
    return isinstance(value, str | np.bool_ | Number | UUID) and not isinstance(
        value, complex | np.complexfloating
    )


def _is_infinite(value: Any) -> bool:  # Any: a cell of unchecked data
    return isinstance(value, float | np.floating | Decimal) and math.isinf(value)


def _text(value: Any) -> str:  # Any: a plain scalar
    if isinstance(value, float | np.floating | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def _nanoseconds(times: pd.Series[Any]) -> pd.Series[Any]:
    low, high = pd.Timestamp.min.tz_localize("UTC"), pd.Timestamp.max.tz_localize("UTC")
    utc = times.dt.tz_convert("UTC")
    return pd.Series(utc.where((utc > low) & (utc < high)).dt.as_unit("ns"))


def _is_naive(value: Any) -> bool:  # Any: a cell of unchecked data
    if isinstance(value, str):
        return not _OFFSET.search(value)
    return hasattr(value, "tzinfo") and value.tzinfo is None and not pd.isna(value)


def _foreign_to_time(values: pd.Series[Any]) -> Mask:
    """Return where a value is neither text nor a time: pandas would read the number 5 as five nanoseconds."""
    return np.array([not (isinstance(v, str) or hasattr(v, "tzinfo")) for v in values], dtype=bool)
