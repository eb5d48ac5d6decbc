"""References and windows drawn from a reference's own cells, as if nothing would ever change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.chance.groups import EXPECTED
from tasks.core.drift.chance.many import Many, Side
from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.measures.base import Aspect

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RARE = 10  # rows of a category up to which it is never a group of its own, and may be lost by redrawing
_FEW = 2.5  # parts of EXPECTED below which a category is not expected to be a group of its own either


class Urn:
    """One feature's reference, redrawn `times` over, from which windows of any size are then drawn.

    Args:
        bins: The feature's cells.
        counts: What they hold.
        times: How many references to draw.
        rng: Of all draws.
    """

    def __init__(self, bins: Bins, counts: Counts, times: int, rng: np.random.Generator) -> None:
        self._bins = bins
        self._times = times
        self._rng = rng
        self._rows = counts.rows
        invalid = counts.infinite + counts.unreadable
        self._lost = counts.nulls / max(counts.rows, 1)
        self._broken = invalid / max(counts.rows - counts.nulls, 1)
        self._values = counts.values
        cells = np.array(counts.cells, dtype=np.int64)
        self._rare = _Rare.of(bins, cells)
        held = _kept(bins, cells)
        self._share = held / max(held.sum(), 1)
        self._means = _means(counts)
        self._cells = self._draw(np.full(times, self._values))
        self._new = self._rare.redrawn(times, rng)

    def window(self, rows: int, dispersions: Mapping[Aspect, Dispersion] | None = None) -> Many:
        """Return every reference with a window of so many rows."""
        times = self._times
        nulls, invalid = self._holes(rows)
        values = rows - nulls - invalid
        before, now = self._cells, self._draw(values)
        unseen, singles, doubles = self._unseen(before, now, values)
        nulls_before, invalid_before = self._holes(self._rows)
        if self._bins.kind == "categorical":
            few = self._share * min(rows, self._values) * _FEW < EXPECTED
            before, now = _pooled(before, few), _pooled(now, few)
        full = np.full(times, self._rows)
        sides = (
            Side(*(x.astype(np.float64) for x in (full, nulls_before, invalid_before, 0 * full, before))),
            Side(*(x.astype(np.float64) for x in (np.full(times, rows), nulls, invalid, unseen, now))),
        )
        return Many(
            self._bins,
            *sides,
            singles,
            doubles,
            np.full(times, float(self._values)),
            dispersions or {},
            self._means,
        )

    def _draw(self, values: Ints) -> Ints:
        if not len(self._share):
            return np.zeros((len(values), 1), dtype=np.int64)
        return self._rng.multinomial(values, self._share).astype(np.int64)

    def _holes(self, rows: int) -> tuple[Ints, Ints]:
        nulls = self._rng.binomial(rows, self._lost, self._times)
        return nulls, self._rng.binomial(rows - nulls, min(self._broken, 1.0))

    def _unseen(self, before: Ints, now: Ints, values: Ints) -> tuple[Ints, Floats, Floats]:
        if self._bins.kind == "categorical":
            rest = now[:, -1]
            mass = self._rare.rows / max(self._values, 1)
            part = self._new.lost / max(self._values, 1) / mass if mass else 0 * self._new.lost
            found = self._rng.binomial(rest, np.clip(part, 0, 1)).astype(np.int64)
            return found, self._new.singles, self._new.doubles
        if self._bins.values:
            lost = np.where(before == 0, now, 0).sum(axis=1)
            once, twice = ((before == often).sum(axis=1) for often in (1, 2))
        else:
            once = np.full(self._times, self._bins.singles)
            twice = 0 * once
            beyond = self._rng.beta(max(self._bins.singles, 1), max(self._values - 1, 1), self._times)
            lost = self._rng.binomial(values, beyond if self._bins.singles else 0)
        return lost.astype(np.int64), once.astype(np.float64), twice.astype(np.float64)


@dataclass(frozen=True)
class _Redrawn:
    """Per redrawn reference: rows of categories it no longer shows, and how many it shows once and twice."""

    lost: Floats
    singles: Floats
    doubles: Floats


@dataclass(frozen=True)
class _Rare:
    """How many rare categories there are with 1, 2, ... rows: those of like frequency are exchangeable."""

    times: Ints
    categories: Ints

    @property
    def rows(self) -> int:
        """Return how many rows they hold together."""
        return int((self.times * self.categories).sum())

    @classmethod
    def of(cls, bins: Bins, cells: Ints) -> _Rare:
        """Return the rare categories among the cells; a numeric feature has none."""
        known = cells[:-1] if bins.kind == "categorical" else cells[:0]
        categories = np.bincount(known[known <= RARE], minlength=RARE + 1)[1:]
        return cls(np.arange(1, RARE + 1), categories.astype(np.int64))

    def redrawn(self, times: int, rng: np.random.Generator) -> _Redrawn:
        """Return what redrawing the reference makes of them."""
        mean = self.times.astype(np.float64)
        chances = np.stack([special.pdtr(0, mean), mean * np.exp(-mean), mean**2 / 2 * np.exp(-mean)], axis=1)
        shares = np.concatenate([chances, 1 - chances.sum(axis=1, keepdims=True)], axis=1)
        drawn = rng.multinomial(self.categories, np.clip(shares, 0, 1), size=(times, len(mean)))
        sums = drawn.sum(axis=1).astype(np.float64)
        return _Redrawn((drawn[:, :, 0] * mean).sum(axis=1), sums[:, 1], sums[:, 2])


def _kept(bins: Bins, cells: Ints) -> Ints:
    """Return the cells that are drawn: of numbers those that hold any, of categories the rare as one."""
    if bins.kind == "numeric":
        return cells[cells > 0]
    known = cells[:-1]
    return np.append(known[known > RARE], known[known <= RARE].sum() + cells[-1])


def _pooled(cells: Ints, few: NDArray[np.bool_]) -> Ints:
    few = np.append(few[:-1], True)
    return np.concatenate([cells[:, ~few], cells[:, few].sum(axis=1, keepdims=True)], axis=1)


def _means(counts: Counts) -> Floats | None:
    if not counts.sums:
        return None
    held = [(total / rows) for total, rows in zip(counts.sums, counts.cells, strict=True) if rows]
    return np.array(held, dtype=np.float64)
