"""When checks of several windows together are enough to act on.

Checks without a magnitude are counted: M of the last N windows, and the newest, must be bad. Evidence with a
magnitude adds up as well, in units of one bad window, so that windows each just below the limit act together
and one enormous change does not wait for a second window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from scipy import special

from tasks.core.policy.evidence import CheckOutcome

ALIKE = 0.25
"""Correlation between the tests of two windows that is allowed for. Our choice: windows of m rows that share
a reference of n rows are correlated by m / (n + m), so a window may have a third of its rows."""


def acts_on(checks: Sequence[CheckOutcome], windows: tuple[int, int], false_alarms: float) -> bool:
    """Return whether these checks, oldest first, are enough to act on; `windows` is (M, N).

    They are where M of the last N, the newest among them, are `drift`. They are too where the strengths of
    the last N add up to what `needed_strength` says, M at least, and the newest has its share of it: what is
    over is no reason to act. A check that could not tell is not bad, and uses up its place among the last N.
    With M = 1 every window acts alone, so nothing is added up.

    Args:
        checks: Of one kind and one version, one per window.
        windows: `drift.windows`.
        false_alarms: Share of undrifted checks that may alarm, `drift.false_alarms`.

    Example:
        >>> from datetime import UTC, datetime, timedelta
        >>> from tasks.core.window import Window
        >>> week, start = timedelta(days=7), datetime(2026, 1, 5, tzinfo=UTC)
        >>> near = [CheckOutcome(Window(start + k * week, start + (k + 1) * week), "warn", strength=0.9)
        ...         for k in range(3)]
        >>> acts_on(near, (2, 3), 0.01), acts_on(near[:2], (2, 3), 0.01)
        (True, False)
    """
    least, of = windows
    last = checks[-of:]
    if not last:
        return False
    bad = [check.outcome == "drift" for check in last]
    if bad[-1] and sum(bad) >= least:
        return True
    newest = last[-1].strength
    if least == 1 or newest is None:
        return False
    needed = needed_strength(windows, false_alarms)
    return newest >= needed / of and sum(check.strength or 0.0 for check in last) >= needed


@lru_cache(maxsize=64)
def needed_strength(windows: tuple[int, int], false_alarms: float) -> float:
    """Return the sum of strengths from which N windows act: M, or more where chance would reach that.

    Without drift a strength is at most the logarithm of a p-value over that of `false_alarms`, so twice the
    sum of the logarithms is at most chi-square distributed with 2 N degrees of freedom for independent
    windows. For dependent ones the distribution is scaled to the variance that their covariances give it.

    Source: Fisher, Statistical Methods for Research Workers, 4th ed. 1932; Brown, A method for combining
    non-independent, one-sided tests of significance, 1975; covariances as in Kost & McDermott, Combining
    dependent P-values, 2002.
    """
    least, of = windows
    covariance = 3.263 * ALIKE + 0.710 * ALIKE**2 + 0.027 * ALIKE**3
    mean, variance = 2.0 * of, 4.0 * of + of * (of - 1) * covariance
    scale, freedom = variance / (2 * mean), 2 * mean**2 / variance
    by_chance = scale * float(special.chdtri(freedom, false_alarms)) / (-2 * math.log(false_alarms))
    return max(float(least), by_chance)
