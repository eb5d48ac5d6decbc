"""A column of any dtype as numbers or as labels, with everything that is neither counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Column: TypeAlias = "pd.Series[Any]"  # Any: a column of whatever the source holds
LONGEST_LABEL = 120
_TRUTHS = {"true": "True", "false": "False"}


@dataclass(frozen=True)
class Numbers:
    """The finite values of a numeric column, and how many cells were something else."""

    finite: Floats
    rows: int
    nulls: int
    infinite: int
    unreadable: int


@dataclass(frozen=True)
class Labels:
    """The categories of a column: `labels[codes[i]]` is row i's; code -1 is a null or unreadable cell."""

    labels: tuple[str, ...]
    codes: Codes
    rows: int
    nulls: int
    unreadable: int

    @property
    def counts(self) -> Codes:
        """Rows per label, in the order of `labels`."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.labels)).astype(np.int64)


def read_floats(column: Column) -> tuple[Floats, int]:
    """Return the cells as float64, NaN where one is null or unreadable, and how many are null.

    What counts as a number is told at `read_numbers`. The floats may be the column's own memory.
    """
    values = _floats(column)
    if _is_native(column.dtype):
        return values, int(np.count_nonzero(np.isnan(values))) if column.dtype.kind == "f" else 0
    return values, int(_nulls(column).sum())


def read_numbers(column: Column) -> Numbers:
    """Return the column's finite values as float64 and counts of nulls, infinities and unreadable cells.

    Booleans are 0 and 1; Decimal, Fraction, nullable and Arrow numbers and numeric text become floats, and
    integers beyond 2**53 are rounded. Numbers beyond the range of a float count as infinite; dates, lists,
    complex numbers and other text as unreadable. NaN, None, NaT and pd.NA are nulls.

    Example:
        >>> import pandas as pd
        >>> read_numbers(pd.Series([1, "2.5", None, "many", float("inf")])).finite.tolist()
        [1.0, 2.5]
    """
    nulls = _nulls(column)
    present = _floats(column)[~nulls]
    unreadable = int(np.isnan(present).sum())
    infinite = int(np.isinf(present).sum())
    finite = present[np.isfinite(present)] if unreadable or infinite else present
    return Numbers(finite, len(column), int(nulls.sum()), infinite, unreadable)


def read_labels(column: Column) -> Labels:
    """Return the column's categories as text, so that the same value has one name whatever its dtype.

    `True`, "True" and "true" are one category, so are 1, 1.0, Decimal("1") and "1". An empty text is a
    category of its own, not a null. Lists, dicts and other nameless things count as unreadable.

    Example:
        >>> import pandas as pd
        >>> read_labels(pd.Series([1.0, "1", None, "b"])).counts.tolist()
        [2, 1]
    """
    nulls = _nulls(column)
    raw, values = _factorize(column, nulls)
    labels, codes_of = name_values(values)
    codes = np.append(codes_of, -1)[raw]  # the code of nulls is -1, which indexes the last place
    unreadable = int(((codes < 0) & ~nulls).sum())
    return Labels(labels, codes, len(column), int(nulls.sum()), unreadable)


def name_values(values: Iterable[object]) -> tuple[tuple[str, ...], Codes]:
    """Return the categories these values stand for, and of each value which; -1 where it stands for none."""
    names: dict[str, int] = {}
    labels = (label_of(value) for value in values)
    codes = [-1 if label is None else names.setdefault(label, len(names)) for label in labels]
    return tuple(names), np.array(codes, dtype=np.int64)


def label_of(value: object) -> str | None:
    """Return the category's name, the same for the same value of any type; None for what can be none.

    Example:
        >>> label_of(1.0), label_of("1"), label_of(True), label_of([1])
        ('1', '1', 'True', None)
    """
    if isinstance(value, str):
        return _TRUTHS.get(value.lower(), value) if len(value) <= LONGEST_LABEL else _short(value)
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | float | Decimal | np.number) and not isinstance(value, np.complexfloating):
        return _number_label(value)
    if isinstance(value, date):
        return value.isoformat()
    if value is None:
        return None
    import pandas as pd

    return str(value) if isinstance(value, np.datetime64 | pd.Period | pd.Interval | pd.Timedelta) else None


def float_of(cell: object) -> float:
    """Return the number this cell stands for; NaN where it stands for none, infinity where it is too large.

    Example:
        >>> float_of("2.5"), float_of(10**400), float_of("1_000")
        (2.5, inf, nan)
    """
    readable = isinstance(cell, str | bool | int | float | Decimal | Fraction | np.number | np.bool_)
    if not readable or isinstance(cell, np.complexfloating):
        return float("nan")
    if isinstance(cell, str) and "_" in cell:  # Python reads 1_000 as a number; data files do not mean that
        return float("nan")
    try:
        return float(cell)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return float("nan")
    except OverflowError:
        return float("inf")


def _nulls(column: Column) -> NDArray[np.bool_]:
    try:
        return column.isna().to_numpy(dtype=bool)
    except InvalidOperation:  # a signalling NaN of decimal refuses even to be looked at
        signals = [isinstance(cell, Decimal) and cell.is_snan() for cell in column.array]
        return column.mask(np.array(signals), None).isna().to_numpy(dtype=bool)


def _is_native(kind: object) -> bool:
    return isinstance(kind, np.dtype) and kind.kind in "buif"


def _floats(column: Column) -> Floats:
    kind = column.dtype
    if _is_native(kind):
        return column.to_numpy(dtype=np.float64)
    if not isinstance(kind, np.dtype) and kind.kind in "buif":  # pandas' own numbers with nulls, and Arrow's
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    cells = column.astype(object).to_numpy()
    return np.fromiter((float_of(cell) for cell in cells), dtype=np.float64, count=len(cells))


def _factorize(column: Column, nulls: NDArray[np.bool_]) -> tuple[Codes, list[object]]:
    import pandas as pd

    if column.dtype != object:
        codes, values = pd.factorize(column)
        return codes.astype(np.int64), list(values)
    try:
        codes, values = pd.factorize(column)
    except TypeError:  # a list or dict: not hashable
        return _factorize_by_name(column, nulls)
    # pandas takes True, 1 and 1.0 for one value and keeps whichever came first: then the names decide.
    if any(
        isinstance(value, bool | int | float | Decimal | np.generic) and value in (0, 1) for value in values
    ):
        return _factorize_by_name(column, nulls)
    return codes.astype(np.int64), list(values)


def _factorize_by_name(column: Column, nulls: NDArray[np.bool_]) -> tuple[Codes, list[object]]:
    names: dict[str | None, int] = {}
    codes = [
        -1 if null else names.setdefault(label_of(cell), len(names))
        for cell, null in zip(column.array, nulls, strict=True)
    ]
    return np.array(codes, dtype=np.int64), list(names)


def _number_label(value: int | float | Decimal | np.number) -> str | None:  # type: ignore[type-arg]
    try:
        whole = int(value)
        return _short(str(whole)) if whole == value else repr(float(value))
    except OverflowError:
        return repr(float(value))  # an infinity
    except ValueError:
        return None  # more digits than Python will print


def _short(text: str) -> str:
    if len(text) <= LONGEST_LABEL:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[:40]}…{digest}"
