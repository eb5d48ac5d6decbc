"""Which of many tests reject at a level that they share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Test = TypeVar("Test", bound=Hashable)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """The level one test was held against, and whether it rejects there."""

    alpha: float
    rejects: bool


def share_budget(p_values: Mapping[Test, float], level: float) -> dict[Test, Level]:
    """Return each test's level so that of all that reject, no more than `level` do by chance.

    Where nothing drifted, that is the chance that any test rejects at all: exactly so for independent tests,
    less for those that move together. All tests are held against one level, that of the last to reject.

    Source: Benjamini & Hochberg, Controlling the false discovery rate, 1995; Simes, An improved Bonferroni
    procedure for multiple tests of significance, 1986.

    Example:
        >>> levels = share_budget({"a": 0.01, "b": 0.04, "c": 0.03}, 0.05)
        >>> [test for test, level in levels.items() if level.rejects]
        ['a', 'b', 'c']
    """
    rejected = 0
    for place, p_value in enumerate(sorted(p_values.values()), start=1):
        if p_value <= level * place / len(p_values):
            rejected = place
    alpha = level * max(rejected, 1) / max(len(p_values), 1)
    return {test: Level(alpha, rejected > 0 and p_value <= alpha) for test, p_value in p_values.items()}


def adjusted(p_values: Floats) -> Floats:
    """Return, per row of p-values, the level from which each test rejects; NaN where there was no test.

    Example:
        >>> adjusted(np.array([[0.01, 0.04, 0.03]])).round(3).tolist()
        [[0.03, 0.04, 0.04]]
    """
    tests = np.isfinite(p_values).sum(axis=1, keepdims=True)
    order = np.argsort(p_values, axis=1)  # NaN last
    ranked = np.take_along_axis(p_values, order, axis=1) * tests / np.arange(1, p_values.shape[1] + 1)
    lowest = np.fmin.accumulate(ranked[:, ::-1], axis=1)[:, ::-1]
    found = np.empty_like(p_values)
    np.put_along_axis(found, order, np.minimum(lowest, 1.0), axis=1)
    return np.where(np.isfinite(p_values), found, np.nan)
