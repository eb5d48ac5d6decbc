"""Which of many tests reject, when together they may raise a false alarm only so often."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Test = TypeVar("Test", bound=Hashable)


@dataclass(frozen=True)
class Level:
    """The level one test was held against, and whether it rejects there."""

    alpha: float
    rejects: bool


def share_budget(p_values: Mapping[Test, float], budget: float) -> dict[Test, Level]:
    """Return each test's level so that any false rejection at all happens in at most `budget` of the cases.

    Holds however the tests depend on each other, which the false discovery rate of Benjamini and Hochberg
    does not. Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    Example:
        >>> levels = share_budget({"a": 0.01, "b": 0.04, "c": 0.03}, 0.05)
        >>> [test for test, level in levels.items() if level.rejects]
        ['a']
    """
    levels = {}
    rejects = True
    for place, (test, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        alpha = budget / (len(p_values) - place)
        rejects = rejects and p_value <= alpha
        levels[test] = Level(alpha, rejects)
    return levels
