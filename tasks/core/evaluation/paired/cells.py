"""Two models' labels on the same rows, resampled as counts of (truth, mine, theirs).

Rows of the same cell are the same to every metric of labels, and rows drawn with replacement fall into the
cells as a multinomial: one draw of a few counts is one bootstrap resample, exactly, however many rows there
are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
_MOST_COUNTS = 4_000_000  # held at once: resamples times cells
_FEW_CELLS = 100
_ROWS_PER_CELL = (
    16  # measured: of many cells with fewer rows each, drawing rows is cheaper than a multinomial
)


def resampled_labels(
    truth: Codes,
    said: tuple[Codes, Codes],
    *,
    count: int,
    metric: str,
    positive: int,
    seed: int,
    resamples: int,
) -> Floats:
    """Return the metric of both models on resampled rows: one line per resample, mine and theirs.

    Args:
        truth: True class of each row, 0 to `count` - 1; at least one row.
        said: What the two models said of the rows, the same way.
        count: How many classes there are.
        metric: A scikit-learn scorer of predicted labels.
        positive: The positive class, of a metric about one.
        seed: Seed of the draws.
        resamples: How many lines.
    """
    cells, place, sizes = np.unique(
        (truth * count + said[0]) * count + said[1], return_inverse=True, return_counts=True
    )
    real, mine, theirs = cells // count**2, cells // count % count, cells % count
    # Columns: hits of mine and of theirs, rows of each true class, rows said to be of it by mine and theirs.
    within = np.concatenate(
        [
            np.where(mine == real, real, -1),
            np.where(theirs == real, real + count, -1),
            *(real + 2 * count, mine + 3 * count, theirs + 4 * count),
        ]
    )
    lines = np.tile(np.arange(len(cells)), 5)
    used = within >= 0
    sums = sparse.csr_matrix(
        (np.ones(int(used.sum())), (lines[used], within[used])), shape=(len(cells), 5 * count)
    )
    rng, found = np.random.default_rng(seed), np.empty((resamples, 2))
    step = max(1, _MOST_COUNTS // len(cells))
    for start in range(0, resamples, step):
        lot = min(step, resamples - start)
        parts = np.split(_drawn(rng, place, sizes, lot) @ sums, 5, axis=1)
        for model in (0, 1):
            found[start : start + lot, model] = of_counts(
                parts[model], parts[2], parts[3 + model], metric, positive
            )
    return found


def _drawn(rng: np.random.Generator, place: Codes, sizes: Codes, lot: int) -> Floats:
    """Return `lot` resamples of the rows as counts of their cells."""
    rows = len(place)
    if len(sizes) <= max(_FEW_CELLS, rows // _ROWS_PER_CELL):
        return rng.multinomial(rows, sizes / rows, size=lot).astype(np.float64)
    drawn = np.empty((lot, len(sizes)))
    for line in range(lot):
        drawn[line] = np.bincount(place[rng.integers(0, rows, rows)], minlength=len(sizes))
    return drawn


def of_counts(hits: Floats, real: Floats, said: Floats, metric: str, positive: int) -> Floats:
    """Return the metric of many confusion matrices at once; NaN where it cannot be told.

    All three are matrices by classes: rows of a class that were said to be of it, rows of a class, rows said
    to be of it. The same numbers as `scoring.statistic`, which a test holds them against.
    """
    total = real.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "accuracy":
            return np.asarray(hits.sum(axis=1) / total)
        if metric == "balanced_accuracy":
            present = real > 0
            return np.asarray(np.where(present, hits / real, 0.0).sum(axis=1) / present.sum(axis=1))
        if metric == "matthews_corrcoef":
            return _matthews(hits, real, said, total)
        if metric.endswith("likelihood_ratio"):
            return _likelihood_ratio(hits[:, positive], real[:, positive], said[:, positive], total, metric)
        return _averaged(hits, real, said, metric, positive)


def _averaged(hits: Floats, real: Floats, said: Floats, metric: str, positive: int) -> Floats:
    name, _, average = metric.partition("_")
    if average == "micro":
        return _per_class(name, hits.sum(axis=1), real.sum(axis=1), said.sum(axis=1))
    each = _per_class(name, hits, real, said)
    if not average:
        there = real if name == "recall" else real + said
        return np.where(there[:, positive] == 0, np.nan, each[:, positive])
    weights = real if average == "weighted" else (real + said > 0).astype(np.float64)
    return np.asarray((each * weights).sum(axis=1) / weights.sum(axis=1))


def _per_class(name: str, hits: Floats, real: Floats, said: Floats) -> Floats:
    below = {"precision": said, "recall": real, "f1": (real + said) / 2, "jaccard": real + said - hits}[name]
    return np.divide(hits, below, out=np.zeros_like(hits), where=below > 0)


def _matthews(hits: Floats, real: Floats, said: Floats, total: Floats) -> Floats:
    spread_real, spread_said = total**2 - (real**2).sum(axis=1), total**2 - (said**2).sum(axis=1)
    value = (hits.sum(axis=1) * total - (real * said).sum(axis=1)) / np.sqrt(spread_real * spread_said)
    return np.where(spread_real == 0, np.nan, np.where(spread_said == 0, 0.0, value))


def _likelihood_ratio(hits: Floats, real: Floats, said: Floats, total: Floats, metric: str) -> Floats:
    caught, alarmed = hits / real, (said - hits) / (total - real)
    same = (caught == alarmed) & ((alarmed == 0) | (alarmed == 1))  # one answer to everything knows nothing
    if metric.startswith("positive"):
        return np.where(same, 1.0, np.where(alarmed > 0, caught / alarmed, np.nan))
    return np.where(same, -1.0, np.where(alarmed < 1, -(1 - caught) / (1 - alarmed), np.nan))
