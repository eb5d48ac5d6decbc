"""Share of values that the reference never showed, beyond what is to be expected."""

from __future__ import annotations

from tasks.core.measures.base import Measure, Pair, Reading
from tasks.core.measures.proportions import more


def read(pair: Pair) -> Reading:
    """Return the excess share of unseen categories, unseen discrete values, or values out of range.

    Some are to be expected: as many, per row, as the reference showed exactly once, for each of those
    would be unseen had its row come later. Source: Good, The population frequencies of species, 1953.
    """
    n, m = pair.reference.values, pair.current.values
    if pair.bins.masked and pair.bins.kind == "numeric":
        return Reading(None, note="no extremes are kept of a sensitive column")
    if not pair.bins.complete:
        return Reading(None, note="too many categories in the reference to know an unseen one")
    expected, found = pair.bins.singles / n, pair.current.unseen / m
    p_value = more(min(pair.bins.singles, n), n, pair.current.unseen, m)
    return Reading(
        max(0.0, found - expected), p_value, note=f"{found:.1%} of values, {expected:.1%} expected"
    )


# Our choice: for one row in twenty the model has nothing to go by.
UNSEEN_SHARE = Measure("unseen_share", "unseen", ("numeric", "categorical"), 0.01, 0.05, read)
