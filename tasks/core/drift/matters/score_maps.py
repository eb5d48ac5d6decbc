"""How likely each class truly is at each score: isotonic maps of a holdout, as plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Valued = Callable[[Floats, Floats], float]  # from label probabilities and how often each row counts

KNOTS = 200
MAPS = 25
MOST_NUMBERS = 2_000_000
SLACK = 0.02  # of the range of scores; our choice: so far beyond its ends a map may still be read


@dataclass(frozen=True, eq=False)
class ScoreMaps:
    """Maps from a score to the probability of its class.

    Of two classes the second has a map; of more, each has one against the rest, and the values of a row are
    divided by their sum.

    Attributes:
        knots: Per mapped class, rising scores, at most 200.
        values: Per mapped class, probabilities at the knots: the first line from the whole holdout, each
            other from one resample of it.
        expected: What the metric is expected to be on the holdout by each line, resampled alike.
    """

    knots: tuple[Floats, ...]
    values: tuple[Floats, ...]
    expected: Floats

    @property
    def lines(self) -> int:
        """How many maps each class has."""
        return len(self.expected)

    def table(self, probabilities: Floats, line: int) -> Floats:
        """Return the probability of each class for each row, by this line of maps."""
        return _table(self.knots, [values[line] for values in self.values], probabilities)

    def beyond(self, probabilities: Floats) -> float:
        """Return the share of rows with a score where the holdout had none, from 0 to 1."""
        outside = np.zeros(len(probabilities), dtype=bool)
        for knots, scores in zip(self.knots, _mapped(probabilities), strict=True):
            slack = SLACK * float(knots[-1] - knots[0])
            outside |= (scores < knots[0] - slack) | (scores > knots[-1] + slack)
        return float(outside.mean()) if len(outside) else 0.0

    def to_plain(self) -> dict[str, Any]:  # Any: JSON values
        """Return the maps as JSON values."""
        return {
            "kind": "score_maps",
            "knots": [knots.tolist() for knots in self.knots],
            "values": [values.tolist() for values in self.values],
            "expected": self.expected.tolist(),
        }

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> ScoreMaps:  # Any: JSON values
        """Return the maps that `to_plain` wrote.

        Raises:
            ValueError: when they are something else, too large, or no maps.
        """
        expected = np.asarray(raw["expected"], dtype=np.float64)
        sizes = [len(knots) for knots in raw["knots"]]
        if not sizes or max(sizes) > KNOTS or sum(sizes) * max(expected.size, 1) > MOST_NUMBERS:
            raise ValueError("maps of another size")
        knots = tuple(np.asarray(one, dtype=np.float64) for one in raw["knots"])
        values = tuple(np.asarray(one, dtype=np.float64) for one in raw["values"])
        if expected.ndim != 1 or expected.size < 2 or not np.isfinite(expected).all():
            raise ValueError("maps without what they expect of the holdout")
        for xs, ys in zip(knots, values, strict=True):
            if ys.shape != (expected.size, len(xs)) or not np.isfinite(xs).all() or (np.diff(xs) <= 0).any():
                raise ValueError("knots and values do not belong together")
            if not ((ys >= 0) & (ys <= 1)).all():
                raise ValueError("values that are no probabilities")
        return cls(knots, values, expected)


def fit_maps(probabilities: Floats, truth: Codes, value: Valued, *, seed: int, maps: int = MAPS) -> ScoreMaps:
    """Return the maps of these rows, and of `maps` resamples of them.

    Args:
        probabilities: The model's, rows by classes.
        truth: The true class of each row, as its place among the columns.
        value: The metric of the same rows, from label probabilities and row counts.
        seed: Of the resamples.
        maps: How many resamples.

    Source: Zadrozny & Elkan, Transforming classifier scores into accurate multiclass probability estimates,
    2002; resamples as in Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    rows = len(truth)
    rng = np.random.default_rng(seed)
    times = np.ones((1 + maps, rows))
    for line in range(1, 1 + maps):
        times[line] = np.bincount(rng.integers(0, rows, rows), minlength=rows)
    first = 1 if probabilities.shape[1] == 2 else 0
    pairs = [
        _fit_one(scores, truth == first + place, times) for place, scores in enumerate(_mapped(probabilities))
    ]
    knots, values = tuple(xs for xs, _ in pairs), tuple(ys for _, ys in pairs)
    expected = [
        value(_table(knots, [ys[line] for ys in values], probabilities), times[line])
        for line in range(1 + maps)
    ]
    return ScoreMaps(knots, values, np.array(expected))


def _mapped(probabilities: Floats) -> list[Floats]:
    """Return the columns that have a map: of two classes the second says it all."""
    return [probabilities[:, 1]] if probabilities.shape[1] == 2 else list(probabilities.T)


def _fit_one(scores: Floats, hit: NDArray[np.bool_], times: Floats) -> tuple[Floats, Floats]:
    from scipy.optimize import isotonic_regression

    distinct, place = np.unique(scores, return_inverse=True)
    knots = distinct
    if len(distinct) > KNOTS:
        knots = np.unique(np.quantile(scores, np.linspace(0, 1, KNOTS), method="nearest"))
    lines = []
    for weights in times:
        total = np.bincount(place, weights, minlength=len(distinct))
        hits = np.bincount(place, weights * hit, minlength=len(distinct))
        there = total > 0
        rising = isotonic_regression(hits[there] / total[there], weights=total[there]).x
        lines.append(np.interp(knots, distinct[there], rising))
    return knots, np.clip(np.round(np.array(lines), 8), 0.0, 1.0)


def _table(knots: tuple[Floats, ...], values: list[Floats], probabilities: Floats) -> Floats:
    columns = [
        np.interp(scores, xs, ys)
        for scores, xs, ys in zip(_mapped(probabilities), knots, values, strict=True)
    ]
    if probabilities.shape[1] == 2:
        return np.column_stack([1 - columns[0], columns[0]])
    table = np.column_stack(columns)
    total = table.sum(axis=1, keepdims=True)
    return np.where(total > 0, table / np.where(total > 0, total, 1.0), probabilities)
