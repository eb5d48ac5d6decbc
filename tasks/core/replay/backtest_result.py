"""What a backtest came to: the score each retraining policy held and the retrainings it took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.core.replay.summary import rounded


@dataclass(frozen=True)
class PolicyResult:
    """One policy over the history.

    Attributes:
        name: never, every window, every <k> windows, on decay, loop, or a variant of the loop.
        mean_score: Mean over the windows that have a score; None when none has.
        retrainings: Retrainings after the first fit, whatever the gate made of them.
        fit_seconds: Time in fits.
        scores: Score of each window; None where it could not be told.
        promotions: Retrainings that led to a version which served.
        fits: Fits in all, the first one included.
        versions: Number of the version that served in each window.
        partners: Version that answered with half the vote beside it; None where it answered alone.
        debts: Staleness debt at the end of each window but the last, in windows of a fresh model's loss (loop
            only).
        money: Worth in money of each window's answers, where `gate.value` says what answers are worth.
    """

    name: str
    mean_score: float | None
    retrainings: int
    fit_seconds: float
    scores: tuple[float | None, ...] = ()
    promotions: int = 0
    fits: int = 0
    versions: tuple[int, ...] = ()
    partners: tuple[int | None, ...] = ()
    debts: tuple[float, ...] = ()
    money: tuple[float | None, ...] = ()

    def to_json(self) -> dict[str, Any]:  # Any: a JSON tree
        """Return this policy's part of `backtest.json`."""
        return {
            "name": self.name,
            "mean_score": rounded(self.mean_score),
            "retrainings": self.retrainings,
            "fit_seconds": round(self.fit_seconds, 2),
            "promotions": self.promotions,
            "fits": self.fits,
            "scores": [rounded(score) for score in self.scores],
            "versions": list(self.versions),
            "partners": list(self.partners),
            "debts": [rounded(debt) for debt in self.debts],
            "money": [rounded(amount) for amount in self.money],
        }


@dataclass(frozen=True)
class Backtest:
    """The policies over one history of `windows` windows, scored by `metric` (higher is better).

    `staleness_curve` has one entry per age: the age of a model in windows (1: it had learnt everything before
    the window), its mean loss as a multiple of the newest version's on the same rows (1.05: five percent
    more), and the number of windows this rests on. `starts` are the starts of the windows.
    """

    model: str
    metric: str
    windows: int
    policies: tuple[PolicyResult, ...]
    staleness_curve: tuple[tuple[int, float, int], ...] = ()
    starts: tuple[datetime, ...] = ()

    def policy(self, name: str) -> PolicyResult | None:
        """Return the policy of this name; None when it was not run."""
        return next((policy for policy in self.policies if policy.name == name), None)

    def to_json(self) -> dict[str, Any]:  # Any: a JSON tree
        """Return the content of `backtest.json`."""
        return {
            "metric": self.metric,
            "policies": [policy.to_json() for policy in self.policies],
            "windows": self.windows,
            "starts": [start.isoformat() for start in self.starts],
            "staleness_curve": [
                {"age_windows": age, "relative_loss": rounded(loss), "windows": windows}
                for age, loss, windows in self.staleness_curve
            ],
        }
