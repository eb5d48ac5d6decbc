"""Pairs of samples for the tests of measures, and every measure's reading by its name."""

from __future__ import annotations

import pandas as pd

from tasks.core.drift.counting.bins import category_bins, count, numeric_bins
from tasks.core.drift.measures.base import Pair
from tasks.core.drift.measures.registry import MEASURES

READ = {measure.name: measure.read for measure in MEASURES}


def numeric_pair(reference, current) -> Pair:
    ours, theirs = pd.Series(reference, dtype=object), pd.Series(current, dtype=object)
    bins = numeric_bins("x", ours)
    return Pair(bins, count(bins, ours), count(bins, theirs))


def category_pair(reference, current) -> Pair:
    ours, theirs = pd.Series(reference, dtype=object), pd.Series(current, dtype=object)
    bins = category_bins("c", ours)
    return Pair(bins, count(bins, ours), count(bins, theirs))


def table_pair(reference: dict[str, int], current: dict[str, int]) -> Pair:
    return category_pair(
        [c for c, k in reference.items() for _ in range(k)], [c for c, k in current.items() for _ in range(k)]
    )
