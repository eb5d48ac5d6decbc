"""How large a regression's error is to be expected on rows whose labels nobody knows yet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.sample import Sample, pick
from tasks.core.drift.matters.error_tree import ErrorTree, Sums
from tasks.core.drift.matters.expectation import Drawn

MOST_ROWS = 20_000


def estimate_errors(
    prediction: NDArray[Any],  # Any: integers and floats
    tree: ErrorTree,
    metric: str,
    *,
    sample: Sample | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Drawn:
    """Return what the metric comes to when the rows err as much as the holdout's did in the same leaves.

    At most 20,000 seeded rows are looked at.

    Args:
        prediction: One number per row, finite.
        tree: The holdout's.
        metric: One whose value follows from means over rows.
        sample: The same rows as cell numbers.
        draws: Resamples of holdout and window.
        seed: Of rows and draws.

    Raises:
        ValueError: when the tree asks for cells that are not given, or the metric is not such a mean.
    """
    chosen = pick(len(prediction), MOST_ROWS, seed)
    numbers = np.asarray(prediction, dtype=np.float64)[chosen]
    cells = None if sample is None else Sample(sample.names, sample.codes[chosen])
    sums, leaf, rows = Sums.of(metric, numbers, tree.centre), tree.leaf_of(numbers, cells), len(numbers)
    share, sure = np.bincount(leaf, minlength=tree.leaves) / rows, sums.sure.mean(axis=0)
    rng = np.random.default_rng(seed)
    spread = np.tensordot(share, tree.spreads, axes=1) / rows
    noise = rng.multivariate_normal(np.zeros(len(sure)), spread, size=draws)
    usual = float(tree.expected[1:].mean())
    changes, realised = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        line = 1 + draw % (len(tree.expected) - 1)
        times = np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float64)
        again = np.bincount(leaf, times, minlength=tree.leaves) / rows
        means = again @ tree.means[line] + times @ sums.sure / rows
        changes[draw] = sums.finish(means) - tree.expected[line]
        realised[draw] = sums.finish(share @ tree.means[line] + sure + noise[draw]) - usual
    change = sums.finish(share @ tree.means[0] + sure) - float(tree.expected[0])
    return Drawn(change, changes, realised, rows, tree.beyond(numbers))
