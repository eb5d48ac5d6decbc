"""One form for the values of a column, whatever type a source or a request gave them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_TRUTHS = {"true": "True", "false": "False"}
_AS_NUMBER = {"True": "1", "False": "0"}
_AS_TRUTH = {"1": "True", "0": "False"}


def category_text(value: Any) -> str:
    """Return the one text a category is known by, whatever type it arrived in.

    Example:
        >>> [category_text(value) for value in (3, 3.0, "3", True, "true", 2.5)]
        ['3', '3', '3', 'True', 'True', '2.5']
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value)
    return _TRUTHS.get(text.lower(), text)


def number_column(column: pd.Series) -> NDArray[np.float64]:
    """Return a column of any number type as float64, NaN where it is missing.

    Raises:
        TypeError: for a column of times, whose number would depend on its resolution.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiub":
        return column.to_numpy(dtype=np.float64)
    if column.dtype.kind in "mM":
        raise TypeError(f"column {column.name!r} holds times, not numbers; turn it into a number first")
    return column.astype(object).where(column.notna(), np.nan).to_numpy(dtype=np.float64)


def truth_words(column: pd.Series) -> str:
    """Return how a column writes truth values: `numbers` (0, 1), `truths` (False, True) or "" (neither)."""
    texts = {category_text(value) for value in pd.unique(column.dropna())}
    if texts and texts <= set(_AS_TRUTH):
        return "numbers"
    return "truths" if texts and texts <= set(_AS_NUMBER) else ""


def text_column(column: pd.Series, words: str) -> NDArray[Any]:
    """Return the column as texts, NaN where it is missing; truth values as `words` says."""
    codes, uniques = pd.factorize(column)
    other = {"numbers": _AS_NUMBER, "truths": _AS_TRUTH}.get(words, {})
    values: Iterable[Any] = uniques.tolist() if hasattr(uniques, "tolist") else list(uniques)
    texts = [category_text(value) for value in values]
    known = np.array([*(other.get(text, text) for text in texts), np.nan], dtype=object)
    return known[codes]
