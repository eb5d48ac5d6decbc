"""What a run may be asked with: the scalar parameters of every flow, named and bounded once.

A deployment's form, the API and a call from a test check them alike: a value out of bounds is refused before
a run starts. The help text of a field is the flow's own docstring, because it says what the value does there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

MAX_REASON = 500
"""Longest reason, in characters; our choice: two sentences for the ledger, and a run's name still reads."""
MAX_ACTOR = 100
DECISION_PATTERN = r"^[A-Za-z0-9_.-]{0,120}$"
"""A decision's id, or nothing: what begins an attempt keeps no other signs and no more of them."""
COMMIT_PATTERN = r"^([A-Za-z0-9]+([._/-][A-Za-z0-9]+)*)?$"
"""A hash, the first signs of one, or a tag; nothing that git could take for an option or a search."""
LINE_PATTERN = r"^[^\x00-\x1f\x7f]*$"
"""One line: no line ends, tabs or other control signs, which would forge a second line in a log."""


def _named(title: str, **more: Any) -> dict[str, Any]:  # Any: JSON schema
    # Prefect gives every field its parameter's name as title; what stands in json_schema_extra comes last.
    return {"json_schema_extra": {"title": title, **more}}


AsOf = Annotated[datetime | None, Field(**_named("As of"))]
"""The moment to act as if it were; None is now."""

Reason = Annotated[str, Field(max_length=MAX_REASON, pattern=LINE_PATTERN, **_named("Reason"))]
"""Why somebody does this, for the ledger: one line."""

DecisionId = Annotated[str, Field(pattern=DECISION_PATTERN, **_named("Decision id"))]
"""The decision behind a run; empty where a person asked for it."""

Actor = Annotated[str, Field(max_length=MAX_ACTOR, pattern=LINE_PATTERN, **_named("Who you are"))]
"""Who does this, for the ledger."""

Version = Annotated[int | None, Field(ge=1, **_named("Version"))]
"""Number of a registered version; None leaves the choice to the flow."""

BeforeCommit = Annotated[str, Field(max_length=100, pattern=COMMIT_PATTERN, **_named("Before commit"))]
"""A commit of this project that is to be undone, by hash or tag; empty where none is meant."""

DryRun = Annotated[bool, Field(**_named("Dry run"))]
"""Show what would happen and change nothing."""

Force = Annotated[bool, Field(**_named("Force"))]
"""Do it even where a rule about quantity says to wait."""


ABOUT_MODEL: Any = Field(**_named("Model", position=99))
"""The default of a flow's first parameter, the spec: required all the same, and last in the form.

The spec fills five screens that a deployment has filled in already; what a person gives stands above it.
"""


def fit_reason(text: str) -> str:
    r"""Return the text as a reason that every flow takes: one line, shortened where it is too long.

    Example:
        >>> fit_reason("realised roc_auc 0.61\nbelow 0.70")
        'realised roc_auc 0.61 below 0.70'
        >>> len(fit_reason("x" * 900))
        500
    """
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…"
