"""Share of values that the reference never showed, beyond what is to be expected."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.chance.tails import beta_binomial
from tasks.core.drift.measures.base import Measure, Pair, Reading
from tasks.core.drift.measures.proportions import more

Floats = NDArray[np.float64]


def read(pair: Pair) -> Reading:
    """Return the excess share of unseen categories, unseen discrete values, or values out of range.

    Some are to be expected: as many, per row, as the reference showed exactly once, for each of those
    would be unseen had its row come later. The p-value is beta-binomial, with the mean and the variance
    that the reference gives for the share of all it did not show.

    Source: Good, The population frequencies of species, 1953; Esty, A normal limit law for a nonparametric
    estimator of the coverage of a random sample, 1983.
    """
    before, now = pair.reference, pair.current
    m = now.values
    if pair.bins.masked and pair.bins.kind == "numeric":
        return Reading(None, note="no extremes are kept of a sensitive column")
    if not pair.bins.complete:
        return Reading(None, note="too many categories in the reference to know an unseen one")
    dispersion = pair.dispersion("unseen")
    if before.unseen:  # later windows: they showed what the reference had not
        expected = before.unseen / before.values
        p_value = more(before.unseen, before.values, now.unseen, m, dispersion)
    else:
        n = (pair.origin or before).values
        expected = max(pair.bins.singles / n, dispersion.expected)
        p_value = beyond(pair.bins.singles, pair.bins.doubles, n, now.unseen, m, dispersion)
    found = now.unseen / m
    return Reading(
        max(0.0, found - expected), p_value, note=f"{found:.1%} of values, {expected:.1%} expected"
    )


def beyond(
    singles: int, doubles: int, n: int, unseen: int, m: int, dispersion: Dispersion = INDEPENDENT
) -> float | None:
    """Return the chance of at least `unseen` of m values that n reference values did not show.

    The share they did not show is taken as a beta distribution with mean S / n and Esty's variance
    (S (1 - S / n) + 2 D) / n^2, from S singles and D doubles; one single more than there were, so that
    none at all does not mean never. None when there is nothing to test, and 1 where nothing can be learnt.
    """
    if not singles and not unseen:
        return None
    return float(p_values(singles, doubles, n, unseen, m, dispersion))


def p_values(
    singles: ArrayLike,
    doubles: ArrayLike,
    n: ArrayLike,
    unseen: ArrayLike,
    m: ArrayLike,
    dispersion: Dispersion = INDEPENDENT,
    *,
    least: float | None = None,
) -> Floats:
    """Return `beyond` for many cases; 1 where no more than `least` standard deviations above expectation.

    Where rows are no independent ones it is the largest of three: with the rows taken as independent, with
    as many as they are worth, and with the share and the variance that blocks left out of the reference had.
    """
    singles, doubles, n, unseen, m = (
        np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(singles, doubles, n, unseen, m)
    )
    share = (singles + 1) / n
    variance = (n * share * (1 - share) + 2 * doubles) / n**2
    certain = np.where(
        variance > 0, variance, 1.0
    )  # of one row nothing varies, and its share is no less than 1
    weight = np.where(share < 1, share * (1 - share) / certain - 1, 0.0)
    safe = np.maximum(weight, 1e-9)
    a, b = np.minimum(share, 1) * safe, np.maximum(1 - share, 1e-9) * safe
    deviation = np.sqrt(m * share * np.maximum(1 - share, 0) * (safe + m) / (safe + 1))
    looked = (weight > 0) & (unseen > 0)
    if least is not None:
        looked &= unseen - m * share >= least * deviation
    found = np.ones(np.shape(share))
    found[looked] = beta_binomial(unseen[looked], m[looked], a[looked], b[looked])
    if not dispersion.independent:
        factor = dispersion.at(m)
        worth = beta_binomial(np.floor(unseen / factor), np.maximum(np.floor(m / factor), 1), a, b)
        found = np.maximum(found, np.where(weight > 0, worth, 1.0))
        found = np.maximum(found, _beyond_blocks(unseen, m, dispersion))
    return np.clip(found, 0.0, 1.0)


def _beyond_blocks(unseen: Floats, m: Floats, dispersion: Dispersion) -> Floats:
    """Return the chance of as many, by the share of values that a block left out had alone."""
    share = dispersion.expected
    if not share:
        return np.zeros(np.shape(unseen))
    alike = min(max((dispersion.factor - 1) / max(dispersion.rows - 1, 1.0), 1e-6), 0.999)
    weight = (1 - alike) / alike
    counted = beta_binomial(unseen, m, share * weight, (1 - share) * weight)
    deviation = np.sqrt(share * (1 - share) * dispersion.at(m) / m * (1 + 1 / dispersion.blocks))
    return np.maximum(counted, dispersion.normal((unseen / m - share) / deviation))


# Our choice: for one row in twenty the model has nothing to go by.
UNSEEN_SHARE = Measure("unseen_share", "unseen", ("numeric", "categorical"), 0.01, 0.05, read)
