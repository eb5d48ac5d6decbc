"""Where a regression errs, and by how much: a small tree over prediction and cells, as plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.regression_scoring import moments

if TYPE_CHECKING:
    from tasks.core.drift.counting.sample import Sample

Floats = NDArray[np.float64]
Finish = Callable[[Floats], float]

LEAVES = 32
LEAST_IN_LEAF = 40  # our choice: a mean error of fewer rows says little
CROWD = 5
MAPS = 25
SLACK = 0.02  # of the range of predictions, as for scores
_MOST_NODES = 2 * LEAVES
_MOST_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class ErrorTree:
    """Means of what the metric sums up, per leaf of a tree that asks for the prediction and for cells.

    What would be summed up if every prediction were right is left out of the means: rows tell it themselves.

    Attributes:
        names: Features whose cells are asked for.
        feature: Per node, 0 for the prediction, i for the i-th name, -1 in a leaf.
        threshold: Per node; up to it, go left.
        children: Per node, left and right; in a leaf the number of the leaf, twice.
        means: Lines by leaves by columns: the first line from the holdout, each other from a resample of it.
        spreads: Leaves by columns by columns: covariances of the columns within a leaf.
        expected: What the metric is on the holdout by each line, resampled alike.
        centre: What `moments` takes off the truth.
        low: Smallest prediction of the holdout.
        high: Largest.
    """

    names: tuple[str, ...]
    feature: NDArray[np.int64]
    threshold: Floats
    children: NDArray[np.int64]
    means: Floats
    spreads: Floats
    expected: Floats
    centre: float
    low: float
    high: float

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        return int(self.means.shape[1])

    def leaf_of(self, prediction: Floats, sample: Sample | None = None) -> NDArray[np.int64]:
        """Return the leaf that each row falls into.

        Args:
            prediction: One number per row.
            sample: The same rows as cell numbers; needed where the tree asks for cells.

        Raises:
            ValueError: when a feature that the tree asks for is not in the sample.
        """
        table = _table(prediction, sample, self.names)
        node = np.zeros(len(table), dtype=np.int64)
        rows = np.arange(len(table))
        for _ in range(len(self.feature)):
            asked = self.feature[node]
            if (asked < 0).all():
                break
            right = table[rows, np.maximum(asked, 0)] > self.threshold[node]
            node = np.where(asked < 0, node, self.children[node, right.astype(np.int64)])
        leaf: NDArray[np.int64] = self.children[node, 0]
        return leaf

    def beyond(self, prediction: Floats) -> float:
        """Return the share of rows predicted beyond what the holdout's rows were, from 0 to 1."""
        slack = SLACK * (self.high - self.low)
        outside = (prediction < self.low - slack) | (prediction > self.high + slack)
        return float(outside.mean()) if len(outside) else 0.0

    def to_plain(self) -> dict[str, Any]:  # Any: JSON values
        """Return the tree as JSON values."""
        arrays = ("feature", "threshold", "children", "means", "spreads", "expected")
        plain = {name: getattr(self, name).tolist() for name in arrays}
        single = {"centre": self.centre, "low": self.low, "high": self.high}
        return {"kind": "error_tree", "names": list(self.names), **single, **plain}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> ErrorTree:  # Any: JSON values
        """Return the tree that `to_plain` wrote.

        Raises:
            ValueError: when it is something else, too large, or no tree.
        """
        tree = cls(
            names=tuple(str(name) for name in raw["names"]),
            feature=np.asarray(raw["feature"], dtype=np.int64),
            threshold=np.asarray(raw["threshold"], dtype=np.float64),
            children=np.asarray(raw["children"], dtype=np.int64),
            means=np.asarray(raw["means"], dtype=np.float64),
            spreads=np.asarray(raw["spreads"], dtype=np.float64),
            expected=np.asarray(raw["expected"], dtype=np.float64),
            centre=float(raw["centre"]),
            low=float(raw["low"]),
            high=float(raw["high"]),
        )
        _check(tree)
        return tree


