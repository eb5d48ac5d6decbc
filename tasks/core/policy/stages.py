"""The stages of a version, which moves between them are legal, and what a history without stages implies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tasks.core.errors import RegistryError
from tasks.core.policy.served import SERVING

if TYPE_CHECKING:
    from tasks.core.policy.approval import Row

Stage = Literal["CANDIDATE", "STAGING", "PRODUCTION", "ARCHIVED"]
By = Literal["gate", "person", "rollback"]
"""Who moves: the gate, a person's approval, or a rollback, by whomever."""

STAGES: tuple[Stage, ...] = ("CANDIDATE", "STAGING", "PRODUCTION", "ARCHIVED")
LEGAL: dict[Stage | None, tuple[Stage, ...]] = {
    None: ("CANDIDATE",),  # registered
    "CANDIDATE": ("STAGING", "ARCHIVED"),  # the gate would promote it; or it is kept out
    "STAGING": ("PRODUCTION", "ARCHIVED"),  # it serves; or it was rejected, refused, or forgotten
    "PRODUCTION": ("ARCHIVED",),  # another serves
    "ARCHIVED": (),
}
BROUGHT_BACK: dict[Stage | None, tuple[Stage, ...]] = {"ARCHIVED": ("PRODUCTION",)}
"""Legal besides for a person or a rollback: no gate brings back what was put away."""
FILED: dict[str, Stage] = {
    "registered": "CANDIDATE",
    **dict.fromkeys(("kept", "refused", "rejected"), "ARCHIVED"),
    "waiting": "STAGING",
    "promoted": "PRODUCTION",
    "rolled_back": "PRODUCTION",
}
"""Where each outcome leaves its version."""


def is_legal(old: Stage | None, new: Stage, by: By = "gate") -> bool:
    """Tell whether a version may move from one stage to the next; None: it is not registered yet.

    Example:
        >>> is_legal("STAGING", "PRODUCTION"), is_legal("ARCHIVED", "PRODUCTION")
        (True, False)
        >>> is_legal("ARCHIVED", "PRODUCTION", "rollback")
        True
    """
    return new in LEGAL[old] or (by != "gate" and new in BROUGHT_BACK.get(old, ()))


def is_onward(old: Stage | None, new: Stage) -> bool:
    """Tell whether a stage comes after another, legal or not; what happened late is not undone.

    Example:
        >>> is_onward(None, "STAGING"), is_onward("ARCHIVED", "STAGING")
        (True, False)
    """
    return old is None or STAGES.index(new) > STAGES.index(old)


def path(old: Stage | None, new: Stage, by: By = "gate", *, model: str = "", version: int = 0) -> list[Stage]:
    """Return the stages to pass through, the last being `new`; empty when the version is there already.

    Raises:
        RegistryError: when no legal moves lead there.

    Example:
        >>> path(None, "PRODUCTION")
        ['CANDIDATE', 'STAGING', 'PRODUCTION']
    """
    if old == new:
        return []
    ways: list[tuple[Stage | None, list[Stage]]] = [(old, [])]
    for at, passed in ways:  # grows while it is walked: the shortest way is found first
        for stage in STAGES:
            if stage in passed or not is_legal(at, stage, by):
                continue
            if stage == new:
                return [*passed, stage]
            ways.append((stage, [*passed, stage]))
    raise illegal(old, new, by, model=model, version=version)


def illegal(old: Stage | None, new: Stage, by: By, *, model: str, version: int) -> RegistryError:
    """Return the error for a move that is not legal."""
    allowed = [stage for stage in STAGES if is_legal(old, stage, by)]
    return RegistryError(
        f"version {version} to be moved from {old or 'no stage'} to {new} by the {by}",
        f"one of {', '.join(allowed)}" if allowed else f"nothing that the {by} may move out of {old}",
        "approve it by hand, or roll back to it" if old == "ARCHIVED" and new == "PRODUCTION" else "",
        model=model,
    )


def implied(rows: Sequence[Row], version: int) -> Stage:
    """Return the stage that the ledger implies for a version, whatever stages were written down.

    `rows` are the ledger's, in the order they were recorded. A version it never names is a candidate.
    """
    served = [row.to_version for row in rows if row.action in SERVING]
    if served and served[-1] == version:
        return "PRODUCTION"
    if version in served:
        return "ARCHIVED"
    ended = [row.action for row in rows if row.to_version == version and row.action in FILED]
    return FILED[ended[-1]] if ended else "CANDIDATE"
