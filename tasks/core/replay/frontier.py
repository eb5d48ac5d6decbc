"""The line of fixed calendars: what retraining by the clock holds at any number of retrainings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tasks.core.replay.backtest_result import PolicyResult

_EVERY = re.compile(r"every ([1-9][0-9]*) windows")


def calendar_step(name: str) -> int | None:
    """Return the windows between two retrainings of a fixed calendar, 0 for never; None for another policy.

    Example:
        >>> [calendar_step(name) for name in ("never", "every window", "every 4 windows", "loop")]
        [0, 1, 4, None]
    """
    if name in {"never", "every window"}:
        return 0 if name == "never" else 1
    every = _EVERY.fullmatch(name)
    return int(every[1]) if every else None


def knots(policies: Sequence[PolicyResult]) -> list[PolicyResult]:
    """Return the fixed calendars that have a score, by retrainings; of equally many the best score."""
    best: dict[int, PolicyResult] = {}
    for policy in policies:
        if calendar_step(policy.name) is None or policy.mean_score is None:
            continue
        held = best.get(policy.retrainings)
        if held is None or held.mean_score is None or policy.mean_score > held.mean_score:
            best[policy.retrainings] = policy
    return [best[retrainings] for retrainings in sorted(best)]


def line_weights(policies: Sequence[PolicyResult], retrainings: int) -> dict[str, float] | None:
    """Return the calendars whose weighted mean is the line at this number of retrainings.

    The line is piecewise linear between calendars: a point between two of them is what one gets by following
    each of the two in a share of the time. None beyond the last calendar on either side.
    """
    points = knots(policies)
    for point in points:
        if point.retrainings == retrainings:
            return {point.name: 1.0}
    for low, high in pairwise(points):
        if low.retrainings < retrainings < high.retrainings:
            share = (retrainings - low.retrainings) / (high.retrainings - low.retrainings)
            return {low.name: 1 - share, high.name: share}
    return None


def line_at(policies: Sequence[PolicyResult], retrainings: int) -> float | None:
    """Return the score of the line of fixed calendars; None beyond its ends.

    Example:
        >>> never, always = PolicyResult("never", 0.6, 0, 0.0), PolicyResult("every window", 0.8, 100, 9.0)
        >>> round(line_at([never, always], 25), 3)
        0.65
        >>> line_at([never, always], 101) is None
        True
    """
    weights = line_weights(policies, retrainings)
    if weights is None:
        return None
    scores = {policy.name: policy.mean_score for policy in policies}
    return sum(weight * (scores[name] or 0.0) for name, weight in weights.items())