def fit_tree(
    prediction: Floats,
    truth: Floats,
    metric: str,
    *,
    sample: Sample | None = None,
    seed: int,
    maps: int = MAPS,
) -> ErrorTree:
    """Return the tree of these rows.

    One half of the rows chooses the questions, the other gives the means: a question that only chance
    suggested then does no harm.

    Args:
        prediction: One number per row.
        truth: The label of each row.
        metric: One whose value follows from means over rows.
        sample: The same rows as cell numbers; None for a tree over the prediction alone.
        seed: Of the halves and the resamples.
        maps: How many resamples.

    Raises:
        ValueError: when the metric is not such a mean, or has no value on some of the rows.

    Source: honest trees: Athey & Imbens, Recursive partitioning for heterogeneous causal effects, 2016; the
    use for losses as in NannyML's direct loss estimation.
    """
    from sklearn.tree import DecisionTreeRegressor

    centre = float(truth.mean())
    sums = Sums.of(metric, prediction, centre, truth)
    names = sample.names if sample is not None else ()
    table = _table(prediction, sample, names)
    rng = np.random.default_rng(seed)
    first = np.zeros(len(table), dtype=bool)
    first[rng.permutation(len(table))[: len(table) // 2]] = True
    scale = sums.error[first].std(axis=0)
    least = max(LEAST_IN_LEAF, int(first.sum()) // LEAVES)
    grown = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=least, random_state=seed)
    grown.fit(table[first], sums.error[first] / np.where(scale > 0, scale, 1.0))
    feature, threshold, children, number = _plain_nodes(grown.tree_)
    leaf = number[grown.apply(table[~first])]
    means, spreads, expected = _leaf_means(leaf, int(number.max()) + 1, sums.part(~first), rng, maps)
    return ErrorTree(
        names=names,
        feature=feature,
        threshold=threshold,
        children=children,
        means=means,
        spreads=spreads,
        expected=expected,
        centre=centre,
        low=float(prediction.min()),
        high=float(prediction.max()),
    )


@dataclass(frozen=True, eq=False)
class Sums:
    """What a metric takes the means of: `sure` as if every prediction were right, and the `error` beside it.

    Both are rows by columns; `finish` goes from the means of their sum to the metric.
    """

    sure: Floats
    error: Floats
    finish: Finish

    @classmethod
    def of(cls, metric: str, prediction: Floats, centre: float, truth: Floats | None = None) -> Sums:
        """Return the sums of these rows; without truth the error is not known and taken for 0.

        Raises:
            ValueError: when the metric is not a mean over rows, or has no value on some of them.
        """
        sure = moments(prediction, prediction, metric, centre=centre)
        whole = sure if truth is None else moments(truth, prediction, metric, centre=centre)
        if sure is None or whole is None:
            raise ValueError(f"{metric} is not a mean over rows, and cannot be estimated")
        if not (np.isfinite(sure[0]).all() and np.isfinite(whole[0]).all()):
            raise ValueError(f"{metric} has no value on some of the rows")
        return cls(sure[0], whole[0] - sure[0], sure[1])

    def part(self, rows: NDArray[np.bool_]) -> Sums:
        """Return the sums of some of the rows."""
        return Sums(self.sure[rows], self.error[rows], self.finish)


def _table(prediction: Floats, sample: Sample | None, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return prediction and cells side by side, in the precision that scikit-learn's trees compare in."""
    has = sample.names if sample is not None else ()
    missing = [name for name in names if name not in has]
    if missing:
        raise ValueError(f"rows without the cells of {missing[:3]}")
    most = np.finfo(np.float32).max
    parts = [np.clip(prediction, -most, most)[:, None]]
    if sample is not None and names:
        parts.append(sample.codes[:, [has.index(name) for name in names]].astype(np.float64))
    return np.hstack(parts).astype(np.float32)


def _plain_nodes(
    tree: Any,  # Any: scikit-learn's own, untyped
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], NDArray[np.int64]]:
    is_leaf = tree.children_left < 0
    number = np.cumsum(is_leaf) - 1
    children = np.column_stack([tree.children_left, tree.children_right]).astype(np.int64)
    children[is_leaf] = number[is_leaf][:, None]
    feature = np.where(is_leaf, -1, tree.feature).astype(np.int64)
    return feature, np.where(is_leaf, 0.0, tree.threshold), children, number.astype(np.int64)


def _leaf_means(
    leaf: NDArray[np.int64], leaves: int, sums: Sums, rng: np.random.Generator, maps: int
) -> tuple[Floats, Floats, Floats]:
    """Return means, spreads and expected as `ErrorTree` holds them."""
    rows, width = sums.error.shape
    means, expected = np.empty((1 + maps, leaves, width)), np.empty(1 + maps)
    for line in range(1 + maps):
        drawn = rng.integers(0, rows, rows) if line else np.arange(rows)
        times = np.bincount(drawn, minlength=rows).astype(np.float64)
        total = np.bincount(leaf, times, minlength=leaves)
        each = [np.bincount(leaf, times * column, minlength=leaves) for column in sums.error.T]
        overall = times @ sums.error / rows
        # A leaf that hardly a row of this half fell into has the mean of all, and tells of no row.
        known = np.stack(each, axis=1) / np.maximum(total, 1)[:, None]
        means[line] = np.where(total[:, None] >= CROWD, known, overall)
        expected[line] = sums.finish(overall + times @ sums.sure / rows)
    spreads = np.zeros((leaves, width, width))
    for place in range(leaves):
        inside = sums.error[leaf == place]
        several = inside if len(inside) >= CROWD else sums.error
        spreads[place] = np.cov(several, rowvar=False).reshape(width, width)
    return means, spreads, expected


def _check(tree: ErrorTree) -> None:
    """Raise ValueError where these arrays are no tree of ours: every way down must end in a leaf."""
    nodes = len(tree.feature)
    if not 1 <= nodes < _MOST_NODES or tree.threshold.shape != (nodes,) or tree.children.shape != (nodes, 2):
        raise ValueError("nodes that do not belong together")
    lines, leaves, width = tree.means.shape
    if lines < 2 or lines > 1000 or not 1 <= leaves <= LEAVES or not 1 <= width <= _MOST_COLUMNS:
        raise ValueError("means of another size")
    if tree.spreads.shape != (leaves, width, width) or tree.expected.shape != (lines,):
        raise ValueError("means and spreads do not belong together")
    numbers = (
        tree.threshold,
        tree.means,
        tree.spreads,
        tree.expected,
        np.array([tree.centre, tree.low, tree.high]),
    )
    if not all(np.isfinite(part).all() for part in numbers):
        raise ValueError("numbers that are not finite")
    inner = tree.feature >= 0
    down = tree.children[inner]
    if (down <= np.flatnonzero(inner)[:, None]).any() or (down >= nodes).any():
        raise ValueError("nodes that lead nowhere")
    ends = tree.children[~inner]
    if (ends < 0).any() or (ends >= leaves).any() or tree.feature.max() > len(tree.names):
        raise ValueError("leaves or features that are not there")
