"""One spelling per value: the text by which a number or a truth value is known, however it was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal

NUMBER = r"^-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?$"
"""A number as machines write it. No leading zero and no plus: 007 is a code, +49 a telephone number."""

MISSING = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "")
"""Texts that stand for no value among numbers."""

TRUTHS = {"true": "True", "false": "False"}

_NUMBER = re.compile(NUMBER)
_ENDING = re.compile(r"\.?0*$")


def number_text(text: str) -> str | None:
    """Return the one text of a number: no exponent, no zero at the end; None for what is no number.

    Nothing is rounded: digits beyond those of a float stay.

    Example:
        >>> [number_text(text) for text in ("2", "2.0", "1.50", ".5", "-0", "1e3", "007", "two")]
        ['2', '2', '1.5', '0.5', '0', '1000', None, None]
    """
    if not _NUMBER.match(text) or text.endswith("\n"):
        return None
    if "e" in text or "E" in text:
        text = format(Decimal(text), "f")
    sign = "-" if text.startswith("-") else ""
    text = text.removeprefix("-")
    if "." in text:
        text = _ENDING.sub("", text) or "0"
    if text.startswith("."):
        text = f"0{text}"
    return text if text == "0" else sign + text


def spelled_alike(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the texts that differ in case or blanks only, by the first of them in order.

    Example:
        >>> spelled_alike(["yes", "no", "Yes", " yes"])
        {' yes': (' yes', 'Yes', 'yes')}
    """
    groups: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        groups.setdefault("".join(text.casefold().split()), []).append(text)
    return {group[0]: tuple(group) for group in groups.values() if len(group) > 1}


def reader_of(allowed: Iterable[str]) -> Callable[[str], str]:
    """Return how values are read before they are looked up among the `allowed` texts.

    Among numbers 2.0 is 2, among truth values TRUE is True, and blanks at the end never count.
    """
    texts = set(allowed)
    numbers = bool(texts) and all(number_text(text) == text for text in texts)
    truths = bool(texts) and texts <= set(TRUTHS.values())

    def read(text: str) -> str:
        text = text.rstrip(" ")
        if truths:
            return TRUTHS.get(text.lower(), text)
        return (number_text(text) or text) if numbers else text

    return read
