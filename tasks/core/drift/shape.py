"""How a feature that moved was distributed before, beside how it is now: what a person looks at first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.measures.base import GROUPS

if TYPE_CHECKING:
    from tasks.core.drift.profile import Profile, Reference
    from tasks.core.drift.verdict import DriftVerdict, FeatureVerdict, MeasureResult

MOST = 4  # features that are drawn; our choice: one screen
_LONGEST = 24
_KEPT = 8  # categories that keep a bar of their own
_RANK = {"drift": 0, "warn": 1, "undecided": 2, "ok": 3}
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Shares of the rows, from 0 to 1, that each label held in the reference and holds now; each sums to 1.

    Labels are ranges of a number or categories, then what is missing, unreadable or was not seen before. A
    sensitive feature's ranges and categories are only numbered: by size, and by frequency in the reference.
    """

    feature: str
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


def shapes_of(reference: Reference, profile: Profile, verdict: DriftVerdict) -> tuple[Shape, ...]:
    """Return the shapes of the features that moved most, at most four; none where nothing did."""
    bins = {cell.name: cell for cell in reference.bins}
    moved = [one.feature for one in worst_first(verdict) if one.outcome in {"drift", "warn"}]
    return tuple(
        shape_of(bins[name], reference.profile.features[name], profile.features[name])
        for name in moved[:MOST]
    )


def worst_first(verdict: DriftVerdict) -> list[FeatureVerdict]:
    """Return the features as a person should read them: the loudest verdict first, then the furthest out."""
    return sorted(verdict.features, key=lambda one: (_RANK[one.outcome], -_excess(one), one.feature))


def loudest(feature: FeatureVerdict) -> MeasureResult | None:
    """Return the measure behind the feature's verdict that is furthest beyond its limit; None without any."""
    fitting = [one for one in feature.measures if one.outcome == feature.outcome and one.value is not None]
    return max(fitting, key=excess, default=None)


def excess(result: MeasureResult) -> float:
    """Return the effect as a multiple of the size from which it is drift; 0 where it could not be told."""
    return (result.value or 0.0) / result.threshold if result.threshold else 0.0


def shape_of(bins: Bins, reference: Counts, current: Counts) -> Shape:
    """Return the feature's shape in rows counted in the same cells.

    Example:
        >>> cells = Bins("plan", "categorical", categories=("basic", "pro"))
        >>> shape = shape_of(cells, Counts(4, 0, 0, 0, 0, (3, 1, 0)), Counts(4, 2, 0, 0, 0, (1, 1, 0)))
        >>> list(zip(shape.labels, shape.reference, shape.current))
        [('basic', 0.75, 0.25), ('pro', 0.25, 0.25), ('missing', 0.0, 0.5)]
    """
    both = np.array([reference.cells, current.cells], dtype=np.float64)
    rows = list(_numbers(bins, both) if bins.kind == "numeric" else _categories(bins, both))
    rows.append(("missing", np.array([reference.nulls, current.nulls], dtype=np.float64)))
    broken = [side.unreadable + side.infinite for side in (reference, current)]
    rows.append(("unreadable", np.array(broken, dtype=np.float64)))
    shown = [(label, counts) for label, counts in rows if counts.any()]
    table = np.array([counts for _, counts in shown]).reshape(-1, 2).T
    parts = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    labels = tuple(label for label, _ in shown)
    return Shape(bins.name, labels, tuple(parts[0].tolist()), tuple(parts[1].tolist()))


def _excess(feature: FeatureVerdict) -> float:
    result = loudest(feature)
    return excess(result) if result else 0.0


def _numbers(bins: Bins, both: Table) -> Iterator[tuple[str, Table]]:
    """Yield neighbouring cells as at most ten groups of like reference share, each with its range."""
    if 0 < len(bins.values) <= GROUPS:
        yield from _values(bins, both)
        return
    n = both[0].sum()
    middle = np.cumsum(both[0]) - both[0] / 2
    group = np.minimum((middle * GROUPS / n).astype(np.int64), GROUPS - 1) if n else np.zeros(bins.cells, int)
    for place in np.unique(group):
        cells = np.flatnonzero(group == place)
        label = f"part {place + 1}" if bins.masked else _range(bins, int(cells[0]), int(cells[-1]))
        yield label, both[:, cells].sum(axis=1)


def _values(bins: Bins, both: Table) -> Iterator[tuple[str, Table]]:
    """Yield each value of a number that has few, then all that lie between and beyond them."""
    own = np.searchsorted(bins.edges, bins.values, side="left")
    for value, cell in zip(bins.values, own.tolist(), strict=True):
        yield _short(value), both[:, cell]
    yield "other values", both.sum(axis=1) - both[:, own].sum(axis=1)


def _range(bins: Bins, first: int, last: int) -> str:
    low = _short(bins.edges[first - 1]) if first else ""
    high = _short(bins.edges[last]) if last < len(bins.edges) else ""
    if not low and not high:
        return "any value"
    if low == high:
        return low
    return f"{low} – {high}" if low and high else f"up to {high}" if high else f"above {low}"


def _categories(bins: Bins, both: Table) -> Iterator[tuple[str, Table]]:
    """Yield the categories that hold most of either side, the rest as one, then what was never seen."""
    known = both[:, :-1]
    held = (known / np.maximum(both.sum(axis=1, keepdims=True), 1)).max(axis=0)
    kept = sorted(np.argsort(-held, kind="stable")[:_KEPT].tolist())
    for place in kept:
        label = f"category {place + 1}" if bins.masked else _cut(bins.categories[place])
        yield label, known[:, place]
    rest = known.sum(axis=1) - known[:, kept].sum(axis=1)
    if bins.complete:
        yield "other known", rest
        yield "not seen before", both[:, -1]
    else:
        yield "all others", rest + both[:, -1]


def _short(value: float) -> str:
    return f"{value:.4g}"


def _cut(label: str) -> str:
    clean = "".join(sign if sign.isprintable() else "?" for sign in label) or "(empty)"
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"
