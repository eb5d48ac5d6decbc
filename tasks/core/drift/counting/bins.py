"""The cells in which one feature is counted, fixed by the reference and used for every later window."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from tasks.core.drift.counting import fast, grid
from tasks.core.drift.counting.values import Codes, Floats, read_floats, read_labels, read_numbers

if TYPE_CHECKING:
    from tasks.core.drift.counting.values import Column

MAX_BINS = 64
MAX_CATEGORIES = 10_000
STEP, FARTHEST = grid.STEP, fast.FARTHEST  # of the sums
_SAME = {"True": "1", "False": "0", "1": "True", "0": "False"}


@dataclass(frozen=True)
class Bins:
    """The cells of one feature.

    Numeric: cell i holds edges[i-1] < x <= edges[i]; the two outer cells are open, so no value is out of
    range. Categorical: one cell per category, and a last one for everything else. `singles` is how many
    values the reference showed exactly once: as often, a window shows something the reference did not;
    `doubles`, those it showed twice, say how uncertain that is.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...] = ()
    values: tuple[float, ...] = ()  # of a discrete numeric column: each has a cell of its own
    low: float | None = None
    high: float | None = None
    center: float = 0.0
    scale: float = 0.0  # the reference's standard deviation; 0 when it is constant
    categories: tuple[str, ...] = ()
    complete: bool = True  # whether "unseen" can be told from what is kept here
    masked: bool = False
    singles: int = 0
    doubles: int = 0

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.edges) + 1 if self.kind == "numeric" else len(self.categories) + 1


@dataclass(frozen=True)
class Counts:
    """What one feature's cells held in some rows. Whole numbers only, so that `+` is exact in any order."""

    rows: int
    nulls: int
    infinite: int
    unreadable: int
    unseen: int
    cells: tuple[int, ...]
    sums: tuple[int, ...] = ()  # numeric: distance from the reference mean per cell, in STEP deviations

    @property
    def values(self) -> int:
        """How many rows had a usable value."""
        return sum(self.cells)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.nulls + other.nulls,
            self.infinite + other.infinite,
            self.unreadable + other.unreadable,
            self.unseen + other.unseen,
            tuple(a + b for a, b in zip(self.cells, other.cells, strict=True)),
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
        )


def numeric_bins(name: str, column: Column, *, masked: bool = False) -> Bins:
    """Return at most 64 quantile cells, or one cell per value where a column has few.

    A value that holds a whole cell's share of the rows (the zeros of a spend column) gets a cell of its
    own. Of a masked column only quantiles with at least five rows between them are kept, no extremes.
    """
    finite = np.sort(read_numbers(column).finite)
    if not len(finite):
        return Bins(name, "numeric", masked=masked, complete=False)
    distinct, times = np.unique(finite, return_counts=True)
    center, scale = _moments(finite)
    if not masked and len(distinct) <= MAX_BINS and 4 * len(distinct) <= max(len(finite), 4):
        once, twice = int((times == 1).sum()), int((times == 2).sum())
        values = tuple(distinct.tolist())
        edges = _around(distinct)
        return Bins(name, "numeric", edges, values, center=center, scale=scale, singles=once, doubles=twice)
    parts = min(MAX_BINS, len(finite) // 5 if masked else len(finite))
    ranks = (np.arange(1, parts) * len(finite)) // parts if parts > 1 else np.array([], dtype=np.int64)
    cuts = np.unique(finite[np.maximum(ranks - 1, 0)])
    heavy = distinct[times * MAX_BINS >= len(finite)] if not masked and parts == MAX_BINS else cuts[:0]
    edges = tuple(np.union1d(cuts, _around(heavy)).tolist()) if len(heavy) else tuple(cuts.tolist())
    if masked:
        return Bins(name, "numeric", edges, center=center, scale=scale, complete=False, masked=True)
    singles = int(times[0] == 1) + int(times[-1] == 1)
    low, high = float(finite[0]), float(finite[-1])
    return Bins(name, "numeric", edges, (), low, high, center, scale, singles=singles)


def category_bins(name: str, column: Column, *, key: bytes | None = None) -> Bins:
    """Return one cell per category of the column, the most frequent 10,000 by name.

    With a key, categories are named by their keyed hash. Beyond 10,000 the column looks like an
    identifier: the rest shares the last cell, and unseen values can no longer be told apart.
    """
    read = read_labels(column)
    names = [mask(name, label, key) if key else label for label in read.labels]
    ordered = sorted(zip(read.counts.tolist(), names, strict=True), key=lambda pair: (-pair[0], pair[1]))
    kept = tuple(label for _, label in ordered[:MAX_CATEGORIES])
    once, twice = (sum(1 for times, _ in ordered if times == often) for often in (1, 2))
    complete = 0 < len(ordered) <= MAX_CATEGORIES
    return Bins(
        name,
        "categorical",
        categories=kept,
        complete=complete,
        masked=key is not None,
        singles=once,
        doubles=twice,
    )


def count(bins: Bins, column: Column, *, key: bytes | None = None) -> Counts:
    """Return what the cells hold of this column; the column is not changed."""
    return _count_numbers(bins, column) if bins.kind == "numeric" else _count_labels(bins, column, key)


def count_absent(bins: Bins, rows: int) -> Counts:
    """Return the counts of a column that the rows do not have: every cell of it is null."""
    sums = (0,) * bins.cells if bins.kind == "numeric" else ()
    return Counts(rows, rows, 0, 0, 0, (0,) * bins.cells, sums)


def cell_of(bins: Bins, column: Column, *, key: bytes | None = None) -> Codes:
    """Return the cell of every usable row, in the order of the rows."""
    if bins.kind == "numeric":
        finite = read_numbers(column).finite
        return np.searchsorted(bins.edges, finite, side="left").astype(np.int64)
    read = read_labels(column)
    places: Codes = _cells_of_labels(bins, read.labels, key)[read.codes[read.codes >= 0]]
    return places


def mask(name: str, label: str, key: bytes) -> str:
    """Return the keyed hash that stands for a sensitive category at rest."""
    text = f"{name}\0{label}".encode("utf-8", "surrogatepass")
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:16]


