"""What of a model's health people are told: one look per cause, bad or clean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.core.health.budget import Budget
from tasks.core.health.burn import Burning
from tasks.core.health.diagnosis import Diagnosis
from tasks.core.health.service import ServiceVerdict
from tasks.core.health.shift import ShiftVerdict
from tasks.core.health.slices import SlicesVerdict
from tasks.core.health.staleness import Freshness
from tasks.core.messages import Tier


@dataclass(frozen=True)
class Alarm:
    """What one look found about one cause; a clean one ends what an earlier one opened."""

    cause: str
    tier: Tier
    message: str
    is_bad: bool


@dataclass(frozen=True)
class Health:
    """Everything that was found out about a model's health besides its score and its inputs."""

    service: ServiceVerdict
    predictions: ShiftVerdict
    slices: SlicesVerdict
    budget: Budget
    freshness: Freshness
    diagnosis: Diagnosis
    burning: Burning = field(default_factory=Burning)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """One look per cause; none where it could not be told, so that what is open stays open."""
        found = [
            _alarm("service", "warning", self.service.outcome, self.service.sentence()),
            _alarm("burn", self._burn_tier(), self.burning.outcome, self.burning.sentence()),
            _alarm("predictions", "info", self.predictions.outcome, self.predictions.sentence()),
            _alarm("slices", "warning", self.slices.outcome, self.slices.sentence()),
            _alarm("budget", "warning", self.budget.outcome, self.budget.sentence()),
            *(
                Alarm(f"stale {one.what}", one.tier, one.message, one.is_stale)
                for one in self.freshness.looked
                if one.newest is not None or one.is_forgotten
            ),
        ]
        return tuple(alarm for alarm in found if alarm is not None)

    def sentence(self) -> str:
        """Return the diagnosis, and then whatever else is not as it should be."""
        parts = (self.service, self.predictions, self.slices, self.budget, self.freshness)
        bad = [part.sentence() for part in parts if part.outcome in {"warn", "drift"}]
        bad += [f"burn: {self.burning.sentence()}"] if self.burning.firing else []
        return "; ".join([self.diagnosis.sentence(), *bad])

    def _burn_tier(self) -> Tier:
        """People are woken only where much is being lost right now."""
        burn = self.burning.firing
        return burn.tier if burn else "warning"


def _alarm(cause: str, tier: Tier, outcome: str, message: str) -> Alarm | None:
    """Return a bad look for `drift` and a clean one for `ok` and `warn`, which chance may explain."""
    return None if outcome == "undecided" else Alarm(cause, tier, message, outcome == "drift")


def bad(alarms: Sequence[Alarm]) -> tuple[Alarm, ...]:
    """Return the looks that found something."""
    return tuple(alarm for alarm in alarms if alarm.is_bad)
