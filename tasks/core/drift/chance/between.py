"""How much the blocks of a history differ from each other, per feature and aspect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.chance.groups import EXPECTED, GROUPS, numeric_places
from tasks.core.drift.chance.leave_out import left_out
from tasks.core.drift.measures.base import Aspect
from tasks.core.drift.measures.wasserstein import distance

if TYPE_CHECKING:
    from tasks.core.drift.counting.bins import Bins
    from tasks.core.drift.past.history import History
    from tasks.core.drift.profile import Reference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST = 3  # blocks beyond the slots they are compared in; our choice: with fewer no variance can be told
# Our choice, to err on the side of applying a factor: where the features together show more than chance at
# the first level, each one is taken at its word at the second; where they do not, rows are independent.
ANY, EACH = 0.1, 0.3


@dataclass(frozen=True)
class _Found:
    dispersion: Dispersion
    p_value: float  # of there being none


def dispersions(
    reference: Reference, history: History, slots: Ints | None = None
) -> dict[str, dict[Aspect, Dispersion]]:
    """Return the dispersions larger than 1 beyond chance, by feature and aspect; no entry means independent.

    Args:
        reference: Whose history it is.
        history: Its blocks, each as long as a check's window.
        slots: Of each block, its place in the calendar: then blocks are compared within their slot only.
    """
    slots = np.zeros(len(history), dtype=np.int64) if slots is None else slots
    found: dict[str, dict[Aspect, _Found]] = {}
    for bins in reference.bins:
        if bins.name in history.features:
            found[bins.name] = _of_feature(bins, history, slots)
    tests = sorted(one.p_value for row in found.values() for one in row.values())
    if not any(p <= ANY * (place + 1) / len(tests) for place, p in enumerate(tests)):
        return {}
    kept = {
        name: {aspect: one.dispersion for aspect, one in row.items() if one.p_value <= EACH}
        for name, row in found.items()
    }
    grown = _with_growth({name: row for name, row in kept.items() if row}, reference, history)
    for bins in reference.bins:
        if bins.name in grown:
            grown[bins.name] = _with_range(_with_apart(grown[bins.name], bins, history, slots))
    return grown


def _of_feature(bins: Bins, history: History, slots: Ints) -> dict[Aspect, _Found]:
    table = history.features[bins.name].astype(np.float64)
    cells = history.cells(bins.name).astype(np.float64)
    rows = table[:, 0]
    known: dict[Aspect, _Found | None] = {
        "distribution": _of_shares(_grouped(bins, cells), slots, ordered=bins.kind == "numeric"),
        "missing": _of_rate(table[:, 1], rows, slots),
        "invalid": _of_rate(table[:, 2] + table[:, 3], rows, slots),
        "unseen": _of_new(bins, cells),
    }
    return {aspect: one for aspect, one in known.items() if one is not None}


def _grouped(bins: Bins, cells: Floats) -> Floats:
    """Return the rows per block and group: groups as a window of the usual size would have them."""
    total = cells.sum(axis=0)
    usual = np.median(cells.sum(axis=1))
    if bins.kind == "numeric":
        place = numeric_places(total[None], np.array([usual]))[0]
        groups = np.zeros((GROUPS, len(cells)))
    else:
        own = np.flatnonzero(total * usual >= EXPECTED * max(total.sum(), 1))
        own = own[own < len(total) - 1]
        place = np.full(len(total), len(own), dtype=np.int64)
        place[own] = np.arange(len(own))
        groups = np.zeros((len(own) + 1, len(cells)))
    np.add.at(groups, place, cells.T)
    return groups.T


def _of_shares(groups: Floats, slots: Ints, *, ordered: bool) -> _Found | None:
    """Return how much more the blocks' shares differ than independent rows would."""
    rows = groups.sum(axis=1)
    expected, alone = _expected(groups, slots)
    kept = (rows >= max(EXPECTED, np.median(rows) / 4)) & (alone > 0)
    groups, expected, alone, rows, slots = (x[kept] for x in (groups, expected, alone, rows, slots))
    free = len(rows) - len(np.unique(slots))
    ways = int((expected.sum(axis=0) > 0).sum()) - 1
    if free < FEWEST or ways < 1:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(expected > 0, (groups - expected) / np.sqrt(expected * alone[:, None]), 0)
    per_block = (z**2).sum(axis=1)
    factor = float(per_block.mean() / ways)
    top = _top(groups, expected, alone) if ordered else 1.0
    p_value = float(special.chdtrc(free * ways, factor * free * ways))
    if ordered:
        p_value = 2 * min(p_value, ways * float(special.chdtrc(free, top * free)))
    spread, heavy = _spread(z, per_block, factor, ways)
    made = Dispersion(
        max(factor, 1.0),
        max(free / heavy, 1.0),
        len(rows),
        float(rows.mean()),
        spread=spread,
        top=max(top, factor, 1.0),
    )
    return _Found(made, p_value if max(factor, top) > 1 else 1.0)


