"""Pieces of Markdown that stay what they are, whatever a name or a reason holds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tasks.core.spec import ModelSpec

# An underscore within a word is one to everybody; at its edge it makes the word slanted or bold.
_MARKUP = re.compile(r"([\\|`*~<>\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


class Ready(str):
    """Markdown of our own making, which `table` leaves as it is."""

    __slots__ = ()


def artifact_key(model: str, what: str) -> str:
    """Return `<model>-<what>` in what Prefect allows of a key: lower-case letters, digits, single dashes.

    Example:
        >>> artifact_key("Churn_v2.EU", "drift")
        'churn-v2-eu-drift'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{model}-{what}".lower()).strip("-")


def number(value: float | None) -> str:
    """Return the number with four digits, or a dash for what could not be told.

    Example:
        >>> number(0.123456), number(float("nan")), number(None)
        ('0.1235', '–', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def signed(value: float | None) -> str:
    """Return the number with its sign, for a difference.

    Example:
        >>> signed(0.01234), signed(-2.0), signed(None)
        ('+0.01234', '-2', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:+.4g}"


def said(value: object) -> str:
    r"""Return the value as one line of Markdown that fits a table cell and is never markup.

    Example:
        >>> print(said("a|b <c>"), said("roc_auc"), said("__x__"))
        a\|b \<c\> roc_auc \_\_x\_\_
    """
    return _MARKUP.sub(r"\\\1", " ".join(str(value).split()))


def code(value: object) -> Ready:
    """Return the value as code on one line; a back-tick or bar in it, which would end it, becomes a quote.

    Example:
        >>> code("retrain`demo")
        "`retrain'demo`"
    """
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "¦")
    return Ready(f"`{text}`" if text else "")


def link(text: str, target: str | None) -> Ready:
    """Return a link, or just the text where there is nothing to point at.

    Example:
        >>> link("the check", "/runs/flow-run/1"), link("the check", None)
        ('[the check](/runs/flow-run/1)', 'the check')
    """
    safe = target and re.fullmatch(r"(https?://|/)[^\s()<>\"']*", target)
    return Ready(f"[{said(text)}]({target})" if safe else said(text))


def title(spec: ModelSpec, text: str) -> str:
    """Return the heading of an artifact: the model, and what came of it."""
    return f"## {said(spec.name)}: {said(text)}"


def bullets(items: Sequence[object]) -> list[str]:
    """Return one line per item; only what is `Ready` may hold markup."""
    return [f"- {_cell(item)}" for item in items]


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table; only what is `Ready` may hold markup."""
    lines = ["| " + " | ".join(_cell(cell) for cell in head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)]


def fenced(text: str, language: str = "") -> list[str]:
    """Return the lines of a block shown as it is; a fence inside must not end ours."""
    return [f"```{language}", *text.replace("```", "'''").splitlines(), "```"]


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a reader opens when they want them; `summary` must be our own words."""
    return ["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"]


def _cell(value: object) -> str:
    return value if isinstance(value, Ready) else said(value)
