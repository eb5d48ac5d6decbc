"""Whether what blocks of rows held comes round again after so many blocks, more than chance explains.

A cycle of period P puts the power of a series at the frequencies 1/P, 2/P, ... and nowhere between. So each
of these is compared with the frequencies around it: a trend, a break or slow drift (an autoregression) has
power there as well and is no cycle, however strong; one odd day has equally much everywhere.
Source: Thomson, Spectrum estimation and harmonic analysis, Proc. IEEE 70, 1982 (the F-test of a line against
the spectrum around it), with the periodogram in place of tapers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.past.history import Ints

Floats = NDArray[np.float64]
FEWEST_ROUNDS = 3
AROUND = 3  # frequencies on either side that a line is compared with; our choice
LONGEST = 20_000  # blocks, gaps included, that are looked at


@dataclass(frozen=True)
class Cycle:
    """How plainly one feature follows a cycle.

    Attributes:
        p_value: Of the strongest line, corrected for there being several.
        explained: Share of the variation between blocks, slow changes aside, that the cycle makes up; 0..1.
        size: How far the oddest place of the cycle is from all rows: chi-square distance, about its PSI.
    """

    p_value: float
    explained: float
    size: float


def find_cycle(counts: Ints, places: Ints, period: int) -> Cycle | None:
    """Return how plainly the shares follow a cycle; None when there is too little to tell or no variation.

    Args:
        counts: [blocks, groups], rows of each block per group of the feature's values.
        places: Number of each block on an even grid of time, rising; gaps are blocks without rows.
        period: Blocks per round, gaps included; at least 2.
    """
    rounds = min(int(places[-1] - places[0]) + 1, LONGEST) // period
    if rounds < FEWEST_ROUNDS:
        return None
    span = rounds * period
    recent = places > places[-1] - span
    counts, at = counts[recent], (places[recent] - (places[-1] - span + 1)).astype(np.intp)
    used = (counts.sum(axis=1) > 0).nonzero()[0]
    counts, at = counts[used], at[used]
    if len(at) < 2 * FEWEST_ROUNDS or (counts.sum(axis=0) > 0).sum() < 2:
        return None
    apart = _distances(counts)
    spectrum = np.fft.rfft(_even(apart, counts.sum(axis=1), at, span), axis=0)
    power = (np.abs(spectrum) ** 2).sum(axis=1)
    if not power[1:].max(initial=0.0) > 1e-12:
        return None
    lines = np.arange(rounds, span // 2 + 1, rounds)
    p_value, net = _test(spectrum, power, lines, rounds)
    slow = rounds // 2  # slower than two rounds is no part of what a cycle could explain
    explained = float(np.clip(net / power[slow + 1 :].sum(), 0.0, 1.0))
    return Cycle(p_value, explained, _size(apart, at % period))


def _distances(counts: Ints) -> Floats:
    """Return how far each block's shares are from the pooled ones; squares add up to its chi-square."""
    pooled = counts.sum(axis=0) / counts.sum()
    kept = pooled > 0
    shares = counts[:, kept] / counts.sum(axis=1, keepdims=True)
    apart: Floats = (shares - pooled[kept]) / np.sqrt(pooled[kept])
    return apart


def _even(apart: Floats, rows: Ints, at: NDArray[np.intp], span: int) -> Floats:
    """Return the series without its trend (a parabola) on the even grid, zero where there is no block.

    Blocks of few rows weigh less, by a variance half of which does not shrink with the rows.
    """
    weight = 1 / np.sqrt(1 + np.median(rows) / rows)
    line = np.vander(at / span, 3) * weight[:, None]
    series = apart * weight[:, None]
    fit, *_ = np.linalg.lstsq(line, series, rcond=None)
    even = np.zeros((span, apart.shape[1]))
    even[at] = series - line @ fit
    return even


def _test(
    spectrum: NDArray[np.complex128], power: Floats, lines: NDArray[np.intp], rounds: int
) -> tuple[float, float]:
    """Return the p-value and the power of the lines beyond what lies around them."""
    from scipy.special import fdtrc

    last = len(power) - 1
    full = np.full(len(power), 2.0)  # degrees of freedom: sine and cosine
    if lines[-1] == last:  # an even period: of the fastest line only the cosine is there
        full[last] = 1.0
    around = {}
    for line in lines:
        near = np.arange(max(1, line - AROUND), min(last, line + AROUND) + 1)
        around[line] = near[near % rounds != 0]
    free = _free_directions(spectrum[np.unique(np.concatenate(list(around.values())))])
    p_value, net = 1.0, 0.0
    for line, near in around.items():
        noise = power[near].sum() / full[near].sum()
        net += power[line] - full[line] * noise
        ratio = power[line] / full[line] / noise if noise > 0 else np.inf
        found = fdtrc(full[line] * free, full[near].sum() * free, ratio) if np.isfinite(ratio) else 0.0
        p_value = min(p_value, float(found) * len(lines))
    return p_value, float(net)


def _free_directions(noise: NDArray[np.complex128]) -> float:
    """Return in how many directions the groups vary freely: 1 when they all move as one, so at the least."""
    spread = np.linalg.eigvalsh((noise.conj().T @ noise).real)
    return float(max(spread.sum() / spread[-1], 1.0)) if spread[-1] > 0 else 1.0


def _size(apart: Floats, slots: NDArray[np.intp]) -> float:
    """Return the largest distance of a slot's mean, less what the spread within the slot explains."""
    largest = 0.0
    for slot in np.unique(slots):
        mine = apart[slots == slot]
        if len(mine) >= FEWEST_ROUNDS:
            chance = mine.var(axis=0, ddof=1).sum() / len(mine)
            largest = max(largest, float((mine.mean(axis=0) ** 2).sum() - chance))
    return largest