def _expected(groups: Floats, slots: Ints) -> tuple[Floats, Floats]:
    """Return each block's expected rows by its slot's shares, and what share of the slot is not its own."""
    per_slot = np.zeros((int(slots.max(initial=0)) + 1, groups.shape[1]))
    np.add.at(per_slot, slots, groups)
    totals, rows = per_slot.sum(axis=1), groups.sum(axis=1)
    share = per_slot / np.maximum(totals, 1)[:, None]
    return share[slots] * rows[:, None], 1 - rows / np.maximum(totals, 1)[slots]


def _spread(z: Floats, per_block: Floats, factor: float, ways: int) -> tuple[float, float]:
    """Return by how much the most varying direction exceeds their mean, and how heavy the tails are.

    The first is the largest eigenvalue of the blocks' covariance over the mean one. Taking the whole variance
    for that of so many fewer directions, each as varying as that one, bounds the tail of the statistic.
    """
    values = np.linalg.eigvalsh(z.T @ z / len(z))
    largest = float(values[-1]) / max(factor, 1e-12)
    variance = float(per_block.var(ddof=1)) / 2
    heavy = variance / max((factor * ways) ** 2, 1e-12)  # 1 / directions, were the blocks normal
    return float(np.clip(largest, 1.0, ways)), max(heavy, 1.0)


def _top(groups: Floats, expected: Floats, alone: Floats) -> float:
    """Return the largest factor of a share of values up to some limit."""
    rows = groups.sum(axis=1, keepdims=True)
    seen, share = np.cumsum(groups, axis=1)[:, :-1], np.cumsum(expected, axis=1)[:, :-1] / rows
    variance = rows * share * (1 - share) * alone[:, None]
    sure = variance > 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.where(sure, (seen - rows * share) ** 2 / variance, 0)
    return float((squared.sum(axis=0) / np.maximum(sure.sum(axis=0), 1)).max(initial=0))


def _of_rate(found: Floats, rows: Floats, slots: Ints) -> _Found | None:
    """Return how much more the share of some rows differs between blocks than independent rows would."""
    both = np.stack([found, rows - found], axis=1)
    expected, alone = _expected(both, slots)
    variance = expected[:, 0] * expected[:, 1] / np.maximum(rows, 1) * alone
    kept = variance > 1e-9
    free = int(kept.sum()) - len(np.unique(slots[kept]))
    if free < FEWEST or found.sum() < 5:
        return None
    squared = (found - expected[:, 0])[kept] ** 2 / variance[kept]
    factor = float(squared.mean())
    # The variance of a squared standardised binomial is 2 + (1 - 6 p q) / (n p q).
    noise = float(2 * kept.sum() + np.maximum(1 / variance[kept] - 6 / rows[kept], -1).sum())
    freedom = 2 * float(kept.sum()) ** 2 / noise * free / float(kept.sum())
    heavy = max(float(squared.var(ddof=1)) / (2 * factor**2), 1.0) if factor > 0 else 1.0
    dof = max(free / heavy, 1.0)
    made = Dispersion(max(factor, 1.0), dof, int(kept.sum()), float(rows[kept].mean()), top=max(factor, 1.0))
    return _Found(made, float(special.chdtrc(freedom, factor * freedom)) if factor > 1 else 1.0)


