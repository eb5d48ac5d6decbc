"""Two models compared slice by slice: a better average must not hide a group that is served worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import Interval, percentile_interval, resample
from tasks.core.evaluation.scoring import Scored, Statistic, all_labels, statistic
from tasks.core.evaluation.verdicts import SliceResult
from tasks.core.spec_gate import Gate

MOST_SLICES = 50  # per column, largest first; our choice: beyond it a column is no grouping


def compare_slices(
    challenger: Scored,
    champion: Scored,
    slices: Mapping[str, NDArray[Any]],  # Any: values may be of any type
    *,
    metric: str,
    positive: Any,
    gate: Gate,
    seed: int,
    resamples: int,
) -> tuple[SliceResult, ...]:
    """Return the paired difference on every slice of at least `gate.min_rows` rows, by column, largest first.

    The intervals share `gate.confidence` between them (Bonferroni), so that many harmless slices do not
    block a promotion by chance.
    """
    parts = [(name, *group) for name, values in slices.items() for group in _groups(values, gate.min_rows)]
    labels = all_labels([challenger, champion])
    found = []
    for column, value, rows in parts:
        pair = [
            statistic(take(one, rows), metric, positive=positive, labels=labels)
            for one in (challenger, champion)
        ]
        confidence = 1 - (1 - gate.confidence) / len(parts)
        gap = _difference(pair, len(rows), confidence, seed=seed, resamples=resamples)
        is_worse = gap.high < 0 and gap.value < -gate.margin
        outcome: Literal["ok", "worse", "undecided"] = "worse" if is_worse else "ok"
        outcome = outcome if gap.is_known else "undecided"
        found.append(SliceResult(column, value, len(rows), gap.value, gap.low, gap.high, outcome))
    return tuple(found)


def _difference(
    pair: list[Statistic], rows: int, confidence: float, *, seed: int, resamples: int
) -> Interval:
    value = pair[0](None) - pair[1](None)
    if not np.isfinite(value):
        return Interval(float("nan"), float("nan"), float("nan"))
    draws = resample(pair, rows, seed=seed, resamples=resamples)
    return percentile_interval(value, draws[:, 0] - draws[:, 1], confidence)


def take(scored: Scored, rows: NDArray[np.int64]) -> Scored:
    """Return the answers on some of the rows."""
    probabilities = None if scored.probabilities is None else scored.probabilities[rows]
    return Scored(scored.y_true[rows], scored.prediction[rows], probabilities, scored.classes)


def _groups(values: NDArray[Any], least: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    codes, uniques = pd.factorize(np.asarray(values))
    counts = np.bincount(codes[codes >= 0], minlength=len(uniques))
    for code in np.argsort(-counts, kind="stable")[:MOST_SLICES]:
        if counts[code] >= least:
            yield str(uniques[code]), np.flatnonzero(codes == code)
