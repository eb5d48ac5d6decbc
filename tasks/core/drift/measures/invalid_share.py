"""Rise in the share of cells that are neither a value nor a null: infinities, text among numbers."""

from __future__ import annotations

from tasks.core.drift.counting.bins import Counts
from tasks.core.drift.measures.base import Measure, Pair, Reading
from tasks.core.drift.measures.proportions import more


def read(pair: Pair) -> Reading:
    """Return by how much the share of infinite or unreadable cells rose, and its exact p-value."""
    reference, current = pair.reference, pair.current
    before, now = _invalid(reference) / reference.rows, _invalid(current) / current.rows
    p_value = more(
        _invalid(reference), reference.rows, _invalid(current), current.rows, pair.dispersion("invalid")
    )
    note = f"{current.infinite} infinite and {current.unreadable} unreadable of {current.rows}"
    return Reading(max(0.0, now - before), p_value, note=note)


def _invalid(counts: Counts) -> int:
    return counts.infinite + counts.unreadable


# Our choice, stricter than for nulls: scikit-learn refuses such rows.
INVALID_SHARE = Measure("invalid_share", "invalid", ("numeric", "categorical"), 0.001, 0.01, read)