def _of_new(bins: Bins, cells: Floats) -> _Found | None:
    """Return how many values one block alone showed, and how that differs between blocks.

    Independent rows would show one block alone about as many as the reference holds once.
    """
    if bins.kind == "numeric" and not bins.values:
        return None  # out of range: the cells cannot tell
    total, rows = cells.sum(axis=0), cells.sum(axis=1)
    here = np.where((cells == total) & (total > 0), cells, 0)
    if bins.kind == "categorical":
        here = here[:, :-1]
    alone, values = here.sum(axis=1), rows.sum()
    kept = rows > 0
    if kept.sum() - 1 < FEWEST or not alone.sum():
        return None
    times = total[total > 1]
    by_chance = float(bins.singles + (times * (1 / kept.sum()) ** (times - 1)).sum())
    more = float(special.pdtrc(max(alone.sum() - 1, 0), max(by_chance, 1e-9)))
    share = (alone.sum() + 1) / values
    squared = (alone[kept] - rows[kept] * share) ** 2 / (rows[kept] * share * max(1 - share, 1e-9))
    factor = float(squared.mean())
    heavy = max(float(squared.var(ddof=1)) / (2 * factor**2), 1.0) if factor > 0 else 1.0
    dof = max((kept.sum() - 1) / heavy, 1.0)
    made = Dispersion(
        max(factor, 1.0),
        dof,
        int(kept.sum()),
        float(rows[kept].mean()),
        top=max(factor, 1.0),
        expected=float(share),
    )
    return _Found(made, more)


def _with_apart(
    row: dict[Aspect, Dispersion], bins: Bins, history: History, slots: Ints
) -> dict[Aspect, Dispersion]:
    """Return the row with how far apart, in standard deviations, blocks of a numeric feature lie."""
    if bins.kind == "categorical" or "distribution" not in row or not bins.scale:
        return row
    many = left_out(bins, history, slots)
    if many.reference.sums is None or many.current.sums is None:
        return row
    cells = np.stack([many.reference.cells, many.current.cells], axis=1)
    sums = np.stack([many.reference.sums, many.current.sums], axis=1)
    there = (cells.sum(axis=2) > 0).all(axis=1)
    squared = distance(cells[there], sums[there]) ** 2
    if not squared.any():
        return row
    heavy = max(float(squared.var()) / (2 * float(squared.mean()) ** 2), 1.0)
    whole = row["distribution"]
    apart, dof = float(np.sqrt(squared.mean())), max(whole.dof / heavy, 1.0)
    return {**row, "distribution": replace(whole, apart=apart, apart_dof=dof)}


def _with_range(row: dict[Aspect, Dispersion]) -> dict[Aspect, Dispersion]:
    """Return the row with what is unseen as clustered as the values are, where nothing else is known."""
    if "distribution" not in row or "unseen" in row:
        return row
    whole = row["distribution"]
    return {**row, "unseen": replace(whole, factor=whole.top, spread=1.0)}


def _with_growth(
    found: Mapping[str, dict[Aspect, Dispersion]], reference: Reference, history: History
) -> dict[str, dict[Aspect, Dispersion]]:
    """Return the dispersions with how they grow with a window's rows.

    Blocks of time: a window with more rows is a busier one of the same length, and whatever its rows have in
    common they still have. Blocks of rows: a larger window is a longer one, and runs of blocks show by how
    much the factor grows.
    """
    growth = 1.0 if history.length is not None else _growth(found, reference, history)
    return {
        name: {aspect: replace(one, growth=growth) for aspect, one in row.items()}
        for name, row in found.items()
    }


def _growth(found: Mapping[str, dict[Aspect, Dispersion]], reference: Reference, history: History) -> float:
    run = len(history) // 10
    if run < 2:  # no run of blocks
        return 1.0
    first = np.arange(0, len(history) // run * run, run)
    slots = np.zeros(len(first), dtype=np.int64)
    grown = []
    for bins in reference.bins:
        before = found.get(bins.name, {}).get("distribution")
        if before is None or before.top < 1.5:  # too little to tell growth from chance
            continue
        cells = np.add.reduceat(history.cells(bins.name)[: first[-1] + run], first, axis=0)
        after = _of_shares(_grouped(bins, cells.astype(np.float64)), slots, ordered=bins.kind == "numeric")
        if after is not None:
            ratio = max(after.dispersion.top - 1, 1e-3) / (before.top - 1)
            grown.append(math.log(ratio) / math.log(run))
    return float(np.clip(np.median(grown), 0.0, 1.0)) if grown else 0.5
