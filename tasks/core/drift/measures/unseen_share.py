"""Share of values that the reference never showed, beyond what is to be expected."""

from __future__ import annotations

from scipy import stats

from tasks.core.drift.measures.base import Measure, Pair, Reading


def read(pair: Pair) -> Reading:
    """Return the excess share of unseen categories, unseen discrete values, or values out of range.

    Some are to be expected: as many, per row, as the reference showed exactly once, for each of those
    would be unseen had its row come later. The p-value is beta-binomial, with the mean and the variance
    that the reference gives for the share of all it did not show.

    Source: Good, The population frequencies of species, 1953; Esty, A normal limit law for a nonparametric
    estimator of the coverage of a random sample, 1983.
    """
    n, m = pair.reference.values, pair.current.values
    if pair.bins.masked and pair.bins.kind == "numeric":
        return Reading(None, note="no extremes are kept of a sensitive column")
    if not pair.bins.complete:
        return Reading(None, note="too many categories in the reference to know an unseen one")
    expected, found = pair.bins.singles / n, pair.current.unseen / m
    p_value = beyond(pair.bins.singles, pair.bins.doubles, n, pair.current.unseen, m)
    return Reading(
        max(0.0, found - expected), p_value, note=f"{found:.1%} of values, {expected:.1%} expected"
    )


def beyond(singles: int, doubles: int, n: int, unseen: int, m: int) -> float | None:
    """Return the chance of at least `unseen` of m values that n reference values did not show.

    The share they did not show is taken as a beta distribution with mean S / n and Esty's variance
    (S (1 - S / n) + 2 D) / n^2, from S singles and D doubles; one single more than there were, so that
    none at all does not mean never. None when there is nothing to test, and 1 where nothing can be learnt.
    """
    if not singles and not unseen:
        return None
    share = (singles + 1) / n
    variance = (n * share * (1 - share) + 2 * doubles) / n**2
    weight = share * (1 - share) / variance - 1 if 0 < share < 1 else 0.0
    if weight <= 0:
        return 1.0
    p_value = stats.betabinom.sf(unseen - 1, m, share * weight, (1 - share) * weight)
    return min(1.0, max(0.0, float(p_value)))


# Our choice: for one row in twenty the model has nothing to go by.
UNSEEN_SHARE = Measure("unseen_share", "unseen", ("numeric", "categorical"), 0.01, 0.05, read)
