"""Change in the share of rows that have no value."""

from __future__ import annotations

from tasks.core.drift.measures.base import Measure, Pair, Reading
from tasks.core.drift.measures.proportions import different


def read(pair: Pair) -> Reading:
    """Return the absolute change in the share of nulls, in either direction, and its exact p-value."""
    reference, current = pair.reference, pair.current
    before, now = reference.nulls / reference.rows, current.nulls / current.rows
    p_value = different(
        reference.nulls, reference.rows, current.nulls, current.rows, pair.dispersion("missing")
    )
    return Reading(abs(now - before), p_value, note=f"{before:.1%} before, {now:.1%} now")


# Our choice: imputing one row in ten is another model.
MISSING_SHARE = Measure("missing_share", "missing", ("numeric", "categorical"), 0.02, 0.10, read)
