"""Two models compared slice by slice: a better average must not hide a group that is served worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.clusters import FEWEST_CLUSTERS
from tasks.core.evaluation.margins import margin_of
from tasks.core.evaluation.paired.compare import compare
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.scoring import Scored, all_labels
from tasks.core.evaluation.verdicts import SliceResult, Verdict
from tasks.core.evaluation.weighing import effective_rows
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
    weights: NDArray[np.float64] | None = None,
    codes: NDArray[Any] | None = None,  # Any: integers of any width
) -> tuple[SliceResult, ...]:
    """Return the paired difference on every slice that is large enough, by column, largest first.

    Large enough are `gate.min_rows` effective rows. Of a regression's errors the margin is a share of the
    champion's error on the slice.

    The intervals share `gate.confidence` between them (Bonferroni), so that many harmless slices do not
    block a promotion by chance. A slice of fewer than five of the rows' clusters, such as one entity alone,
    is judged as independent rows.
    """
    parts = [
        (name, *group) for name, values in slices.items() for group in _groups(values, gate.min_rows, weights)
    ]
    labels = () if metric in REGRESSION else all_labels([challenger, champion])
    found = []
    for column, value, rows in parts:
        mine, theirs = (_knowing(take(one, rows), labels) for one in (challenger, champion))
        result = compare(
            mine,
            theirs,
            metric,
            confidence=1 - (1 - gate.confidence) / len(parts),
            seed=seed,
            positive=positive,
            resamples=resamples,
            weights=None if weights is None else weights[rows],
            codes=_clusters_of(codes, rows),
        )
        gap, margin = result.difference, margin_of(gate.margin, metric, result.theirs.value)
        is_worse = gap.high < 0 and gap.value < -margin
        outcome: Verdict = "worse" if is_worse else "ok"
        outcome = outcome if gap.is_known else "undecided"
        found.append(SliceResult(column, value, len(rows), gap.value, gap.low, gap.high, outcome))
    return tuple(found)


def _clusters_of(codes: NDArray[Any] | None, rows: NDArray[np.int64]) -> NDArray[Any] | None:
    if codes is None or len(np.unique(codes[rows])) < FEWEST_CLUSTERS:
        return None
    return codes[rows]


def _knowing(scored: Scored, labels: tuple[Any, ...]) -> Scored:
    """Return the answers of a model that knows all these classes: the slice's rows may lack one of them."""
    if not labels or scored.classes == labels:
        return scored
    if scored.probabilities is None or scored.classes is None:
        return replace(scored, classes=labels)
    given = np.asarray(scored.probabilities, dtype=np.float64)
    wider = np.zeros((len(given), len(labels)))
    wider[:, [labels.index(name) for name in scored.classes]] = given
    return replace(scored, probabilities=wider, classes=labels)


def take(scored: Scored, rows: NDArray[np.int64]) -> Scored:
    """Return the answers on some of the rows."""
    probabilities = None if scored.probabilities is None else scored.probabilities[rows]
    return Scored(scored.y_true[rows], scored.prediction[rows], probabilities, scored.classes)


def _groups(
    values: NDArray[Any], least: int, weights: NDArray[np.float64] | None
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    codes, uniques = pd.factorize(np.asarray(values))
    counts = np.bincount(codes[codes >= 0], minlength=len(uniques))
    for code in np.argsort(-counts, kind="stable")[:MOST_SLICES]:
        if counts[code] < least:
            return
        rows = np.flatnonzero(codes == code)
        if effective_rows(None if weights is None else weights[rows], len(rows)) >= least:
            yield str(uniques[code]), rows
