"""What every champion loses on one labelled window, and which earlier one deserves half the vote.

An earlier champion is the partner of the newest when it loses least on the window, and by more than one
standard error of the paired difference, with rows in clusters. That is no proof that it is better: half a
vote costs little where the earlier one was lucky, and saves much where the newest learnt from a passing state
or from wrong labels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.scoring import Scored, encode

Floats = NDArray[np.float64]

REACH = 1.0
"""Standard errors by which the partner must be ahead. Our choice: at 0 chance alone names a partner in half
of all windows, at 2 a recurring state is noticed a window or two too late."""


@dataclass(frozen=True)
class SecondOpinion:
    """Which champions did how well on one window, and who should answer beside the newest.

    Attributes:
        partner: The earlier champion that should have half the vote; None: the newest answers alone.
        losses: Loss of each version that could be scored, lower is better.
        gap: Loss of the newest minus that of the best earlier one; NaN where nothing could be compared.
        standard_error: Of the gap, rows in clusters.
        rows: Labelled rows of the window.
        decided: False where the window could not tell (too few rows, nothing to compare): then whatever
            serves goes on serving.
        reason: The same in words.
    """

    partner: int | None
    losses: Mapping[int, float]
    gap: float
    standard_error: float
    rows: int
    decided: bool
    reason: str


def row_losses(scored: Scored, metric: str) -> Floats:
    """Return the loss of every row, lower is better; NaN where an answer is not a number.

    A classifier's is the Brier score of the row's probabilities (half the squared distance from the truth, so
    0 to 1), whatever the metric: it is proper, exists in a window with one class, and tells two models apart
    with a fraction of the rows that errors counted one by one would take. Without probabilities it is 1 for a
    wrong label. A regression's is the absolute error where the metric is one of absolute errors, else the
    squared error.

    Source: Brier, Monthly Weather Review 78 (1950).

    Example:
        >>> row_losses(Scored(np.array([1, 0]), np.array([1, 1]), np.array([[0.2, 0.8], [0.4, 0.6]]), (0, 1)),
        ...            "accuracy").round(2).tolist()
        [0.04, 0.36]
    """
    if metric in REGRESSION:
        error = np.asarray(scored.prediction, np.float64) - np.asarray(scored.y_true, np.float64)
        return np.abs(error) if "absolute" in metric or "max_error" in metric else error**2
    if scored.probabilities is None or scored.classes is None:
        return np.asarray(np.asarray(scored.prediction) != np.asarray(scored.y_true), np.float64)
    truth = encode(scored.y_true, scored.classes)
    given = np.asarray(scored.probabilities, np.float64)
    truths = np.eye(len(scored.classes) + 1)[truth, :-1]  # an unknown class (-1) is no class at all
    distances: Floats = np.asarray(((given - truths) ** 2).sum(axis=1) / 2, np.float64)
    return distances


def choose_partner(
    answers: Mapping[int, Scored],
    newest: int,
    metric: str,
    codes: NDArray[Any],  # Any: integers of any width
    *,
    min_rows: int = 2,
    excluded: Collection[int] = (),
    combinable: Collection[int] | None = None,
    reach: float = REACH,
) -> SecondOpinion:
    """Return the losses of all versions on these rows, and the partner of the newest.

    Args:
        answers: By version, the answers to the same rows in the same order; none of the versions has learnt
            any of them.
        newest: The champion; without its answers nothing is decided.
        metric: A scikit-learn scorer name.
        codes: The cluster of each row; see `clusters.cluster_codes`.
        min_rows: Fewest rows that decide anything.
        excluded: Versions that may not be the partner: withdrawn by a person, or rolled back from.
        combinable: Versions whose answers have a mean with the newest's; default: all.
        reach: Standard errors by which the partner must be ahead.
    """
    each = {version: row_losses(scored, metric) for version, scored in answers.items()} if len(codes) else {}
    losses = {version: float(loss.mean()) for version, loss in each.items() if np.isfinite(loss).all()}
    rows = len(codes)
    earlier = [
        version
        for version in losses
        if version != newest and version not in excluded and (combinable is None or version in combinable)
    ]
    if rows < min_rows or newest not in losses:
        why = (
            f"{rows} labelled rows, {min_rows} are needed"
            if rows < min_rows
            else "the newest has no score here"
        )
        return SecondOpinion(None, losses, math.nan, math.nan, rows, False, why)
    if not earlier:
        why = "no earlier champion to compare with"
        return SecondOpinion(None, losses, math.nan, math.nan, rows, True, why)
    best = min(earlier, key=lambda version: (losses[version], -version))
    gap, error = losses[newest] - losses[best], clustered_error(each[newest] - each[best], codes)
    if not math.isfinite(error):
        why = "the difference has no standard error on these rows"
        return SecondOpinion(None, losses, gap, math.nan, rows, False, why)
    is_ahead = gap > 0 and gap > reach * error
    ahead = f"version {best} lost {gap:.4g} {'less' if gap > 0 else 'more'} than version {newest}"
    why = f"{ahead} on {rows} newest labels, standard error {error:.2g}"
    return SecondOpinion(best if is_ahead else None, losses, gap, error, rows, True, why)


def clustered_error(values: Floats, codes: NDArray[Any]) -> float:  # Any: integers of any width
    """Return the standard error of the mean of these values when rows come in clusters.

    NaN with fewer than two clusters.

    Source: the ratio estimator of a mean over clusters, Cochran, Sampling Techniques (1977), section 9A.2.
    """
    clusters = np.unique(codes, return_inverse=True)[1]
    count = int(clusters.max(initial=-1)) + 1
    if count < 2:
        return math.nan
    totals = np.bincount(clusters, weights=values - values.mean())
    return math.sqrt(count / (count - 1) * float(totals @ totals)) / len(values)


def money_loss(scored: Scored, outcomes: Mapping[str, float]) -> float:
    """Return what the answers cost beside perfect ones, in the unit of the values; 0 where nothing is valued.

    Args:
        scored: Labels beside predictions.
        outcomes: Value of a row by "label>prediction"; pairs that are not named are worth 0.

    Example:
        >>> money_loss(Scored(np.array([1, 0]), np.array([0, 0])), {"1>1": 5.0, "1>0": -20.0})
        25.0
    """
    total = 0.0
    labels = tuple(dict.fromkeys([*scored.y_true.tolist(), *scored.prediction.tolist()]))
    truth, answers = encode(scored.y_true, labels), encode(scored.prediction, labels)
    cells = np.bincount(truth * len(labels) + answers, minlength=len(labels) ** 2)
    for place, count in enumerate(cells.reshape(len(labels), len(labels))):
        label = labels[place]
        perfect = outcomes.get(f"{label}>{label}", 0.0)
        total += sum(
            int(rows) * (perfect - outcomes.get(f"{label}>{labels[other]}", 0.0))
            for other, rows in enumerate(count)
        )
    return total
