"""Answers as they are shown: a sentence, facts one below the other or a table, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.store.schema import plain


@dataclass(frozen=True)
class Answer:
    """What a question came to: `data` holds all of it as JSON, `lines` what a person reads first.

    `is_good` is False where a check that was asked for failed, which a script must notice.
    """

    data: Any  # Any: a tree of whatever can be told
    lines: tuple[str, ...]
    is_good: bool = True

    def text(self, *, as_json: bool = False) -> str:
        """Return the answer for the terminal, ending with a line end."""
        if as_json:
            return json.dumps(plain(self.data), indent=2, ensure_ascii=False) + "\n"
        return "\n".join(line.rstrip() for line in self.lines) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    r"""Return the lines of a table whose columns stand below each other; numbers to the right.

    Example:
        >>> print("\n".join(table(["version", "by"], [[3, "ann"], [12, None]])))
        version  by
              3  ann
             12  –
    """
    body = [list(row) for row in rows]
    shown = [[shown_as(cell) for cell in row] for row in body]
    widths = [max(len(line[at]) for line in [list(head), *shown]) for at in range(len(head))]
    right = [
        bool(body) and all(isinstance(row[at], int | float | None) for row in body) for at in range(len(head))
    ]
    return [
        "  ".join(_padded(line[at], widths[at], to_right=right[at]) for at in range(len(head))).rstrip()
        for line in [list(head), *shown]
    ]


def listed(pairs: Iterable[tuple[str, object]]) -> list[str]:
    """Return one line per fact, its name first; what is not known is left out.

    Example:
        >>> listed([("who", "ann"), ("reason", None), ("rows", 3)])
        ['who   ann', 'rows  3']
    """
    kept = [(name, shown_as(value)) for name, value in pairs if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in kept), default=0)
    return [f"{name:<{width}}  {value}" for name, value in kept]


def shown_as(value: object) -> str:
    r"""Return one value as people read it: moments to the minute, numbers with four digits, none as a dash.

    Example:
        >>> shown_as(0.123456), shown_as(None), shown_as(False), shown_as("a\nb")
        ('0.1235', '–', 'no', 'a b')
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN is a number that differs from itself
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%MZ}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(value)).split())


def short(digest: str | None) -> str | None:
    """Return the first twelve signs of a digest or commit."""
    return digest[:12] if digest else None


def _padded(text: str, width: int, *, to_right: bool) -> str:
    return text.rjust(width) if to_right else text.ljust(width)
