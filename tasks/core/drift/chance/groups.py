"""Cells pooled into groups that are large enough to compare, for one pair of samples or for many at once.

Tables are float64 [..., 2, groups], the reference's row first. A group that is empty in both rows counts for
nothing, so that pairs with different numbers of groups fit into one table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]
Places = NDArray[np.int64]

GROUPS = 10  # as many as the usual thresholds of PSI were made for
# Rows a group should lead one to expect in the smaller sample. Our choice: with 5, the usual rule, and one
# small group the chi-square test rejects twice as often as it says at levels of 1e-4, where a level shared
# among a hundred tests lies; with 10 at most 1.4 times as often.
EXPECTED = 10.0


def numeric_groups(both: Table) -> Table:
    """Return neighbouring cells joined into at most ten groups of like reference share, [..., 2, 10]."""
    lead, cells = both.shape[:-2], both.shape[-1]
    flat = both.reshape(-1, 2, cells)
    place = numeric_places(flat[:, 0], np.minimum(flat[:, 0].sum(axis=1), flat[:, 1].sum(axis=1)))
    at = place[:, None, :] + GROUPS * np.arange(2 * len(flat)).reshape(-1, 2, 1)
    found = np.bincount(at.ravel(), flat.ravel(), 2 * GROUPS * len(flat)).astype(np.float64)
    return found.reshape(*lead, 2, GROUPS)


def numeric_places(reference: Table, smaller: Table) -> Places:
    """Return the group of each cell, [pairs, cells], when the smaller sample has so many rows."""
    n = reference.sum(axis=1, keepdims=True)
    wanted = np.clip(smaller[:, None] // EXPECTED, 2, GROUPS)
    middle = np.cumsum(reference, axis=1) - reference / 2
    share = middle * wanted / np.maximum(n, 1)
    found: Places = np.minimum(share.astype(np.int64), wanted.astype(np.int64) - 1)
    return found


def category_groups(both: Table) -> Table:
    """Return categories as they are where frequent, the rest and the unseen as one last group.

    Frequent means by the share of *both* samples: picking the large ones of the reference alone would make
    every later window look different from it. [..., 2, cells + 1].
    """
    own = frequent(both)[..., None, :]
    rest = np.where(own, 0, both).sum(axis=-1, keepdims=True)
    return np.concatenate([np.where(own, both, 0), rest], axis=-1)


def frequent(both: Table) -> NDArray[np.bool_]:
    """Return which cells are large enough to be a group of their own, [..., cells]; never the last one."""
    totals = both.sum(axis=-1, keepdims=True)
    smaller, all_rows = totals.min(axis=-2), totals.sum(axis=-2)
    own: NDArray[np.bool_] = both.sum(axis=-2) / np.maximum(all_rows, 1) * smaller >= EXPECTED
    own[..., -1] = False
    return own


def without_empty(groups: Table) -> Table:
    """Return one pair's table without the groups that are empty in both rows."""
    return groups[:, groups.sum(axis=0) > 0]


def used(groups: Table) -> NDArray[np.int64]:
    """Return how many groups are not empty in both rows."""
    found: NDArray[np.int64] = (groups.sum(axis=-2) > 0).sum(axis=-1)
    return found


def large_enough(groups: Table) -> NDArray[np.bool_]:
    """Return whether every group is large enough for chi-square to hold far out in its tail."""
    totals = groups.sum(axis=-1, keepdims=True)
    both = groups.sum(axis=-2)
    expected = both * (totals.min(axis=-2) / np.maximum(totals.sum(axis=-2), 1))
    found: NDArray[np.bool_] = ((both == 0) | (expected >= EXPECTED)).all(axis=-1)
    return found
