"""What the two models' answers are worth, row by row: the comparison in money."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tasks.core.evaluation.evidence import Worth
from tasks.core.evaluation.verdicts import NAN, GuardResult, ValueResult
from tasks.core.evaluation.weighing import effective_rows
from tasks.core.spec_gate import Gate

Floats = NDArray[np.float64]


def value_of(
    worth: Worth | None, gate: Gate, *, weights: NDArray[np.float64] | None = None
) -> ValueResult | None:
    """Return the mean worth per row of both models, and their difference with its paired t interval.

    The variance of a weighted mean is the linearised one; rows are taken as independent. NaN where there is
    no champion, or one row.
    Source: Cochran, Sampling Techniques (1977), section 6.3, for the variance of a ratio.
    """
    if worth is None:
        return None
    mine = np.asarray(worth.challenger, dtype=np.float64)
    each = np.ones(len(mine)) if weights is None else np.asarray(weights, dtype=np.float64)
    unit, own = gate.value.currency, _mean(mine, each)
    if worth.champion is None:
        return ValueResult(unit, own, NAN, NAN, NAN, NAN)
    theirs = np.asarray(worth.champion, dtype=np.float64)
    gains = mine - theirs
    rows, gain = effective_rows(each, len(gains)), _mean(gains, each)
    if rows < 2:
        return ValueResult(unit, own, _mean(theirs, each), gain, NAN, NAN)
    variance = float((each**2 * (gains - gain) ** 2).sum() / each.sum() ** 2) * rows / (rows - 1)
    half = float(stdtrit(rows - 1, 1 - (1 - gate.confidence) / 2)) * float(np.sqrt(variance))
    return ValueResult(unit, own, _mean(theirs, each), gain, gain - half, gain + half)


def judge_value(found: ValueResult | None, gate: Gate) -> GuardResult | None:
    """Return `worse` where a loss of worth is shown; None unless it decides, and there is a champion."""
    if found is None or not gate.value.decides or not np.isfinite(found.champion_per_row):
        return None
    unit = f" {found.currency}" if found.currency else ""
    gap = f"{found.difference:.4g}{unit} ({found.low:.4g} to {found.high:.4g})"
    detail = f"worth per row {found.per_row:.4g}{unit} against {found.champion_per_row:.4g}{unit}: {gap}"
    if not np.isfinite([found.low, found.high]).all():
        return GuardResult("value", "undecided", found.difference, 0.0, detail)
    return GuardResult("value", "worse" if found.high < 0 else "ok", found.difference, 0.0, detail)


def _mean(values: Floats, weights: Floats) -> float:
    return float(weights @ values / weights.sum()) if len(values) else NAN
