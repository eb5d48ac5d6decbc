"""What each numeric cell holds, counted without a search per value.

A search among 63 edges costs some 30 ns per value, several times what reading the value from Parquet costs.
Here a table gives the cell; whatever it cannot settle (a value close to an edge or far outside, NaN,
infinities) is set aside and searched for. The result is that of the search, to the last count.

Rows and distances are added up together, as one number per value: the distance in whole steps plus a far
larger constant. A sum of these is exact as long as it stays below 2**53, and splits into both again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.drift.counting.grid import REACH, STEP, Floats, Grid, Ints, grid_of

if TYPE_CHECKING:
    from tasks.core.drift.counting.bins import Bins

FARTHEST = 2.0**15  # deviations: values further out count as that far
CHUNK = 2**15  # values at a time: with what is made of them they stay in the processor's second cache
WORTH = 2**13  # fewer values are searched for sooner than a grid is made
_SEARCH = 2**20  # FARTHEST / STEP * _SEARCH stays below 2**53: a float64 sum of whole numbers is then exact
# What a row counts beside its steps: CHUNK values as far away as any in the table come to a quarter of it,
# so that rounding tells the rows, and CHUNK rows stay below 2**53.
_ROW = 4 * CHUNK * REACH / STEP


@dataclass(frozen=True, eq=False)
class Held:
    """What some values came to: per cell how many and how many steps from the mean, and what is no value."""

    cells: Ints
    sums: Ints
    beyond: int  # outside of the reference's lowest and highest value
    nans: int
    infinite: int

    def __add__(self, other: Held) -> Held:
        return Held(
            self.cells + other.cells,
            self.sums + other.sums,
            self.beyond + other.beyond,
            self.nans + other.nans,
            self.infinite + other.infinite,
        )


def count_floats(bins: Bins, values: Floats) -> Held:
    """Return what the cells of a numeric feature hold of these values; NaN and infinities are told apart.

    Equal to `search`, whatever the values and edges are.
    """
    grid = grid_of(bins) if len(values) >= WORTH else None
    if grid is None:
        return search(bins, values)
    held, rest = _count_by_grid(bins, grid, values)
    return held + search(bins, rest)


def search(bins: Bins, values: Floats) -> Held:
    """Return the same as `count_floats` by a search per value."""
    cells, sums = np.zeros(bins.cells, dtype=np.int64), np.zeros(bins.cells, dtype=np.int64)
    beyond = nans = infinite = 0
    for begin in range(0, len(values), _SEARCH):
        part = values[begin : begin + _SEARCH]
        finite = np.isfinite(part)
        if not finite.all():
            nan = int(np.isnan(part).sum())
            nans, infinite = nans + nan, infinite + len(part) - int(finite.sum()) - nan
            part = part[finite]
        places = np.searchsorted(bins.edges, part, side="left")
        cells += np.bincount(places, minlength=bins.cells)
        sums += np.bincount(places, steps_of(bins, part), minlength=bins.cells).astype(np.int64)
        if bins.low is not None and bins.high is not None:
            beyond += int(np.count_nonzero(part < bins.low) + np.count_nonzero(part > bins.high))
    return Held(cells, sums, beyond, nans, infinite)


def steps_of(bins: Bins, values: Floats) -> Floats:
    """Return how far each finite value lies from the reference's mean, in whole steps."""
    with np.errstate(over="ignore"):
        distance = (values - bins.center) / (bins.scale or 1.0)
    steps: Floats = np.rint(np.clip(distance, -FARTHEST, FARTHEST) / STEP)
    return steps


class _Room:
    """Memory for one chunk's numbers."""

    def __init__(self) -> None:
        self.work = np.empty(CHUNK)
        self.narrow = np.empty(CHUNK, dtype=np.int32)
        self.slot, self.cell = np.empty(CHUNK, dtype=np.int64), np.empty(CHUNK, dtype=np.int64)
        self.odd, self.same = np.empty(CHUNK, dtype=bool), np.empty(CHUNK, dtype=bool)

    def cut(self, size: int) -> _Room:
        """Return the same memory for a chunk of fewer values."""
        less = object.__new__(_Room)
        vars(less).update({name: memory[:size] for name, memory in vars(self).items()})
        return less


# Rooms that nobody uses just now. Taking new memory for every column would cost as much as the counting; a
# list hands each of its items to one thread only.
_free: list[_Room] = []


@contextmanager
def _room() -> Iterator[_Room]:
    try:
        room = _free.pop()
    except IndexError:
        room = _Room()
    yield room
    _free.append(room)


def _count_by_grid(bins: Bins, grid: Grid, values: Floats) -> tuple[Held, Floats]:
    """Return what the grid could count, and the values that it could not."""
    times = np.zeros(len(grid.own), dtype=np.int64)
    totals, rest = [np.zeros(bins.cells)], []
    # NaN and infinities go to the rest.
    with _room() as whole, np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, len(values), CHUNK):
            part = values[begin : begin + CHUNK]
            room = whole if len(part) == CHUNK else whole.cut(len(part))
            _find_cells(grid, part, room)
            for place, value in enumerate(grid.own):
                np.equal(part, value, out=room.same)
                times[place] += np.count_nonzero(room.same)
                np.logical_xor(room.odd, room.same, out=room.odd)
            places = room.odd.nonzero()[0]
            rest.append(part[places])
            if len(grid.cells):
                if grid.only is not None:
                    room.cell[places] = grid.unsure
                totals.append(_packed(bins, part, room))
    return _unpacked(bins, grid, np.array(totals), times), np.concatenate(rest)


def _find_cells(grid: Grid, part: Floats, room: _Room) -> None:
    """Write each value's cell, and whether the grid cannot tell it."""
    if not len(grid.cells):
        room.odd[:] = True
        return
    grid.places(part, room.work)
    np.copyto(room.narrow, room.work, casting="unsafe")  # what does not fit becomes 0 or an end of int32:
    np.copyto(room.slot, room.narrow)
    grid.cells.take(room.slot, out=room.cell, mode="clip")  # all of which lead to an outermost slot
    if grid.only is None:
        np.equal(room.cell, grid.unsure, out=room.odd)
    else:
        grid.only.take(room.slot, out=room.work, mode="clip")
        np.not_equal(room.work, part, out=room.odd)


def _packed(bins: Bins, part: Floats, room: _Room) -> Floats:
    """Return per cell _ROW for each row, plus its steps; what has no sure cell is left out."""
    np.subtract(part, bins.center, out=room.work)
    np.divide(room.work, (bins.scale or 1.0) * STEP, out=room.work)
    np.rint(room.work, out=room.work)
    np.add(room.work, _ROW, out=room.work)
    sums: Floats = np.bincount(room.cell, room.work, minlength=bins.cells + 1)[: bins.cells]  # type: ignore[assignment]
    return sums


def _unpacked(bins: Bins, grid: Grid, totals: Floats, times: Ints) -> Held:
    rows = np.rint(totals / _ROW)
    sums = (totals - rows * _ROW).astype(np.int64).sum(axis=0)
    cells = rows.astype(np.int64).sum(axis=0)
    own = np.array(grid.own)
    places = np.searchsorted(bins.edges, own, side="left")
    cells[places] += times
    sums[places] += times * steps_of(bins, own).astype(np.int64)
    return Held(cells, sums, 0, 0, 0)
