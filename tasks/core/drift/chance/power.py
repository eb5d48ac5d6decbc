"""What a window of so many rows can show: the rows a change needs, and the change that rows can find.

And what a history can show at all: where windows differ from each other, p-values are only as small as the
blocks they were learnt from allow.

Changes are counted in units of PSI, of which Pearson's statistic finds `size * change` beyond chance in
samples that come to size = n m / (n + m): four times the square of Cramér's V.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

from scipy import special

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion
from tasks.core.drift.measures import ks, wasserstein

FOUND = 0.8  # of the cases a change is found in
CHANGE = 0.2  # PSI, the limit of `drift`
COMPLETE = 5.0  # standard deviations; our choice: ten times the limit of `drift`, no ordinary value is so far
_TIMES = tuple(1.1**step for step in range(50))  # up to a hundred times the history


def needed_rows(groups: int, alpha: float, n: int) -> int | None:
    """Return how many independent values a window needs so that a change that matters is found in 8 of 10.

    None when the reference is too small for any number of them. Where windows differ anyway, no number of
    rows makes a change of that size stand out; `detectable` says which one does.

    Args:
        groups: Compared.
        alpha: The test's share of the level.
        n: Values of the reference.

    Source: power of the chi-square test by the noncentral chi-square distribution: Cohen, Statistical Power
    Analysis for the Behavioral Sciences, 1988.

    Example:
        >>> needed_rows(10, 0.0001, 20_000)
        180
    """
    room = CHANGE / _per_row(groups, alpha, INDEPENDENT) - 1 / n
    return math.ceil(1 / room) if room > 0 else None


def detectable(groups: int, alpha: float, n: int, m: int, dispersion: Dispersion) -> float:
    """Return the smallest change, in units of PSI, that windows of m values show in 8 of 10 cases."""
    return _per_row(groups, alpha, dispersion) * (dispersion.factor / n + float(dispersion.at(m)) / m)


def smallest_p(groups: int, n: int, m: int, dispersion: Dispersion, *, numeric: bool) -> float:
    """Return the p-value of a complete change, the smallest that any test of a distribution can reach.

    Complete means that the samples share no group, and that a number moved by `COMPLETE` standard deviations.

    Args:
        groups: Compared.
        n: Values of the reference.
        m: Values of the window.
        dispersion: Of the distribution.
        numeric: Whether the values are numbers.
    """
    factor = dispersion.between(n, m)
    # Of two rows without a common group Pearson's statistic is the number of all values.
    reached = [float(dispersion.chi_square(n + m, groups - 1, factor))]
    if numeric:
        reached.append(float(ks.p_of(1.0, n, m, dispersion)))
    if dispersion.apart:
        reached.append(float(wasserstein.p_of(COMPLETE, m, dispersion)))
    return min(reached)


def needed_blocks(
    groups: int, alpha: float, n: int, m: int, dispersion: Dispersion, *, numeric: bool
) -> int | None:
    """Return about how many blocks of history make a complete change stand out; None where no number does.

    More blocks that differ as those known do leave less open about by how much they differ: the degrees of
    freedom grow in proportion.
    """
    for times in _TIMES:
        more = replace(dispersion, dof=dispersion.dof * times, apart_dof=dispersion.apart_dof * times)
        if smallest_p(groups, n, m, more, numeric=numeric) <= alpha:
            return math.ceil(dispersion.blocks * times)
    return None


def _per_row(groups: int, alpha: float, dispersion: Dispersion) -> float:
    """Return the change that is found in 8 of 10 cases, times n m / (n + m) independent rows."""
    freedom = groups - 1
    real = max(freedom / dispersion.spread, 1.0)
    # A hundredth of a decade: so that many features with nearly the same level share one answer.
    return _noncentral(real, round(100 * math.log10(max(alpha, 1e-12))), dispersion.dof) * freedom / real


@lru_cache(maxsize=4096)
def _noncentral(freedom: float, level: int, dof: float) -> float:
    alpha = 10 ** (level / 100)
    limit = special.chdtri(freedom, alpha)
    if math.isfinite(dof):
        limit = freedom / special.fdtri(dof, freedom, alpha)
    return float(special.chndtrinc(limit, freedom, 1 - FOUND))
