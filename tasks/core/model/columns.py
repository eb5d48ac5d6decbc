"""One form for the values of a column, whatever type a source or a request gave them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.data.spelling import MISSING, TRUTHS, number_text

_AS_NUMBER = {"True": "1", "False": "0"}
_AS_TRUTH = {"1": "True", "0": "False"}
_IN_WORDS: dict[str, dict[str, str]] = {"numbers": _AS_NUMBER, "truths": _AS_TRUTH, "digits": {}}


def category_text(value: Any) -> str:
    """Return the one text a category is known by, whatever type it arrived in.

    Example:
        >>> [category_text(value) for value in (3, 3.0, "3", True, "true", 2.5)]
        ['3', '3', '3', 'True', 'True', '2.5']
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).rstrip(" ")
    return TRUTHS.get(text.lower(), text)


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


def column_words(column: pd.Series) -> str:
    """Return what a column's texts are: `numbers` (0, 1), `truths` (False, True), `digits` or "" (others).

    `digits` are numbers, each in the one spelling of `number_text`; texts for a missing value may be among
    them.
    """
    texts = {category_text(value) for value in pd.unique(column.dropna())}
    if texts and texts <= set(_AS_TRUTH):
        return "numbers"
    if texts and texts <= set(_AS_NUMBER):
        return "truths"
    numbers = texts - set(MISSING)
    return "digits" if numbers and all(number_text(text) == text for text in numbers) else ""


def in_words(text: str, words: str) -> str:
    """Return a category's text as a column of these words has it: 2.0 is 2 where all are numbers.

    Example:
        >>> [in_words("2.0", "digits"), in_words("2.0", ""), in_words("True", "numbers")]
        ['2', '2.0', '1']
    """
    if not words:
        return text
    text = number_text(text) or text
    return _IN_WORDS[words].get(text, text)


def text_column(column: pd.Series, words: str) -> NDArray[Any]:
    """Return the column as texts, NaN where it is missing; truth values as `words` says."""
    codes, uniques = pd.factorize(column)
    values: Iterable[Any] = uniques.tolist() if hasattr(uniques, "tolist") else list(uniques)
    texts = [category_text(value) for value in values]
    known = np.array([*(in_words(text, words) for text in texts), np.nan], dtype=object)
    return known[codes]
