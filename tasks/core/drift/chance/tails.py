"""How far out a count or a distance lies, for one case or for many at once, without scipy.stats.

Importing scipy.stats takes a second, which a first drift check has not got; every function here agrees with
it. All take numbers or arrays that fit each other, and return an array of their common shape.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

_WIDE = 1_500.0  # rows of standard deviation beyond which a sum of single terms gives way to an integral
_WIDE_MIXED = 100.0
_EXACT = 5_000  # sample size up to which Smirnov's finite sum is used
_SMALL = 2.2  # size * distance^2 from which the chances of both sides just add up: p < 0.025


def hypergeometric(found: ArrayLike, total: ArrayLike, marked: ArrayLike, drawn: ArrayLike) -> Floats:
    """Return the chance of at least `found` marked rows among `drawn` of `total`, of which `marked` are.

    Beyond a standard deviation of 1,500 rows the normal distribution stands in; it is a hundredth off at most
    where the chance is above 1e-5. Source: Fisher, The logic of inductive inference, 1935.
    """
    k, t, s, d = _alike(found, total, marked, drawn)
    mean = d * s / t
    sd = np.sqrt(mean * (1 - s / t) * (t - d) / np.maximum(t - 1, 1))
    whole = _log_choose(t, d)

    def log_pmf(j: Floats) -> Floats:
        return _log_choose(s, j) + _log_choose(t - s, d - j) - whole

    far = special.ndtr((mean - k + 0.5) / np.where(sd > 0, sd, 1))
    ends = (np.maximum(0, d - (t - s)), np.minimum(s, d))
    summed = _tail(k, mean, ends, log_pmf, np.where(sd > _WIDE, 0, 9 * sd + 40))
    return np.where(sd > _WIDE, far, summed).reshape(np.broadcast(found, total, marked, drawn).shape)


def beta_binomial(found: ArrayLike, drawn: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Return the chance of at least `found` of `drawn` rows, each with one chance drawn from Beta(a, b).

    Beyond a standard deviation of 100 rows a beta distribution of the same mean and variance stands in.
    """
    k, d, first, second = _alike(found, drawn, a, b)
    share, both = first / (first + second), first + second
    variance = d * share * (1 - share) * (both + d) / (both + 1)
    sd = np.sqrt(variance)

    def log_pmf(j: Floats) -> Floats:
        return _log_choose(d, j) + special.betaln(j + first, d - j + second) - special.betaln(first, second)

    weight = np.maximum(share * (1 - share) * d**2 / np.maximum(variance, 1e-300) - 1, 1e-300)
    far = special.betaincc(share * weight, (1 - share) * weight, np.clip((k - 0.5) / np.maximum(d, 1), 0, 1))
    summed = _tail(k, d * share, (0 * d, d), log_pmf, np.where(sd > _WIDE_MIXED, 0, 30 * sd + 40))
    return np.where(sd > _WIDE_MIXED, far, summed).reshape(np.broadcast(found, drawn, a, b).shape)


def kolmogorov_smirnov(distance: ArrayLike, size: ArrayLike) -> Floats:
    """Return the two-sided chance of at least this distance, for samples that come to `size` = n m / (n + m).

    Up to 5,000 and below 0.025 it is Smirnov's finite sum, otherwise the limit with a correction for the
    size, which for 100 and more is within half a per cent of it.

    Source: Smirnov 1944, as in Simard & L'Ecuyer, Computing the two-sided Kolmogorov-Smirnov distribution,
    2011; Vrbik, Small-sample corrections to Kolmogorov-Smirnov test statistic, 2018.
    """
    d, n = _alike(distance, np.maximum(np.round(np.asarray(size, dtype=np.float64)), 1))
    z = np.sqrt(n) * d
    found = special.kolmogorov(np.maximum(z + 1 / (6 * np.sqrt(n)) + (z - 1) / (4 * n), 0))
    for place in np.flatnonzero((n <= _EXACT) & (z**2 >= _SMALL) & (d < 1)):
        found[place] = 2 * _smirnov(float(d[place]), int(n[place]))
    whole: Floats = np.clip(np.where(d >= 1, 0.0, found), 0, 1)
    return whole.reshape(np.broadcast(distance, size).shape)


def _smirnov(distance: float, size: int) -> float:
    """Return the one-sided chance: d times the sum over j of C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j)."""
    j = np.arange(int(np.floor(size * (1 - distance))) + 1, dtype=np.float64)
    inside = np.maximum(1 - distance - j / size, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = special.xlogy(j - 1, distance + j / size) + special.xlogy(size - j, inside)
    return float(distance * np.exp(log + _log_choose(np.array(float(size)), j)).sum())


def _tail(
    k: Floats,
    mean: Floats,
    ends: tuple[Floats, Floats],
    log_pmf: Callable[[Floats], Floats],
    reach: Floats,
) -> Floats:
    """Sum the terms from k away from the mean, as far as they matter; the other side is the rest to 1."""
    upper = k > mean
    start, step = np.where(upper, k, k - 1), np.where(upper, 1, -1)
    room = np.where(upper, ends[1] - start, start - ends[0])
    terms = int(np.maximum(np.minimum(room, reach), 0).max(initial=0)) + 1
    total = np.zeros_like(k)
    for first in range(0, terms, 512):  # in parts, so that many cases at once stay small
        j = start + step * np.arange(first, min(first + 512, terms))[:, None]
        inside = (j >= ends[0]) & (j <= ends[1])
        total = total + np.where(inside, np.exp(log_pmf(np.clip(j, *ends))), 0).sum(axis=0)
    found: Floats = np.clip(np.where(upper, total, 1 - total), 0, 1)
    return found


def _log_choose(n: Floats, k: Floats) -> Floats:
    found: Floats = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return found


def _alike(*given: ArrayLike) -> tuple[Floats, ...]:
    wide = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in given))
    return tuple(np.atleast_1d(one).ravel().copy() for one in wide)
