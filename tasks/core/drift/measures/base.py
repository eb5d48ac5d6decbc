"""What every measure is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.chance.groups import (
    EXPECTED,
    GROUPS,
    Table,
    category_groups,
    frequent,
    large_enough,
    numeric_groups,
    without_empty,
)
from tasks.core.drift.counting.bins import Bins, Counts

__all__ = ["EXPECTED", "GROUPS", "Aspect", "Measure", "Pair", "Reading", "Table", "chance", "shares"]

Aspect = Literal["distribution", "missing", "unseen", "invalid", "joint"]


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
    """One feature's counts in the reference and in the current window, in the same cells.

    Attributes:
        bins: The cells.
        reference: Counts of the rows compared with.
        current: Counts of the window.
        dispersions: By aspect, how much more windows differ than independent rows would; none where they do
            not.
        origin: Counts of the rows that the cells were made from, where `reference` counts others.
    """

    bins: Bins
    reference: Counts
    current: Counts
    dispersions: Mapping[Aspect, Dispersion] = field(default_factory=dict)
    origin: Counts | None = None

    def dispersion(self, aspect: Aspect) -> Dispersion:
        """Return the aspect's dispersion."""
        return self.dispersions.get(aspect, INDEPENDENT)

    def factor(self, aspect: Aspect) -> float:
        """Return by how much the aspect's differences vary more than between independent rows."""
        if self.dispersion(aspect).independent:
            return 1.0
        of_rows = aspect in {"missing", "invalid"}
        n = self.reference.rows if of_rows else self.reference.values
        m = self.current.rows if of_rows else self.current.values
        return float(self.dispersion(aspect).between(max(n, 1), max(m, 1)))

    @cached_property
    def groups(self) -> Table:
        """Return the cells pooled into groups that are large enough to compare: two rows, reference first.

        Numeric cells are joined with their neighbours into at most ten groups of like reference share.
        Categories are pooled by their share of *both* samples, and unseen ones always are.
        """
        both = np.array([self.reference.cells, self.current.cells], dtype=np.float64)
        return without_empty(numeric_groups(both) if self.bins.kind == "numeric" else category_groups(both))

    def groups_of(self, rows: int) -> int:
        """Return in how many groups a window of so many rows would be compared, by the reference's shares."""
        cells = np.array(self.reference.cells, dtype=np.float64)
        both = np.stack([cells, cells / max(cells.sum(), 1) * rows])
        return without_empty(
            numeric_groups(both) if self.bins.kind == "numeric" else category_groups(both)
        ).shape[1]

    @cached_property
    def chance(self) -> float:
        """Return what PSI comes to on average without drift."""
        return chance(self.groups) * self.factor("distribution")

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
        return bool(large_enough(self.groups))

    @cached_property
    def group_of_cell(self) -> NDArray[np.int64]:
        """Which group each cell of a categorical feature went to."""
        own = frequent(np.array([self.reference.cells, self.current.cells], dtype=np.float64))
        place = np.full(len(own), int(own.sum()), dtype=np.int64)
        place[own] = np.arange(int(own.sum()))
        return place


@dataclass(frozen=True)
class Measure:
    """One way to compare two samples of a feature; a higher value always means more drift.

    `warn` and `drift` are effect sizes in the measure's own unit: below `warn` a difference is too small
    to matter, however significant it is. `kinds` are the kinds of features it reads; none where it is made of
    whole rows.
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
    """Return what PSI comes to on average without drift and with independent rows: (B - 1)(1/n + 1/m).

    Source: Yurdakul & Naranjo, Statistical properties of the population stability index, 2020.
    """
    n, m = groups.sum(axis=1)
    return float((groups.shape[1] - 1) * (1 / n + 1 / m))
