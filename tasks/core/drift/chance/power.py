"""What a window of so many rows can show: the rows a change needs, and the change that rows can find.

Changes are counted in units of PSI, of which Pearson's statistic finds `size * change` beyond chance in
samples that come to size = n m / (n + m): four times the square of Cramér's V.
"""

from __future__ import annotations

import math
from functools import lru_cache

from scipy import special

from tasks.core.drift.chance.dispersion import INDEPENDENT, Dispersion

FOUND = 0.8  # of the cases a change is found in
CHANGE = 0.2  # PSI, the limit of `drift`


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
