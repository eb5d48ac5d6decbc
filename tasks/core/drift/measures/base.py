"""What every measure is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.bins import Bins, Counts

Aspect = Literal["distribution", "missing", "unseen", "invalid"]
Table = NDArray[np.float64]

GROUPS = 10  # as many as the usual thresholds of PSI were made for
# Rows a group should lead one to expect in the smaller sample. Our choice: with 5, the usual rule, and one
# small group the chi-square test rejects twice as often as it says at levels of 1e-4, where a budget shared
# among a hundred tests lies; with 10 at most 1.4 times as often.
EXPECTED = 10.0


@dataclass(frozen=True)
class Reading:
    """What a measure found: an effect `value`, and a p-value where it is also a test.

    `value` None means that it cannot be told, and `note` says why. `statistic` is the test's own.
    """

    value: float | None
    p_value: float | None = None
    statistic: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Pair:
    """One feature's counts in the reference and in the current window, in the same cells."""

    bins: Bins
    reference: Counts
    current: Counts

    @cached_property
    def groups(self) -> Table:
        """Return the cells pooled into groups that are large enough to compare: two rows, reference first.

        Numeric cells are joined with their neighbours into at most ten groups of like reference share.
        Categories are pooled by their share of *both* samples, and unseen ones always are: picking the
        large ones of the reference alone would make every later window look different from it.
        """
        both = np.array([self.reference.cells, self.current.cells], dtype=np.float64)
        return _numeric_groups(both) if self.bins.kind == "numeric" else _category_groups(both)[0]

    @cached_property
    def one_group(self) -> Reading | None:
        """What to say when there is only one group, so nothing to compare; else None."""
        if self.groups.shape[1] > 1:
            return None
        used = sum(1 for a, b in zip(self.reference.cells, self.current.cells, strict=True) if a or b)
        if used > 1:
            return Reading(None, note="no value is frequent enough to compare")
        return Reading(0.0, note="one value in both")

    @cached_property
    def fits_chi_square(self) -> bool:
        """Whether every group is large enough for the chi-square distribution to hold far out in its tail."""
        totals = self.groups.sum(axis=1)
        return bool((self.groups.sum(axis=0) * totals.min() / totals.sum() >= EXPECTED).all())

    @cached_property
    def group_of_cell(self) -> NDArray[np.int64]:
        """Which group each cell of a categorical feature went to."""
        return _category_groups(np.array([self.reference.cells, self.current.cells], dtype=np.float64))[1]


@dataclass(frozen=True)
class Measure:
    """One way to compare two samples of a feature; a higher value always means more drift.

    `warn` and `drift` are effect sizes in the measure's own unit: below `warn` a difference is too small
    to matter, however significant it is.
    """

    name: str
    aspect: Aspect
    kinds: tuple[str, ...]
    warn: float
    drift: float
    read: Callable[[Pair], Reading]


def shares(groups: Table) -> tuple[Table, Table]:
    """Return both rows as shares; where a cell is empty, half a row is added to each cell of both."""
    filled = groups if (groups > 0).all() else groups + 0.5
    both = filled / filled.sum(axis=1, keepdims=True)
    return both[0], both[1]


def chance(groups: Table) -> float:
    """Return what PSI comes to on average without drift: (B - 1)(1/n + 1/m).

    Source: Yurdakul & Naranjo, Statistical properties of the population stability index, 2020.
    """
    n, m = groups.sum(axis=1)
    return float((groups.shape[1] - 1) * (1 / n + 1 / m))


def _numeric_groups(both: Table) -> Table:
    n, m = both.sum(axis=1)
    wanted = max(2, min(GROUPS, int(min(n, m) // EXPECTED)))
    middle = np.cumsum(both[0]) - both[0] / 2
    place = np.minimum((middle * wanted / n).astype(np.int64), wanted - 1)
    groups = np.array([np.bincount(place, row, minlength=wanted) for row in both])
    return groups[:, groups.sum(axis=0) > 0]


def _category_groups(both: Table) -> tuple[Table, NDArray[np.int64]]:
    n, m = both.sum(axis=1)
    expected = both.sum(axis=0) / (n + m) * min(n, m)
    own = expected >= EXPECTED
    own[-1] = False
    place = np.full(both.shape[1], int(own.sum()), dtype=np.int64)
    place[own] = np.arange(int(own.sum()))
    groups = np.array([np.bincount(place, row, minlength=int(own.sum()) + 1) for row in both])
    return groups[:, groups.sum(axis=0) > 0], place
