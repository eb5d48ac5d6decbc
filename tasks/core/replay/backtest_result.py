"""What a backtest came to: the score each retraining policy held and the retrainings it spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.replay.summary import plural, rounded, shown


@dataclass(frozen=True)
class PolicyResult:
    """One policy over the history.

    `retrainings` are those after the first model, whatever the gate said of them; `fits` are the models that
    were fitted, the first among them, and `fit_seconds` their time. Per window: the score, the version that
    served, its partner and, of a loop, the staleness debt after it.
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


@dataclass(frozen=True)
class Backtest:
    """The policies over one history of `windows` windows, scored by `metric` (higher is better)."""

    model: str
    metric: str
    windows: int
    policies: tuple[PolicyResult, ...]
    staleness_curve: tuple[tuple[int, float, int], ...] = ()
    """Age in windows, mean loss relative to a fresh model's, and the windows that rests on."""

    def to_json(self) -> dict[str, Any]:  # Any: a JSON tree
        """Return the content of `backtest.json`."""
        return {
            "metric": self.metric,
            "policies": [
                {
                    "name": policy.name,
                    "mean_score": rounded(policy.mean_score),
                    "retrainings": policy.retrainings,
                    "fit_seconds": round(policy.fit_seconds, 2),
                }
                for policy in self.policies
            ],
        }


def above_the_line(result: PolicyResult, never: PolicyResult, always: PolicyResult) -> float | None:
    """Return how far the policy's score lies above the straight line from never to always retraining.

    The line is what one gets by retraining in a random share of the windows; None when a score is unknown
    or the two ends spent the same number of retrainings.

    Example:
        >>> never, always = PolicyResult("never", 0.6, 0, 0.0), PolicyResult("every", 0.8, 100, 9.0)
        >>> round(above_the_line(PolicyResult("loop", 0.75, 50, 4.0), never, always), 3)
        0.05
    """
    known: Sequence[float | None] = (result.mean_score, never.mean_score, always.mean_score)
    spent = always.retrainings - never.retrainings
    if any(score is None for score in known) or spent == 0:
        return None
    score, low, high = (float(value) for value in known if value is not None)
    return score - (low + (high - low) * (result.retrainings - never.retrainings) / spent)


def backtest_sentence(result: Backtest) -> str:
    """Return what the backtest shows in a sentence or two."""
    by_name = {policy.name: policy for policy in result.policies}
    windows = plural(result.windows, "window")
    told = f"The same {windows} of {result.model} under {len(by_name)} retraining policies."
    loop, spent = by_name.get("loop"), sorted(result.policies, key=lambda policy: policy.retrainings)
    if loop is None or len(spent) < 2:
        return told
    retrainings = plural(loop.retrainings, "retraining")
    told += f" The loop held a mean {result.metric} of {shown(loop.mean_score)} with {retrainings}"
    gain = above_the_line(loop, spent[0], spent[-1])
    if gain is None:
        return told + "."
    side = "above" if gain >= 0 else "below"
    return f"{told}, {abs(gain):.3f} {side} the line from {spent[0].name} to {spent[-1].name}."
