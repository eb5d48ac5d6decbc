"""Each block of a history as a window, with the other blocks as its reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.chance.many import Many, Side
from tasks.core.drift.counting.bins import Bins
from tasks.core.drift.measures.base import Aspect
from tasks.core.drift.past.history import HEAD

if TYPE_CHECKING:
    from tasks.core.drift.past.history import History

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def left_out(
    bins: Bins, history: History, slots: Ints, dispersions: Mapping[Aspect, Dispersion] | None = None
) -> Many:
    """Return every block of one feature beside the rest of its slot; a block alone in its slot has no rest.

    What was never seen before is told by all other blocks, whatever their slot. Of values out of range the
    cells cannot tell, so there is no such test.

    Args:
        bins: The feature's cells.
        history: Of the reference.
        slots: Of each block.
        dispersions: Of the feature, by aspect.
    """
    table = history.features[bins.name]
    cells = history.cells(bins.name)
    kept = cells.sum(axis=0) > 0
    kept[-1] |= bins.kind == "categorical" or not kept.any()
    whole = cells.sum(axis=0)
    categorical = bins.kind == "categorical"
    told = whole[:-1] if categorical else whole
    mine = cells[:, :-1] if categorical else cells
    tells = categorical or bool(bins.values)
    rest = told - mine
    unseen = np.where(rest == 0, mine, 0).sum(axis=1) if tells else np.zeros(len(cells))
    singles, doubles = ((rest == often).sum(axis=1) if tells else 0 * unseen for often in (1, 2))
    sums = table[:, HEAD + bins.cells :] if bins.kind == "numeric" else None
    return Many(
        bins,
        _side(
            _others(table, slots),
            _others(cells[:, kept], slots),
            np.zeros(len(cells)),
            None if sums is None else _others(sums[:, kept], slots),
        ),
        _side(table, cells[:, kept], unseen, None if sums is None else sums[:, kept]),
        singles.astype(np.float64),
        doubles.astype(np.float64),
        (whole.sum() - cells.sum(axis=1)).astype(np.float64),
        dispersions or {},
    )


def _side(table: Ints, cells: Ints, unseen: NDArray[np.generic], sums: Ints | None) -> Side:
    rows, nulls, infinite, unreadable = (table[:, place].astype(np.float64) for place in range(4))
    held = None if sums is None else sums.astype(np.float64)
    return Side(rows, nulls, infinite + unreadable, unseen.astype(np.float64), cells.astype(np.float64), held)


def _others(table: Ints, slots: Ints) -> Ints:
    """Return what all other blocks of each block's slot hold together."""
    whole = np.zeros((int(slots.max(initial=0)) + 1, table.shape[1]), dtype=np.int64)
    np.add.at(whole, slots, table)
    found: Ints = whole[slots] - table
    return found
