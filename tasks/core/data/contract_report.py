"""What a contract check found, in counts and masked examples: never a raw value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

Outcome = Literal["ok", "quarantine", "block"]

MAX_EXAMPLES = 5
_MAX_SHAPE = 24
_MAX_LISTED = 4

REASONS: dict[str, str] = {
    "missing_value": "no value where one is required",
    "wrong_type": "a value of another type",
    "infinite": "an infinite value",
    "not_integer": "a fraction where a whole number is agreed",
    "inexact": "a number too large to be held exactly",
    "naive_time": "a time without a zone",
    "too_small": "below the agreed minimum",
    "too_large": "above the agreed maximum",
    "not_allowed": "not one of the agreed values",
    "no_match": "text of another form than agreed",
    "near_class": "a class that differs from a commoner one in case or blanks only",
    "duplicate_key": "an older copy of a row whose key stands twice",
    "check_failed": "a rule across columns is broken",
}


@dataclass(frozen=True)
class Failure:
    """One way in which rows broke the contract; `examples` are at most five masked values."""

    code: str
    column: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContractReport:
    """What a check of the contract concluded, and why.

    `bad_share` is in 0..1; a row that fails twice counts once. `structural` are faults of the whole table,
    which block whatever the share. `renames` maps expected to found names. `notices` block nothing.
    """

    rows: int
    bad_rows: int
    bad_share: float
    structural: tuple[str, ...]
    renames: dict[str, str]
    failures: tuple[Failure, ...]
    outcome: Outcome
    notices: tuple[str, ...] = ()

    @property
    def reasons(self) -> dict[str, int]:
        """Rows per `column:code`, as stored with the quarantine."""
        return {f"{failure.column}:{failure.code}": failure.count for failure in self.failures}

    def sentence(self) -> str:
        """Return one plain sentence that says what happened and why."""
        counts = f"{self.rows:,} rows, {self.bad_rows:,} bad ({_percent(self.bad_share)})"
        if self.outcome == "ok":
            return f"contract kept: {counts}"
        worst = sorted(self.failures, key=lambda failure: -failure.count)
        causes = [*self.structural, *(f"{f.column} {f.code} {f.count:,}" for f in worst)]
        more = f" (+{len(causes) - _MAX_LISTED} more)" if len(causes) > _MAX_LISTED else ""
        verb = "blocked" if self.outcome == "block" else "bad rows quarantined"
        return f"{verb}: {counts}: " + "; ".join(causes[:_MAX_LISTED]) + more

    def to_markdown(self) -> str:
        """Return the report as a short page: outcome, structural faults, and a table of row failures."""
        lines = [
            f"**{self.outcome}**: {self.rows:,} rows, {self.bad_rows:,} bad ({_percent(self.bad_share)})",
            "",
        ]
        lines += [f"- {_cell(fault)}" for fault in self.structural]
        lines += [f"- note: {_cell(notice)}" for notice in self.notices]
        if self.failures:
            lines += ["", "| column | reason | rows | masked examples |", "|---|---|---:|---|"]
        for failure in self.failures:
            reason = f"{failure.code}: {REASONS.get(failure.code, '')}".rstrip(": ")
            examples = ", ".join(failure.examples)
            lines.append(f"| {_cell(failure.column)} | {reason} | {failure.count:,} | {_cell(examples)} |")
        return "\n".join(lines) + "\n"


def masked_examples(values: Iterable[object], *, sensitive: bool = False) -> tuple[str, ...]:
    """Return at most five different shapes of the values given, in their order.

    Example:
        >>> masked_examples(["north-12", -3.5, None])
        ('aaaaa-99', '-9.9', 'missing')
    """
    shapes = (mask_value(value, sensitive=sensitive) for value in values)
    return tuple(dict.fromkeys(shapes))[:MAX_EXAMPLES]


def mask_value(value: Any, *, sensitive: bool = False) -> str:  # Any: a cell of unchecked data
    """Return the shape of a value: letters as a, digits as 9; of a sensitive one only its type."""
    if isinstance(value, str):
        return "text" if sensitive else _shape(value) or "empty text"
    if not pd.api.types.is_scalar(value):
        return type(value).__name__
    if pd.isna(value):
        return "missing"
    if isinstance(value, bool) or sensitive:
        return type(value).__name__
    return str(value) if str(value) in {"inf", "-inf"} else _shape(str(value))


def _shape(text: str) -> str:
    cut = text if len(text) <= _MAX_SHAPE else text[: _MAX_SHAPE - 1]
    shape = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", cut))
    return shape if len(text) <= _MAX_SHAPE else shape + "…"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share == 0 or share >= 0.001 else "under 0.1%"


def _cell(text: str) -> str:
    """Return text that cannot break out of a Markdown table cell."""
    return re.sub(r"\s+", " ", text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
