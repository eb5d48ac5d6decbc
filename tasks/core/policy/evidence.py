"""What a decision may rest on: checks of windows, and what else is known of the champion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from tasks.core.policy.staleness import Staleness
from tasks.core.window import Window, utc

Outcome = Literal["ok", "warn", "drift", "undecided"]
HarmOutcome = Literal["harmful", "harmless", "unknown"]


@dataclass(frozen=True)
class CheckOutcome:
    """What one check of one window concluded.

    `harm` is what a drift check estimates the drift to do, without labels, and `harm_reason` why; None where
    nothing was estimated. It is a guess about inputs alone: it never makes an outcome better. `strength` is
    the check's evidence of drift, where 1 is just enough for `drift`; None where it has no magnitude.
    """

    window: Window
    outcome: Outcome
    reason: str = ""
    harm: HarmOutcome | None = None
    harm_reason: str = ""
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.outcome not in get_args(Outcome):
            raise ValueError(f"outcome {self.outcome!r} is none of {get_args(Outcome)}")
        if self.harm is not None and self.harm not in get_args(HarmOutcome):
            raise ValueError(f"harm {self.harm!r} is none of {get_args(HarmOutcome)}")
        if self.strength is not None and not 0 <= self.strength < math.inf:
            raise ValueError(f"strength {self.strength!r} is no number from 0 on")


@dataclass(frozen=True)
class Evidence:
    """Everything a decision may rest on; all of it about the present champion.

    Checks are kept oldest first with one per window (the last given counts), so a window that was checked
    twice is one window in "M of N". `None` means "not known", which is never the same as "fine".
    """

    as_of: datetime
    data_ok: bool | None = None
    data_reason: str = ""
    drift: tuple[CheckOutcome, ...] = ()
    performance: tuple[CheckOutcome, ...] = ()
    label_fault: str | None = None
    new_rows: int | None = None
    new_labels: int | None = None
    """Matured labels of predictions that the last training has not seen; None where nobody asks."""
    last_training: datetime | None = None
    retrainings: tuple[datetime, ...] = ()
    futile: int = 0
    champion_trained: datetime | None = None
    staleness: Staleness | None = None
    """What being out of date has cost; None where the champion's age is not known either."""
    judged_until: datetime | None = None
    """End of the newest labelled window on which the champions were compared; None before the first."""
    has_champion: bool = True
    window: Window | None = None
    """The window this decision is about, where no check of it names one (bad data, age, first training)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "as_of", utc(self.as_of))
        object.__setattr__(self, "drift", _one_per_window(self.drift))
        object.__setattr__(self, "performance", _one_per_window(self.performance))
        object.__setattr__(self, "retrainings", tuple(sorted(utc(moment) for moment in self.retrainings)))
        for name in ("last_training", "champion_trained", "judged_until"):
            moment = getattr(self, name)
            object.__setattr__(self, name, None if moment is None else utc(moment))


def recorded(evidence: Evidence) -> dict[str, object]:
    """Return the evidence as plain JSON values, for the ledger."""

    def moment(value: datetime | None) -> str | None:
        return None if value is None else value.isoformat()

    def listed(checks: tuple[CheckOutcome, ...]) -> list[dict[str, object]]:
        return [
            {"window": str(check.window), "outcome": check.outcome, "reason": check.reason}
            | ({"harm": check.harm, "harm_reason": check.harm_reason} if check.harm else {})
            | ({} if check.strength is None else {"strength": check.strength})
            for check in checks
        ]

    return {
        "as_of": moment(evidence.as_of),
        "window": str(evidence.window) if evidence.window else None,
        "data_ok": evidence.data_ok,
        "data_reason": evidence.data_reason,
        "drift": listed(evidence.drift),
        "performance": listed(evidence.performance),
        "label_fault": evidence.label_fault,
        "new_rows": evidence.new_rows,
        "new_labels": evidence.new_labels,
        "last_training": moment(evidence.last_training),
        "retrainings": [moment(value) for value in evidence.retrainings],
        "futile": evidence.futile,
        "champion_trained": moment(evidence.champion_trained),
        "staleness": evidence.staleness.summary() if evidence.staleness else None,
        "judged_until": moment(evidence.judged_until),
        "has_champion": evidence.has_champion,
    }


def _one_per_window(checks: tuple[CheckOutcome, ...]) -> tuple[CheckOutcome, ...]:
    latest = {check.window: check for check in checks}
    return tuple(sorted(latest.values(), key=lambda check: (check.window.end, check.window.start)))
