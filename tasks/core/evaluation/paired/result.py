"""What a paired comparison concludes, and how it is concluded from resampled scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from tasks.core.evaluation.bootstrap import Interval, percentile_interval
from tasks.core.evaluation.clusters import ClusteredDifference
from tasks.core.evaluation.intervals import without_exception
from tasks.core.evaluation.verdicts import McNemar

Floats = NDArray[np.float64]
POWER = 0.8
"""With which probability `needed_rows` would show the difference; Cohen (1988) calls it the usual choice."""
_NAN = float("nan")
_FEWEST = 3  # rows of which resamples vary enough to be expanded at all; see `percentile_interval`


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows: each one's score, and the difference mine - theirs.

    `p_better` is the confidence with which mine is better, one-sided; a bootstrap gives the share of
    resamples it wins, a tie counting half, made as careful about few rows as the interval is. `method` names
    how the interval was made. `needed_rows` is how many rows it would take, at this difference and this
    disagreement, to show mine to be better; None where no number of rows would. `mcnemar` splits the rows
    that only one model labels rightly; None for numbers. `design_effect` says how many rows tell as much as
    one independent row, and `clusters` how many clusters that was taken from; None where rows were taken as
    independent.
    """

    mine: Interval
    theirs: Interval
    difference: Interval
    p_better: float
    method: str = "bootstrap"
    needed_rows: int | None = None
    mcnemar: McNemar | None = None
    design_effect: float = 1.0
    clusters: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether scores and interval are numbers."""
        return self.mine.is_known and self.difference.is_known


def unknown(own: float = _NAN, other: float = _NAN, method: str = "none") -> Comparison:
    """Return that it cannot be told, with the scores as far as they are known."""
    gap = Interval(_NAN, _NAN, _NAN)
    return Comparison(Interval(own, _NAN, _NAN), Interval(other, _NAN, _NAN), gap, _NAN, method)


def concluded(
    scores: tuple[float, float],
    draws: Floats,
    *,
    rows: int,
    differing: float,
    confidence: float,
    effective: float | None = None,
    least: float | None = None,
) -> Comparison:
    """Return what the resampled scores of both models say of them.

    Args:
        scores: Mine and theirs on the rows themselves.
        draws: One line per resample, mine and theirs beside each other; NaN where a resample has no score.
        rows: How many rows were compared.
        differing: On how many of them (effective ones, where they have weights) the models' answers differ.
            The others say nothing about which is better, and a resample may win on three of three rows
            always: `p_better` is no nearer to 1, or to 0, than the sign of that many rows can show (mid-p),
            0.5 ** (differing + 1).
        confidence: Of the two-sided intervals.
        effective: As how many rows of equal weight they count; default: `rows`.
        least: Of a score within 0..1, rows of the rarest class: an interval without any width is widened to
            what so few rows allow. None: left as it is.
    """
    gains = draws[:, 0] - draws[:, 1]
    known = rows if effective is None else max(effective, _FEWEST)
    gap = percentile_interval(scores[0] - scores[1], gains, confidence, rows=known)
    mine, theirs = (percentile_interval(scores[i], draws[:, i], confidence, rows=known) for i in (0, 1))
    if not gap.is_known:
        return unknown(*scores, method=f"bootstrap ({len(draws)} resamples)")
    if least is not None:
        mine, theirs = (_widened(one, least, confidence, 0.0) for one in (mine, theirs))
        gap = _widened(gap, least, confidence, -1.0)
    told = gains[np.isfinite(gains)]
    beyond = 0.5 ** (differing + 1)
    won = float((told > 0).mean() + (told == 0).mean() / 2)
    return Comparison(
        *(mine, theirs, gap),
        p_better=float(np.clip(_expanded(won, known), beyond, 1 - beyond)),
        method=f"bootstrap ({len(draws)} resamples)",
        needed_rows=needed_rows(gap.value, float(told.std()) * math.sqrt(rows), confidence),
    )


def with_clusters(
    result: Comparison,
    clustered: Sequence[ClusteredDifference],
    confidence: float,
    *,
    is_share: bool = False,
) -> Comparison:
    """Return the comparison of independent rows with what rows in clusters leave of its certainty.

    Every interval's halves are longer by the square root of its own design effect, and by what Student's
    distribution adds to the normal one for so few clusters; so they keep the shape that suits the metric.
    An effect of 1 changes nothing. All is unknown where the clusters cannot tell.

    Args:
        result: Of the same rows, taken as independent.
        clustered: What the clusters say of mine, of theirs, and of the difference.
        confidence: Of the intervals.
        is_share: Whether the metric lies within 0..1.

    Source: effective sample sizes: Korn and Graubard, Survey Methodology 24 (1998).
    """
    difference, effect = clustered[-1], clustered[-1].design_effect
    if not math.isfinite(effect):
        blank = unknown(result.mine.value, result.theirs.value, result.method)
        return replace(blank, clusters=difference.clusters)
    sure, rows = result.p_better, result.needed_rows
    if effect > 1:
        towards = min if result.difference.value > 0 else max
        sure = towards(sure, difference.p_better)
    mine, theirs, gap = (
        part.lengthen(interval, confidence, limits=limits)
        for interval, part, limits in zip(
            (result.mine, result.theirs, result.difference), clustered, _limits(is_share), strict=True
        )
    )
    return replace(
        result,
        mine=mine,
        theirs=theirs,
        difference=gap,
        p_better=sure,
        needed_rows=rows if rows is None else math.ceil(rows * effect),
        design_effect=effect,
        clusters=difference.clusters,
    )


def _limits(is_share: bool) -> tuple[tuple[float, float], ...]:
    if not is_share:
        return ((-math.inf, math.inf),) * 3
    return (0.0, 1.0), (0.0, 1.0), (-1.0, 1.0)


def needed_rows(difference: float, deviation: float, confidence: float) -> int | None:
    """Return how many rows would show this difference at `confidence`, one-sided, with power 0.8.

    `deviation` is the standard deviation of one row's part in the difference. None where the difference is
    not above zero or not a number: no number of rows shows what is not there.

    Source: the sample size of a one-sided test of a mean, for example Julious, Statistics in Medicine 23
    (2004), section 3.

    Example:
        >>> needed_rows(0.01, 0.3, 0.95)
        5565
    """
    if not (math.isfinite(difference) and math.isfinite(deviation)) or difference <= 0:
        return None
    rows = ((float(ndtri(confidence)) + float(ndtri(POWER))) * deviation / difference) ** 2
    return max(2, math.ceil(rows)) if math.isfinite(rows) else None


def _expanded(share: float, rows: float) -> float:
    """Return the confidence whose one-sided expanded interval begins at zero: the inverse of its quantile.

    Source: Hesterberg, The American Statistician 69 (2015), section 5.3, as for `percentile_interval`.
    """
    if rows <= 2 or not 0 < share < 1:
        return share
    return float(stdtr(rows - 1, float(ndtri(share)) * math.sqrt((rows - 1) / rows)))


def _widened(found: Interval, least: float, confidence: float, lowest: float) -> Interval:
    if not found.is_known or found.high > found.low or not lowest <= found.value <= 1:
        return found
    return without_exception(found.value, least, confidence, lowest)
