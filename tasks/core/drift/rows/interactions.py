"""Columns that tell two samples apart by how two features go together.

Trees find what differs in one column. A change that leaves every column as it was and only alters which
values meet which, they find among a few columns and hardly among twenty-five: no first split gains anything.
So the pairs whose tables differ most are looked for directly, and each becomes a column of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.values import Floats

Codes = NDArray[np.integer]  # type: ignore[type-arg]
Groups = NDArray[np.int64]
LOWEST = -2  # of the codes: an unreadable cell; -1 is a null
MOST_GROUPS = 8
ROWS_PER_PAIR_CELL = 12  # our choice: a pair's table then expects about this many rows of a sample per cell
SHRINK = 2.0  # rows that each cell of a pair's table is given as the margins expect them; our choice


@dataclass(frozen=True, eq=False)
class Interactions:
    """Pairs of columns, and how much likelier each pair of groups is in the second sample."""

    pairs: tuple[tuple[int, int], ...]
    groups_of: tuple[Groups, ...]  # per column: group of each code, from LOWEST on
    ratios: tuple[Floats, ...]  # per pair: log ratio of both samples' shares, [groups, groups]

    def columns(self, codes: Codes) -> Floats:
        """Return one column per pair for these rows: float64 [rows, pairs]."""
        made = np.empty((len(codes), len(self.pairs)))
        for place, (first, second) in enumerate(self.pairs):
            made[:, place] = self.ratios[place][self.group(codes, first), self.group(codes, second)]
        return made

    def group(self, codes: Codes, column: int) -> Groups:
        """Return the group of every row in one column; a code not learnt counts as the nearest learnt."""
        known = self.groups_of[column]
        return known[np.clip(codes[:, column].astype(np.int64) - LOWEST, 0, len(known) - 1)]


def learn_interactions(codes: Codes, is_current: NDArray[np.bool_], most: int) -> Interactions:
    """Return at most `most` pairs of columns whose joint tables differ, beyond chance, between two samples.

    Values are pooled into at most eight groups of like share per column; what a table shows beyond its own
    margins is compared between the samples by a chi-square and by its linear trend, and the pair's more
    telling one counts. Learn on other rows than those judged: the ratios fit these rows too well.

    Args:
        codes: Whole numbers from -2 on, [rows, columns], of both samples.
        is_current: Which rows are of the second sample.
        most: Pairs to return; fewer with few columns.
    """
    n = int(min(is_current.sum(), (~is_current).sum()))
    width = int(np.clip(np.sqrt(n / ROWS_PER_PAIR_CELL), 3, MOST_GROUPS))
    groups_of = tuple(_grouping(codes[:, place], width) for place in range(codes.shape[1]))
    shell = Interactions((), groups_of, ())
    grouped = np.array([shell.group(codes, place) for place in range(codes.shape[1])]).T
    pairs = _most_changed(grouped, is_current, width)[:most]
    ratios = tuple(_log_ratio(grouped[:, list(pair)], is_current, width) for pair in pairs)
    return Interactions(tuple(pairs), groups_of, ratios)


def _grouping(column: Codes, width: int) -> Groups:
    """Pool neighbouring codes into groups of like share; codes of categories are in order of frequency."""
    times = np.bincount(column.astype(np.int64) - LOWEST)
    middle = (np.cumsum(times) - times / 2) / max(int(times.sum()), 1)
    group = np.minimum((middle * width).astype(np.int64), width - 1)
    used = np.unique(group[times > 0])
    return np.minimum(np.searchsorted(used, group), len(used) - 1)


def _most_changed(grouped: Groups, is_current: NDArray[np.bool_], width: int) -> list[tuple[int, int]]:
    columns = grouped.shape[1]
    sizes = [int((~is_current).sum()), int(is_current.sum())]
    tables = [_joint_shares(grouped[rows], width) for rows in (~is_current, is_current)]
    margins = [np.einsum("iaia->ia", table) for table in tables]
    beyond = [t - m[:, :, None, None] * m[None, None] for t, m in zip(tables, margins, strict=True)]
    change = beyond[1] - beyond[0]
    pooled = (sizes[0] * margins[0] + sizes[1] * margins[1]) / sum(sizes)
    noise = 1 / sizes[0] + 1 / sizes[1]
    expected = np.maximum(pooled[:, :, None, None] * pooled[None, None], 1e-12) * noise
    chi_square = (change**2 / expected).sum(axis=(1, 3))
    levels = (pooled > 0).sum(axis=1) - 1
    freedom = np.maximum(np.outer(levels, levels), 1)
    place = np.arange(width) - (pooled * np.arange(width)).sum(axis=1, keepdims=True)
    place = place / np.sqrt(np.maximum((pooled * place**2).sum(axis=1, keepdims=True), 1e-12))
    trend = np.einsum("iajb,ia,jb->ij", change, place, place) / np.sqrt(noise)
    # Wilson & Hilferty 1931: the cube root of a chi-square is all but normal, so both are z-scores.
    third = 2 / (9 * freedom)
    z = np.maximum((np.cbrt(chi_square / freedom) - 1 + third) / np.sqrt(third), np.abs(trend))
    first, second = np.triu_indices(columns, 1)
    found = z[first, second]
    order = np.argsort(-found, kind="stable")
    return [(int(first[i]), int(second[i])) for i in order if found[i] > _beyond_chance(len(order))]


def _beyond_chance(pairs: int) -> float:
    """Return the z-score that none of so many pairs reaches in 9 of 10 cases by chance (Bonferroni)."""
    from scipy.special import ndtri

    return float(-ndtri(0.1 / max(pairs, 1) / 3))  # three: a chi-square, and a trend of either sign


def _joint_shares(grouped: Groups, width: int) -> Floats:
    rows, columns = grouped.shape
    marks = np.zeros((rows, columns * width), dtype=np.float32)
    marks[np.arange(rows)[:, None], np.arange(columns) * width + grouped] = 1
    shares: Floats = (marks.T @ marks).astype(np.float64) / rows
    return shares.reshape(columns, width, columns, width)


def _log_ratio(pair: Groups, is_current: NDArray[np.bool_], width: int) -> Floats:
    cell = pair[:, 0] * width + pair[:, 1]
    counts = [np.bincount(cell[rows], minlength=width * width) for rows in (~is_current, is_current)]
    prior = sum(counts) / len(cell) * width * width
    filled = [
        (table + SHRINK * prior + 1e-9) / (table.sum() + SHRINK * width * width + 1e-9) for table in counts
    ]
    ratio: Floats = np.log(filled[1] / filled[0])
    return ratio.reshape(width, width)
