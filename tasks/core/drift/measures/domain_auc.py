"""How well a classifier tells the window's rows from the reference's: a change of the columns together."""

from __future__ import annotations

from tasks.core.drift.measures.base import Measure, Pair, Reading


def read(pair: Pair) -> Reading:
    """Return that it cannot be told from one feature: the classifier's reading is made of whole rows."""
    return Reading(None, note=f"made of whole rows, not of {pair.bins.name}")


# Phi(d / sqrt 2), the best that can be told apart, for shifts d of 0.32 and 0.45 standard deviations. Source:
# Lopez-Paz & Oquab, Revisiting classifier two-sample tests, 2017.
DOMAIN_AUC = Measure("domain_auc", "joint", (), 0.59, 0.625, read)
