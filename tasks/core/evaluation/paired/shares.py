"""Two accuracies on the same rows: everything follows from the rows that only one model gets right."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, ndtri

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.paired.result import Comparison, needed_rows, unknown
from tasks.core.evaluation.verdicts import McNemar

_BESIDE = 1e-9
METHOD = "score interval (Tango)"


def compare_shares(both: int, only_mine: int, only_theirs: int, rows: int, confidence: float) -> Comparison:
    """Return the comparison of two shares of right answers; NaN without rows.

    `p_better` is the mid-p form of McNemar's test, one-sided: its error is closer to its level than the exact
    test's, and like the interval it looks at nothing but how the discordant rows split.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013).
    """
    if rows <= 0:
        return unknown(method=METHOD)
    gain, apart = (only_mine - only_theirs) / rows, (only_mine + only_theirs) / rows
    mine, theirs = (wilson_interval(both + only, rows, confidence) for only in (only_mine, only_theirs))
    return Comparison(
        mine,
        theirs,
        tango_interval(only_mine, only_theirs, rows, confidence),
        p_better=_mid_p(only_mine, only_mine + only_theirs),
        method=METHOD,
        needed_rows=needed_rows(gain, math.sqrt(max(apart - gain**2, 0.0)), confidence),
        mcnemar=mcnemar(only_mine, only_theirs),
    )


def mcnemar(only_mine: int, only_theirs: int) -> McNemar:
    """Return the discordant rows with the exact two-sided p-value of their split; 1 where there are none.

    Source: McNemar, Psychometrika 12 (1947), as a binomial test.

    Example:
        >>> mcnemar(1, 7).p_value
        0.0703125
    """
    apart = only_mine + only_theirs
    tail = float(bdtr(min(only_mine, only_theirs), apart, 0.5)) if apart else 1.0
    return McNemar(only_mine, only_theirs, min(1.0, 2 * tail))


def tango_interval(only_mine: int, only_theirs: int, rows: int, confidence: float) -> Interval:
    """Return the difference of two paired shares with its score interval, within -1..1.

    It covers well from few rows on, is never empty and never beyond its range, also where the models agree on
    every row.

    Source: Tango, Statistics in Medicine 17 (1998), equations 9 to 11.

    Example:
        >>> found = tango_interval(9, 3, 32, 0.95)
        >>> f"{found.value} {found.low:.3f} {found.high:.3f}"
        '0.1875 -0.027 0.390'
    """
    value, z = (only_mine - only_theirs) / rows, float(ndtri((1 + confidence) / 2))

    def excess(delta: float, target: float) -> float:
        b = (2 * rows - only_mine + only_theirs) * delta - only_mine - only_theirs
        c = -only_theirs * delta * (1 - delta)
        share = (math.sqrt(max(b * b - 8 * rows * c, 0.0)) - b) / (4 * rows)  # of only_theirs, given delta
        spread = rows * (2 * share + delta * (1 - delta))
        return only_mine - only_theirs - rows * delta - target * math.sqrt(max(spread, 0.0))

    # At the value itself the spread may be zero, and the function with it: the search starts beside it.
    low = brentq(excess, -1.0, value - _BESIDE, args=(z,)) if value - _BESIDE > -1 else -1.0
    high = brentq(excess, value + _BESIDE, 1.0, args=(-z,)) if value + _BESIDE < 1 else 1.0
    return Interval(value, float(low), float(high))


def wilson_interval(hits: int, rows: int, confidence: float) -> Interval:
    """Return a share with its score interval.

    Source: Wilson, Journal of the American Statistical Association 22 (1927).

    Example:
        >>> found = wilson_interval(8, 10, 0.95)
        >>> f"{found.low:.4f} {found.high:.4f}"
        '0.4902 0.9433'
    """
    z2, share = float(ndtri((1 + confidence) / 2)) ** 2, hits / rows
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    reach = math.sqrt(z2) * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2)) / (1 + z2 / rows)
    return Interval(share, max(0.0, centre - reach), min(1.0, centre + reach))


def _mid_p(wins: int, apart: int) -> float:
    """Return P(fewer wins) + P(as many wins) / 2 when either model is as likely to be the right one."""
    if apart == 0:
        return 0.5
    below = float(bdtr(wins - 1, apart, 0.5)) if wins else 0.0
    return float(np.clip((below + float(bdtr(wins, apart, 0.5))) / 2, 0.0, 1.0))
