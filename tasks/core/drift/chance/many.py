"""One feature's samples, many pairs of them at once: the tests of a check without drift, over and over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.chance.groups import category_groups, numeric_groups, used
from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.measures import chi_square, ks, proportions, unseen_share, wasserstein
from tasks.core.drift.measures.base import Aspect, Pair

Floats = NDArray[np.float64]
MIN_VALUES = 20  # of a feature in either sample; our choice: four groups that expect five rows each
_LEAST = 2.0  # standard deviations: a share that moved less has no p-value that could matter


@dataclass(frozen=True)
class Side:
    """One side of every pair: float64 [pairs]; cells, and their sums where they are known, [pairs, cells]."""

    rows: Floats
    nulls: Floats
    invalid: Floats
    unseen: Floats
    cells: Floats
    sums: Floats | None = None

    @property
    def values(self) -> Floats:
        """Return the usable values per pair."""
        found: Floats = self.cells.sum(axis=1)
        return found

    def taken(self, order: NDArray[np.intp]) -> Side:
        """Return the pairs in this order."""
        return Side(
            self.rows[order],
            self.nulls[order],
            self.invalid[order],
            self.unseen[order],
            self.cells[order],
            None if self.sums is None else self.sums[order],
        )

    def counts(self, place: int, means: Floats | None) -> Counts:
        """Return one pair's counts; each cell's rows lie at the cell's mean."""
        cells = tuple(int(k) for k in self.cells[place])
        sums: tuple[int, ...] = ()
        if self.sums is not None:
            sums = tuple(int(x) for x in self.sums[place])
        elif means is not None:
            sums = tuple(int(x) for x in np.rint(self.cells[place] * means))
        rows, nulls, invalid, unseen = (
            int(x[place]) for x in (self.rows, self.nulls, self.invalid, self.unseen)
        )
        return Counts(rows, nulls, 0, invalid, unseen, cells, sums)


@dataclass(frozen=True)
class Many:
    """Pairs of samples of one feature.

    Attributes:
        bins: Of the feature; the cells may be fewer, where some were empty or pooled.
        reference: One side of each pair.
        current: The other.
        singles: Values that each reference showed once.
        doubles: And twice.
        seen_in: Among so many of its values.
        dispersions: By aspect.
        means: Of each cell of a numeric feature, in steps, where the sides do not know their sums.
    """

    bins: Bins
    reference: Side
    current: Side
    singles: Floats
    doubles: Floats
    seen_in: Floats
    dispersions: Mapping[Aspect, Dispersion] = field(default_factory=dict)
    means: Floats | None = None

    def p_values(self) -> dict[str, Floats]:
        """Return the p-values of every test per pair, NaN where there is none.

        They are the measures' own; only differences of shares that could not matter are all given as 1.
        """
        enough = (self.reference.values >= MIN_VALUES) & (self.current.values >= MIN_VALUES)
        both = np.stack([self.reference.cells, self.current.cells], axis=1)
        groups = numeric_groups(both) if self.bins.kind == "numeric" else category_groups(both)
        found = {
            "chi_square": np.where(enough & (used(groups) > 1), self._chi_square(groups), np.nan),
            "missing_share": self._share("missing", self.reference.nulls, self.current.nulls, sides=2),
            "invalid_share": self._share("invalid", self.reference.invalid, self.current.invalid, sides=1),
            "unseen_share": np.where(enough, self._unseen(), np.nan),
        }
        if self.bins.kind == "numeric":
            sizes = (self.reference.values, self.current.values)
            p_values = ks.p_of(ks.distance(both), *sizes, self._of("distribution"))
            found["ks"] = np.where(enough, p_values, np.nan)
            found["wasserstein"] = np.where(enough, self._wasserstein(both), np.nan)
        return found

    def pair(self, place: int) -> Pair:
        """Return one of the pairs as a check would see it."""
        sides = (self.reference.counts(place, self.means), self.current.counts(place, self.means))
        return Pair(self.bins, *sides, self.dispersions)

    def shuffled(self, rng: np.random.Generator) -> Many:
        """Return the same pairs in another order: those of another feature just like this one."""
        order = rng.permutation(len(self.singles))
        sides = (self.reference.taken(order), self.current.taken(order))
        counts = (self.singles[order], self.doubles[order], self.seen_in[order])
        return Many(self.bins, *sides, *counts, self.dispersions, self.means)

    def _of(self, aspect: Aspect) -> Dispersion:
        return self.dispersions.get(aspect, INDEPENDENT)

    def _chi_square(self, groups: Floats) -> Floats:
        return chi_square.p_values(groups, self._of("distribution"), least=_LEAST)

    def _wasserstein(self, both: Floats) -> Floats:
        before, now, dispersion = self.reference.sums, self.current.sums, self._of("distribution")
        if before is None or now is None or not dispersion.apart or not self.bins.scale:
            return np.full(len(both), np.nan)
        distance = wasserstein.distance(both, np.stack([before, now], axis=1))
        return wasserstein.p_of(distance, self.current.values, dispersion)

    def _share(self, aspect: Aspect, before: Floats, now: Floats, *, sides: int) -> Floats:
        n, m = self.reference.rows, self.current.rows
        there = (before + now > 0) & (before + now < n + m)
        found = np.full(len(n), np.nan)
        if there.any():
            k, of_k, k_now, of_now = (x[there] for x in (before, n, now, m))
            found[there] = proportions.tails(
                k, of_k, k_now, of_now, self._of(aspect), sides=sides, least=_LEAST
            )
        return found

    def _unseen(self) -> Floats:
        found = np.full(len(self.singles), np.nan)
        if not self.bins.complete or (self.bins.masked and self.bins.kind == "numeric"):
            return found
        there = (self.singles > 0) | (self.current.unseen > 0)
        n, m = np.maximum(self.seen_in, 1), np.maximum(self.current.values, 1)
        if there.any():
            once, twice, of, unseen, values = (
                x[there] for x in (self.singles, self.doubles, n, self.current.unseen, m)
            )
            found[there] = unseen_share.p_values(
                once, twice, of, unseen, values, self._of("unseen"), least=1.0
            )
        return found
