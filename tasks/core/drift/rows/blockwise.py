"""Whether a window stands out from a history whose rows depend on each other.

Rows of one day resemble each other, and so do neighbours in a series: a classifier then tells any day from
all others, and a test that takes rows as independent calls every day drifted. So single blocks of the
reference are put in the window's place, one after another, and the window is held against how well these
can be told from the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.measures.base import Reading
from tasks.core.drift.rows.domain import PARTS, Told, tell_apart
from tasks.core.drift.rows.interactions import Codes

MOST_STANDINS = 12  # blocks put in the window's place; our choice: they cost a classification each
FEWEST_STANDINS = 6
FEWEST_ROWS = 30  # of a stand-in
MOST_ROWS = 1_000  # of a stand-in
REST = 10  # rows of the rest for each row of a stand-in


def blockwise_reading(
    reference_codes: Codes,
    current_codes: Codes,
    blocks: NDArray[np.integer[Any]],  # Any: numpy's own precision parameter
    *,
    seed: int = 0,
) -> Reading:
    """Return how much better the window can be told from the reference than the reference's own blocks can.

    The window is thinned to as many rows as a block has in the reference's sample, so that both are alike.
    The p-value is that of Student's t for one more draw beside those of the blocks, on the probit scale of
    the area under the ROC curve; the value is that area beyond what a block reaches on average.

    Args:
        reference_codes: As in `domain_reading`.
        current_codes: As in `domain_reading`.
        blocks: Of each reference row its block; rows of -1 are in none and only stand in the rest.
        seed: Of every draw.

    Source: prediction interval of one further observation, Hahn & Meeker, Statistical intervals, 1991.
    """
    from scipy.stats import norm, t

    rng = np.random.default_rng(seed)
    labels, sizes = np.unique(blocks[blocks >= 0], return_counts=True)
    rows = int(
        min(np.quantile(sizes, 0.25, method="lower") if len(sizes) else 0, len(current_codes), MOST_ROWS)
    )
    fitting = labels[sizes >= rows]
    if rows < FEWEST_ROWS or len(fitting) < FEWEST_STANDINS:
        note = f"rows depend on each other, and {len(fitting)} blocks of {rows} rows cannot tell how much"
        return Reading(None, note=note)
    chosen = fitting[np.unique(np.linspace(0, len(fitting) - 1, MOST_STANDINS).round().astype(np.intp))]
    standins = []
    for label in chosen:
        told = _told(reference_codes[blocks != label], reference_codes[blocks == label], rows, rng)
        standins.append(_probit(told))
    told = _told(reference_codes, current_codes, rows, rng)
    usual, spread = float(np.mean(standins)), max(float(np.std(standins, ddof=1)), _least(rows))
    beyond = _probit(told) - usual
    score = beyond / (spread * float(np.sqrt(1 + 1 / len(standins))))
    p_value = float(t.sf(score, len(standins) - 1))
    note = f"{len(standins)} single blocks of the reference reach {norm.cdf(usual):.2f} on average"
    return Reading(float(norm.cdf(beyond)), p_value, score, note)


def _told(reference: Codes, current: Codes, rows: int, rng: np.random.Generator) -> Told:
    most = min(len(reference), REST * rows)
    return tell_apart(_thinned(reference, most, rng), _thinned(current, rows, rng), int(rng.integers(2**31)))


def _thinned(codes: Codes, most: int, rng: np.random.Generator) -> Codes:
    if len(codes) <= most:
        return codes
    return codes[np.sort(rng.choice(len(codes), most, replace=False))]


def _probit(told: Told) -> float:
    from scipy.stats import norm

    return float(norm.ppf(np.clip(told.reading.value or 0.5, 0.001, 0.999)))


def _least(rows: int) -> float:
    """Return the spread that chance alone gives an area of 0.5 with so many rows, on the probit scale."""
    judged = rows * (PARTS - 1) / PARTS
    return float(np.sqrt((1 / judged + 1 / (judged * REST)) / 12) * np.sqrt(2 * np.pi))
