"""Scores of policies over many seeds: what each lost against the best possible, and against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.errors import SpecError

Scores = Sequence[Sequence[float | None]]  # one list of window scores per seed


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error (NaN for a single seed), and the value of each seed."""

    mean: float
    standard_error: float
    per_seed: tuple[float, ...]


def regret(scores: Mapping[str, Scores], hindsight: Scores) -> dict[str, Estimate]:
    """Return how much score each policy left behind the best possible, in the metric; smaller is better.

    Args:
        scores: Per policy and seed, the score of each window; None where it could not be told.
        hindsight: Per seed, the score of the best possible predictions in the same windows.

    Raises:
        SpecError: when numbers of seeds or windows differ, or no window of a seed has both scores.

    Example:
        >>> round(regret({"never": [[0.6, 0.5], [0.7, None]]}, [[0.8, 0.8], [0.8, 0.9]])["never"].mean, 3)
        0.175
    """
    return {name: advantage(hindsight, policy) for name, policy in scores.items()}


def advantage(scores: Scores, baseline: Scores) -> Estimate:
    """Return by how much one policy's window scores exceed another's: mean over windows, then over seeds.

    Windows are paired, so that luck which both share leaves no trace in the standard error; a window without
    one of its scores is left out.

    Raises:
        SpecError: when numbers of seeds or windows differ, or no window of a seed has both scores.
    """
    if len(scores) != len(baseline) or not scores:
        raise SpecError(
            f"scores of {len(scores)} and of {len(baseline)} seeds", "the same seeds, at least one"
        )
    return over_seeds([_mean_difference(*pair) for pair in zip(scores, baseline, strict=True)])


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return mean and standard error (sample deviation over the root of the count) of one value per seed."""
    count = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(math.fsum(values) / count, error, tuple(values))


def _mean_difference(scores: Sequence[float | None], baseline: Sequence[float | None]) -> float:
    if len(scores) != len(baseline):
        raise SpecError(f"{len(scores)} and {len(baseline)} windows of a seed", "the same windows")
    pairs = zip(scores, baseline, strict=True)
    differences = [a - b for a, b in pairs if a is not None and b is not None and math.isfinite(a - b)]
    if not differences:
        raise SpecError("no window with both scores", "at least one in every seed")
    return math.fsum(differences) / len(differences)
