"""How far the labels of the compared rows lie from those the challenger has learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from tasks.core.evaluation.evidence import TrainLabels
from tasks.core.evaluation.verdicts import NAN, GuardResult

_KS_BY_CHANCE = 0.8687  # mean of the Kolmogorov distribution, sqrt(pi / 2) * ln 2


def judge_label_shift(
    train: TrainLabels | None,
    compared: NDArray[Any],  # Any: labels may be of any type
    most: float | None,
    *,
    numbers: bool,
) -> GuardResult | None:
    """Return the distance of the two label distributions, from 0 to 1, `worse` above `most`.

    Total variation of classes; of `numbers`, the Kolmogorov-Smirnov distance. The distance that chance alone
    gives between samples of these sizes is taken off, because a hundred rows of many classes lie far from
    anything. None without a limit or without labels; `undecided` for numbers of which only shares are known.

    Example:
        >>> found = judge_label_shift({"no": 0.7, "yes": 0.3}, np.array(["no"] * 2000), 0.2, numbers=False)
        >>> found.outcome, round(found.value, 2)
        ('worse', 0.29)
    """
    if most is None or train is None or not len(compared) or not len(train):
        return None
    if numbers and isinstance(train, Mapping):
        detail = "the distribution of the training labels is not known"
        return GuardResult("label shift", "undecided", NAN, most, detail)
    distance, chance = _of_numbers(train, compared) if numbers else _of_classes(train, compared)
    value = max(0.0, distance - chance)
    kind = "Kolmogorov-Smirnov distance" if numbers else "total variation"
    detail = f"labels {value:.1%} away from those of training ({kind}, beyond chance), limit {most:.1%}"
    return GuardResult("label shift", "worse" if value > most else "ok", value, most, detail)


def _of_classes(train: TrainLabels, compared: NDArray[Any]) -> tuple[float, float]:
    """Return total variation, and its mean under equal distributions (normal approximation, per class)."""
    if isinstance(train, Mapping):
        before, trained = pd.Series(dict(train), dtype=np.float64), np.inf
    else:
        before, trained = pd.Series(np.asarray(train)).value_counts().astype(np.float64), float(len(train))
    now = pd.Series(np.asarray(compared)).value_counts().astype(np.float64)
    old, new = (before / before.sum()).align(now / now.sum(), fill_value=0.0)
    pooled = (old + new) / 2
    spread = pooled * (1 - pooled) * (1 / len(compared) + 1 / trained)
    chance = 0.5 * np.sqrt(2 / np.pi * spread).sum()
    return float((old - new).abs().sum() / 2), float(chance)


def _of_numbers(train: Any, compared: NDArray[Any]) -> tuple[float, float]:  # Any: an array of numbers
    before, now = np.asarray(train, dtype=np.float64), np.asarray(compared, dtype=np.float64)
    before = before[np.isfinite(before)]
    if not len(before):
        return 1.0, 0.0
    distance = ks_2samp(before, now, method="asymp").statistic
    return float(distance), float(_KS_BY_CHANCE * np.sqrt(1 / len(before) + 1 / len(now)))
