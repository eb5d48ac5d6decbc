"""Who should hear of a decision, and when an incident is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.core.policy import Decision

Tier = Literal["critical", "warning", "info"]
TIERS: dict[str, Tier] = {
    "futility": "critical",  # the loop cannot help itself
    "data": "warning",
    "labels": "warning",
    "decay": "warning",
    "drift": "info",
}


@dataclass(frozen=True)
class Alert:
    """One incident: its cause names it, so that the same cause is told once until it is over."""

    tier: Tier
    cause: str
    message: str


def alerts_of(decision: Decision) -> tuple[list[Alert], list[str]]:
    """Return the incidents that this decision opens or keeps open, and the causes that it shows to be over.

    A block says nothing about the causes behind it: with bad data neither drift nor decay can be cleared.
    Decay is over when the policy looked past it (it ranks before drift and age), drift when it found none.
    """
    cause = "futility" if decision.escalate else str(decision.cause)
    opened = [Alert(TIERS[cause], cause, decision.sentence())] if cause in TIERS else []
    if decision.kind == "BLOCK":
        return opened, [] if decision.cause == "data" else ["data"]
    over = ["data", "labels"]
    if decision.cause not in {"decay", "first"}:
        over += ["decay"] + ([] if decision.escalate else ["futility"])
        if decision.cause != "drift":
            over.append("drift")
    return opened, over
