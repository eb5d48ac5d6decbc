"""Whether whole rows of two samples can be told apart: multivariate drift by a domain classifier.

A classifier learns to tell reference rows from current ones. Where it does better than chance on rows that
it has not seen, the samples differ, in single columns or in how columns go together.

Source: Lopez-Paz & Oquab, Revisiting classifier two-sample tests, 2017; Rabanser, Günnemann & Lipton, Failing
loudly, 2019. How p-values of folds are put together is our own: each part of the rows is judged by a
classifier of the parts before it only (prequential, Dawid 1984). Without drift each part's score is then
standard normal whatever the parts before showed, so their weighted sum is too, exactly; the scores of
ordinary cross-validation depend on each other, and any bound that holds for them all costs half the power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.values import Floats
from tasks.core.drift.measures.base import Reading
from tasks.core.drift.rows.interactions import Codes, Interactions, learn_interactions

MOST_ROWS = 5_000  # a side
MOST_COLUMNS = 100  # beyond it the columns that differ most in the rows learnt from
PAIRS = 6
PARTS = 4  # our choice: of 2 to 5 the most powerful on shifts and on changed correlations
FEWEST = 200  # rows a side: the first classifier learns from a quarter of them
LEANT_FROM = 0.05  # p-value from which it is worth asking what the classifier leant on
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Classifier:
    """What was learnt from some rows: which columns matter, which pairs, and trees over both."""

    columns: NDArray[np.intp]
    pairs: Interactions
    trees: Any  # Any: a fitted classifier

    def scores(self, codes: Codes) -> Floats:
        """Return how much each row looks like a current one."""
        mine = codes[:, self.columns]
        said: Floats = self.trees.decision_function(np.hstack([mine, self.pairs.columns(mine)]))
        return said


def domain_reading(
    reference_codes: Codes,
    current_codes: Codes,
    names: Sequence[str],
    *,
    seed: int = 0,
    blocks: NDArray[np.integer[Any]] | None = None,  # Any: numpy's own precision parameter
) -> tuple[Reading, tuple[str, ...]]:
    """Return how well whole rows can be told apart, and the columns the classifier leant on most.

    The reading's value is the area under the ROC curve on rows not learnt from, 0.5 when nothing differs;
    its p-value that of a one-sided Mann-Whitney test; neither is told of fewer than 200 rows a side. The
    columns are told from p = 0.05 down, at most five.

    Args:
        reference_codes: Whole numbers, [rows, columns]: each cell's number, and -1 (null) and -2 (invalid),
            which are values like any other. At most 5,000 rows are used, drawn by the seed.
        current_codes: Likewise.
        names: Of the columns.
        seed: Of every draw.
        blocks: Of each reference row the stretch of time, as long as a window, that it is of. To be given
            where rows depend on each other: what looks like a difference (p below 0.05) is then held against
            single blocks in the window's place (see `blockwise_reading`), and the larger p-value counts.

    Raises:
        ValueError: when the columns do not fit each other.
    """
    _check(reference_codes, current_codes, names)
    rng = np.random.default_rng(seed)
    sides = [_drawn(side, rng) for side in (reference_codes, current_codes)]
    if min(len(side) for side in sides) < FEWEST:
        return Reading(None, note=f"fewer than {FEWEST} rows to tell apart"), ()
    told = tell_apart(sides[0], sides[1], seed)
    p_value = told.reading.p_value or 0.0
    if p_value >= LEANT_FROM:
        return told.reading, ()
    leaning = lean(told, names, seed)
    if blocks is None:
        return told.reading, leaning
    from tasks.core.drift.rows.blockwise import blockwise_reading

    reading = blockwise_reading(reference_codes, current_codes, blocks, seed=seed)
    return replace(reading, p_value=_larger(reading.p_value, p_value)), leaning


@dataclass(frozen=True, eq=False)
class Told:
    """How well two samples were told apart, and the last classifier with the rows it was tried on."""

    reading: Reading
    classifier: _Classifier
    codes: Codes
    is_current: Flags


def tell_apart(reference: Codes, current: Codes, seed: int) -> Told:
    """Return how well the rows of both samples can be told apart, by parts as the module says."""
    codes = np.vstack([reference, current])
    is_current = np.arange(len(codes)) >= len(reference)
    part = _parts(is_current, np.random.default_rng(seed))
    z, auc, weights = [], [], []
    for tried in range(1, PARTS):
        learnt, judged = part < tried, part == tried
        classifier = _learn(codes[learnt], is_current[learnt], seed)
        area, score = mann_whitney(classifier.scores(codes[judged]), is_current[judged])
        z.append(score)
        auc.append(area)
        weights.append(float(tried))  # what a part can show grows with the rows its classifier learnt from
    share = np.array(weights)
    total = float(np.sqrt(share) @ np.array(z) / np.sqrt(share.sum()))
    reading = Reading(float(share @ np.array(auc) / share.sum()), _upper_tail(total), total)
    return Told(reading, classifier, codes[judged], is_current[judged])


def mann_whitney(scores: Floats, is_current: Flags) -> tuple[float, float]:
    """Return the area under the ROC curve and its z-score without drift; ties count half.

    Source: Mann & Whitney 1947; correction for ties as in Lehmann, Nonparametrics, 1975.
    """
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    m = int(is_current.sum())
    n = len(scores) - m
    area = (float(ranks[is_current].sum()) - m * (m + 1) / 2) / (n * m)
    _, ties = np.unique(scores, return_counts=True)
    total = n + m
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1))
    variance = (total + 1 - tied) / (12 * n * m)
    return area, (area - 0.5) / float(np.sqrt(variance)) if variance > 1e-12 else 0.0


def lean(told: Told, names: Sequence[str], seed: int) -> tuple[str, ...]:
    """Return at most five columns without whose values the classifier does clearly worse, worst first.

    Source: permutation importance on held-out rows, Breiman, Random forests, 2001.
    """
    rng = np.random.default_rng(seed)
    whole = mann_whitney(told.classifier.scores(told.codes), told.is_current)[0]
    order = rng.permutation(len(told.codes))
    losses = {}
    for column in told.classifier.columns.tolist():
        shuffled = told.codes.copy()
        shuffled[:, column] = shuffled[order, column]
        losses[names[column]] = whole - mann_whitney(told.classifier.scores(shuffled), told.is_current)[0]
    ranked = sorted(losses, key=lambda name: (-losses[name], name))
    return tuple(name for name in ranked[:5] if losses[name] > max(0.005, 0.1 * (whole - 0.5)))


def _check(reference: Codes, current: Codes, names: Sequence[str]) -> None:
    if reference.ndim != 2 or current.ndim != 2 or not reference.shape[1] == current.shape[1] == len(names):
        raise ValueError("samples of other columns than named")


def _drawn(codes: Codes, rng: np.random.Generator) -> Codes:
    if len(codes) <= MOST_ROWS:
        return codes
    return codes[np.sort(rng.choice(len(codes), MOST_ROWS, replace=False))]


def _parts(is_current: Flags, rng: np.random.Generator) -> NDArray[np.int64]:
    part = np.empty(len(is_current), dtype=np.int64)
    for side in (False, True):
        rows = rng.permutation(np.flatnonzero(is_current == side))
        part[rows] = np.arange(len(rows)) * PARTS // len(rows)
    return part


def _learn(codes: Codes, is_current: Flags, seed: int) -> _Classifier:
    from sklearn.ensemble import HistGradientBoostingClassifier

    columns = _most_different(codes, is_current)
    mine = codes[:, columns]
    pairs = learn_interactions(mine, is_current, PAIRS)
    trees = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, class_weight="balanced", early_stopping=False, random_state=seed
    )
    return _Classifier(columns, pairs, trees.fit(np.hstack([mine, pairs.columns(mine)]), is_current))


def _most_different(codes: Codes, is_current: Flags) -> NDArray[np.intp]:
    if codes.shape[1] <= MOST_COLUMNS:
        return np.arange(codes.shape[1], dtype=np.intp)
    means = [codes[rows].mean(axis=0) for rows in (~is_current, is_current)]
    spread = np.maximum(codes.std(axis=0), 1e-12)
    return np.sort(np.argsort(-np.abs(means[1] - means[0]) / spread, kind="stable")[:MOST_COLUMNS])


def _larger(p_value: float | None, other: float) -> float | None:
    return None if p_value is None else max(p_value, other)


def _upper_tail(z: float) -> float:
    from scipy.special import ndtr

    return float(ndtr(-z))
