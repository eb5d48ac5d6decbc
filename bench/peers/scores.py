"""What many checks by one detector say together: rates, the same rates moved to a budget, and delays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Checked:
    """One check of one window.

    Attributes:
        alarm: At the detector's own settings.
        score: How far past its limit it was (1: at the limit); None where it has no such number.
        drifted: Features it named.
        undecided: It said that it cannot tell.
        noticed: It saw a difference beyond chance, whether or not one that matters.
    """

    alarm: bool
    score: float | None
    drifted: frozenset[str]
    undecided: bool = False
    noticed: bool | None = None


def share(flags: Sequence[bool]) -> float:
    """Return the share that is true; NaN of none."""
    return sum(flags) / len(flags) if flags else math.nan


def interval(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Clopper and Pearson 1934)."""
    found = stats.binomtest(hits, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def limit_at(undrifted: Sequence[Checked], budget: float) -> float | None:
    """Return the score above which a detector alarms on no more than this share of undrifted checks.

    With few checks that is their highest score. None when the detector has no score to move.
    """
    scores = [-math.inf if one.score is None else one.score for one in undrifted]
    if not any(math.isfinite(score) for score in scores):
        return None
    allowed = math.floor(budget * len(scores))
    return sorted(scores, reverse=True)[allowed]


def found_at(checks: Sequence[Checked], limit: float | None) -> list[bool]:
    """Return whether each check alarms above this score; at the detector's own settings where it is None."""
    if limit is None:
        return [one.alarm for one in checks]
    return [one.score is not None and one.score > limit for one in checks]


def delays(found: Sequence[bool], run: int) -> list[int | None]:
    """Return the number of the first window found in each whole run, from 1; None: none was."""
    runs = [list(found[start : start + run]) for start in range(0, len(found) - run + 1, run)]
    return [one.index(True) + 1 if True in one else None for one in runs]


def typical(waited: Sequence[int | None]) -> float | None:
    """Return the median delay; None when most runs end without being caught."""
    if not waited:
        return None
    middle = sorted(math.inf if one is None else one for one in waited)[(len(waited) - 1) // 2]
    return None if middle == math.inf else float(middle)