def counts_of_numbers(bins: Bins, values: Floats, nulls: int) -> Counts:
    """Return the counts of a numeric feature; `nulls` of the NaN are nulls, the others unreadable."""
    held = fast.count_floats(bins, values)
    unseen = held.beyond
    if bins.values:
        known = np.searchsorted(bins.edges, bins.values, side="left")
        unseen = int(held.cells.sum() - held.cells[known].sum())
    cells, sums = tuple(held.cells.tolist()), tuple(held.sums.tolist())
    return Counts(len(values), nulls, held.infinite, held.nans - nulls, unseen, cells, sums)


def counts_of_labels(
    bins: Bins,
    labels: tuple[str, ...],
    times: Codes,
    *,
    rows: int,
    nulls: int,
    key: bytes | None,
) -> Counts:
    """Return the counts of a categorical feature: each label so many `times`, what is missing unreadable."""
    cells = np.zeros(bins.cells, dtype=np.int64)
    np.add.at(cells, _cells_of_labels(bins, labels, key), times)
    unseen = int(cells[-1]) if bins.complete else 0
    return Counts(rows, nulls, 0, rows - nulls - int(times.sum()), unseen, tuple(cells.tolist()))


def _count_numbers(bins: Bins, column: Column) -> Counts:
    values, nulls = read_floats(column)
    return counts_of_numbers(bins, values, nulls)


def _count_labels(bins: Bins, column: Column, key: bytes | None) -> Counts:
    read = read_labels(column)
    return counts_of_labels(bins, read.labels, read.counts, rows=read.rows, nulls=read.nulls, key=key)


def _cells_of_labels(bins: Bins, labels: tuple[str, ...], key: bytes | None) -> Codes:
    place = _places(bins.categories)

    def cell(label: str) -> int | None:
        return place.get(mask(bins.name, label, key) if key and bins.masked else label)

    # What one database gives as 0 and 1, another gives as False and True.
    known = ((cell(label), cell(_SAME[label]) if label in _SAME else None) for label in labels)
    cells = [first if first is not None else second for first, second in known]
    return np.array([len(place) if at is None else at for at in cells], dtype=np.int64)


@lru_cache(maxsize=256)  # made once, not once per batch
def _places(categories: tuple[str, ...]) -> dict[str, int]:
    return {label: i for i, label in enumerate(categories)}


def _around(values: Floats) -> tuple[float, ...]:
    """Edges that give each value a cell of its own: one just below it, and itself."""
    with np.errstate(over="ignore", under="ignore"):
        edges = np.union1d(np.nextafter(values, -np.inf), values)
    return tuple(edges[np.isfinite(edges)].tolist())


def _moments(finite: Floats) -> tuple[float, float]:
    # Divided by the largest first: the squares of 1e200 are no floats.
    largest = float(np.abs(finite).max())
    if largest == 0 or finite[0] == finite[-1]:
        return float(finite[0]), 0.0
    scaled = finite / largest
    center, scale = float(scaled.mean() * largest), float(scaled.std() * largest)
    return center, scale if np.isfinite(scale) and scale > 0 else 0.0
