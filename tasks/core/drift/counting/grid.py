"""Where the cells of a numeric feature lie, as a table to look up instead of edges to search.

The line from below the first to above the last edge is cut into slots of equal width. A value's slot is a few
exactly rounded operations away, none of which ever decreases as the value grows; the edges go through the
very same ones. So a slot without an edge lies in one cell whole, whatever the values are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tasks.core.drift.counting.bins import Bins

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Sums are held as whole multiples of this part of the reference's standard deviation, so that adding
# profiles is exact in any order.
STEP = 2.0**-16
REACH = 16.0  # deviations from the mean: no slot but the open ones goes further
_SLOTS = 2**15
_FEW = 8  # values with a cell of their own: comparing with so many costs less than anything else
_CROWDED = 0.05  # of the values in slots with an edge: from here on a root pays for itself
_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Grid:
    """How values find their cells without a search.

    Attributes:
        start: Where the slots begin.
        per_unit: How many slots there are to one; the outermost two are open.
        roots: Slots are of equal width in this many square roots of the distance from `start`.
        cells: Of each slot the cell it lies in, or `unsure`; nothing where comparing with `own` is all.
        unsure: The number that stands for no cell.
        own: A few values with a cell of their own, which are counted by comparing.
        only: Where every value has a cell of its own: which value a slot's cell stands for, NaN for none.
    """

    start: float
    per_unit: float
    roots: int
    cells: Ints
    unsure: int
    own: tuple[float, ...] = ()
    only: Floats | None = None

    def places(self, values: Floats, out: Floats) -> None:
        """Write into `out` how many slots from the start each value lies; never less for a larger value."""
        np.subtract(values, self.start, out=out)
        for _ in range(self.roots):
            np.sqrt(out, out=out)  # NaN below the start
        np.multiply(out, self.per_unit, out=out)


@lru_cache(maxsize=256)  # a quarter of a megabyte each: enough for most models, and no more for the others
def grid_of(bins: Bins) -> Grid | None:
    """Return the grid of a numeric feature, or None where only a search can tell its cells apart."""
    if not bins.edges or (bins.scale or 1.0) * STEP < np.finfo(float).tiny:
        return None  # a unit without its full precision rounds otherwise
    if bins.values and len(bins.values) <= _FEW:
        return Grid(0.0, 0.0, 0, _NONE, bins.cells, bins.values)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        grid = _layout(bins)
        if grid is None:
            return None
        cells = _cells_of_slots(bins, grid)
        if bins.values:
            return replace(grid, cells=cells, only=_only_values(bins, grid, cells))
    return replace(grid, cells=cells, own=_own_values(bins)[:_FEW])


def _own_values(bins: Bins) -> tuple[float, ...]:
    """Return the values with a cell of their own."""
    own = np.array(bins.edges)[1:][_own(bins)]
    if bins.low is not None and bins.high is not None:
        own = own[(own >= bins.low) & (own <= bins.high)]
    return tuple(own.tolist())


def _own(bins: Bins) -> NDArray[np.bool_]:
    """Return between which edges there is room for one value only: the upper edge."""
    edges = np.array(bins.edges)
    return np.asarray(np.nextafter(edges[:-1], np.inf) == edges[1:])


def _layout(bins: Bins) -> Grid | None:
    """Return where the slots lie: around the edges, and no further out than sums stay exact."""
    first, last = bins.edges[0], bins.edges[-1]
    span, size = last - first, max(abs(first), abs(last), 1.0)
    room = span / 4 if span > 1e-9 * size else size
    reach = REACH * (bins.scale or 1.0)
    end = min(last + room, bins.center + reach)
    low = max(first if bins.low is None else bins.low, bins.center - reach)
    found = [_spread(bins, max(first - room, bins.center - reach), end, 0)]
    if found[0] is None or found[0][0] > _CROWDED:
        found += [_spread(bins, low, end, roots) for roots in (1, 2)]
    fitting = [one for one in found if one is not None]
    return min(fitting, key=lambda one: one[0])[1] if fitting else None


def _spread(bins: Bins, start: float, end: float, roots: int) -> tuple[float, Grid] | None:
    """Return a grid without cells, and the share of values that will lie in slots with an edge."""
    per_unit = _SLOTS / (end - start) ** 0.5**roots if end > start else 0.0
    if not (np.isfinite([start, end]).all() and 0 < per_unit < np.inf):
        return None
    grid = Grid(start, per_unit, roots, _NONE, bins.cells)
    gaps = np.diff(_slots(grid, np.array(bins.values or bins.edges)))
    if not bins.values:
        gaps = gaps[~_own(bins)]  # their values are counted by comparing
    return float(np.mean(1 / np.maximum(gaps, 1))) if len(gaps) else 0.0, grid


def _slots(grid: Grid, values: Floats) -> Ints:
    out = np.empty(len(values))
    grid.places(values, out)
    return np.clip(np.nan_to_num(out, nan=0.0), 0, _SLOTS - 1).astype(np.int64)


def _cells_of_slots(bins: Bins, grid: Grid) -> Ints:
    held = np.bincount(_slots(grid, np.array(bins.edges)), minlength=_SLOTS)
    cells = (np.cumsum(held) - held).astype(np.int64)  # as many edges lie in the slots below
    cells[held > 0] = cells[0] = cells[-1] = grid.unsure
    if bins.low is not None and bins.high is not None:
        low, high = _slots(grid, np.array([bins.low, bins.high])).tolist()
        cells[: low + 1] = cells[high:] = grid.unsure  # where a value may be beyond
    return cells


def _only_values(bins: Bins, grid: Grid, cells: Ints) -> Floats:
    """Return the value that each slot stands for, the last where several lie in it, and write its cell."""
    values = np.array(bins.values)
    slots = _slots(grid, values)
    inside = (slots > 0) & (slots < _SLOTS - 1)
    only = np.full(_SLOTS, np.nan)
    only[slots[inside]] = values[inside]
    cells[slots[inside]] = np.searchsorted(bins.edges, values[inside], side="left")
    return only
