"""Why two models' answers allow no judgement: other rows, rows already learnt from, numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.evidence import AnchorEvidence, GateEvidence, PairedScores
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.weighing import effective_rows
from tasks.core.spec_gate import Gate

_ROUNDING = 1e-6
_OFF_ONE = 1e-3  # our choice: single precision stays far below, a model that is not calibrated to 1 far above
_ONE_ROW = "neg_max_error"


def faults_of(evidence: GateEvidence, gate: Gate) -> list[str]:
    """Return why these rows cannot settle the matter; empty when they can."""
    mine, theirs = evidence.challenger, evidence.champion
    rows, found = len(mine.scored.y_true), [evidence.trouble] if evidence.trouble else []
    if evidence.metric == _ONE_ROW:
        other = "neg_root_mean_squared_error or neg_median_absolute_error"
        found.append(f"{_ONE_ROW} rests on one row, whose chance nothing can tell: use {other}")
    found += _too_few(evidence.weights, rows, gate)
    if len(mine.keys) != rows:
        found.append("the challenger's keys, labels and predictions differ in number")
    numbers = evidence.metric in REGRESSION
    found += unusable(mine.scored, "challenger", numbers=numbers)
    found += [*_per_row(evidence, rows), *_anchor(evidence.anchor, numbers=numbers)]
    if theirs is not None:
        return [
            *found,
            *unusable(theirs.scored, "champion", numbers=numbers),
            *_unfair(evidence, mine, theirs),
        ]
    if evidence.baseline is None:
        return [*found, "no champion and no baseline to compare with"]
    return [*found, *unusable(evidence.baseline, "guess", numbers=numbers)]


def _too_few(weights: NDArray[Any] | None, rows: int, gate: Gate) -> list[str]:
    """Return that the rows are fewer than a comparison needs, by number or by what they weigh."""
    if rows < gate.min_rows:
        return [f"{rows} unseen rows, fewer than the {gate.min_rows} a comparison may rest on"]
    if weights is None or [*_weights(weights, rows, "rows")]:
        return []
    if (left := effective_rows(_as_numbers(weights), rows)) >= gate.min_rows:
        return []
    counted = f"{left:,.4g} effective rows (of {rows:,}, by their weights)"
    return [f"{counted}, fewer than the {gate.min_rows} a comparison may rest on: see gate.weight"]


def unusable(scored: Scored, who: str, *, numbers: bool = False) -> list[str]:
    """Return what is wrong with one model's answers: their number, shape, or values that are no numbers."""
    rows, chances = len(scored.y_true), scored.probabilities
    if len(scored.prediction) != rows or (chances is not None and len(chances) != rows):
        return [f"the {who}'s labels, predictions and probabilities differ in number"]
    found = []
    for name, values in (("label", scored.y_true), ("prediction", scored.prediction)):
        if count := _not_values(values, numbers=numbers):
            found.append(f"{count} {name}s beside the {who} are missing or not finite")
    if chances is None:
        return found
    if chances.ndim != 2 or (scored.classes is not None and chances.shape[1] != len(scored.classes)):
        return [*found, f"the {who}'s probabilities do not have one column per class"]
    if count := _not_values(chances):
        found.append(f"{count} probabilities of the {who} are missing or not finite")
    elif rows and (chances.min() < -_ROUNDING or chances.max() > 1 + _ROUNDING):
        found.append(f"probabilities of the {who} lie outside 0 to 1")
    elif count := int((np.abs(chances.sum(axis=1) - 1) > _OFF_ONE).sum()):
        found.append(f"{count:,} rows of the {who}'s probabilities do not sum to 1")
    return found


def _not_values(values: NDArray[Any], *, numbers: bool = False) -> int:
    """Return how many are missing or not finite; of `numbers`, text that is none counts too."""
    array = _as_numbers(values) if numbers else np.asarray(values)
    if array.dtype.kind == "f":
        return int((~np.isfinite(array)).sum())
    if array.dtype.kind in "biuUS":
        return 0
    return int(pd.isna(array).sum())


def _as_numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values as floats, NaN for what is no number: an error would print it."""
    return np.asarray(pd.to_numeric(pd.Series(np.asarray(values)), errors="coerce"), dtype=np.float64)


def _per_row(evidence: GateEvidence, rows: int) -> Iterator[str]:
    """Yield what is wrong with the arrays that go with the rows."""
    if (weights := evidence.weights) is not None:
        yield from _weights(weights, rows, "rows")
    for kind, parts in (("slice", evidence.slices), ("group", evidence.groups)):
        for column, values in parts.items():
            if len(values) != rows:
                yield f"{kind} {column} has {len(values)} values for {rows} rows"
    if evidence.clusters is not None and len(evidence.clusters) != rows:
        yield f"{len(evidence.clusters)} clusters for {rows} rows"
    if (worth := evidence.worth) is None:
        return
    if evidence.champion is not None and worth.champion is None:
        yield "the worth of the champion's answers is not known"
    for who, each in (("challenger", worth.challenger), ("champion", worth.champion)):
        if each is None:
            continue
        if len(each) != rows:
            yield f"the worth of the {who}'s answers is given for {len(each)} of {rows} rows"
        elif count := _not_values(each, numbers=True):
            yield f"the worth of {count} of the {who}'s answers is missing or not finite: see gate.value"


def _weights(weights: NDArray[Any], rows: int, what: str) -> Iterator[str]:
    given = _as_numbers(weights)
    if len(given) != rows:
        yield f"{len(given)} weights for {rows} {what}"
    elif not np.isfinite(given).all() or (given < 0).any() or not given.sum() > 0:
        yield f"the weights of the {what} are negative, not finite, or all zero: see gate.weight"


def _unfair(evidence: GateEvidence, mine: PairedScores, theirs: PairedScores) -> Iterator[str]:
    """Yield why the two are not compared alike."""
    if mine.model_id and mine.model_id == theirs.model_id:
        yield "challenger and champion are the same version"
    if _know_nothing_alike(mine.scored, theirs.scored):
        yield "the champion knows none of these labels (their type has changed, perhaps)"
    if not _same_rows(mine, theirs):
        yield "challenger and champion were scored on different rows"
    if evidence.overlap > 0:
        yield f"the champion was trained on {evidence.overlap} of the compared rows (their keys are the same)"
    if evidence.champion_train_end is None or evidence.first_row is None:
        yield "it is not known up to when the champion has learnt"
    elif evidence.first_row < evidence.champion_train_end:
        yield "the champion has learnt from some of the compared rows"


def _know_nothing_alike(one: Scored, other: Scored) -> bool:
    return bool(one.classes and other.classes) and not set(one.classes or ()) & set(other.classes or ())


def _same_rows(one: PairedScores, other: PairedScores) -> bool:
    if len(one.keys) != len(other.keys) or len(one.scored.y_true) != len(other.scored.y_true):
        return False
    return bool(
        np.array_equal(one.keys, other.keys) and np.array_equal(one.scored.y_true, other.scored.y_true)
    )


def _anchor(anchor: AnchorEvidence | None, *, numbers: bool) -> Iterator[str]:
    """Yield why the trusted rows cannot speak; what cannot be read might have spoken against it."""
    if anchor is None:
        return
    if anchor.trouble:
        yield f"the anchor: {anchor.trouble}"
        return
    if anchor.challenger is None:
        yield "the anchor: the challenger was not scored on it"
        return
    if anchor.rows_shared > 0:
        yield f"the challenger was trained on {anchor.rows_shared} rows of the anchor"
    yield from (f"the anchor: {one}" for one in unusable(anchor.challenger, "challenger", numbers=numbers))
    if anchor.weights is not None:
        yield from _weights(anchor.weights, len(anchor.challenger.y_true), "anchor's rows")
    if anchor.keeper is None:
        return
    yield from (f"the anchor: {one}" for one in unusable(anchor.keeper, "keeper", numbers=numbers))
    if not np.array_equal(anchor.challenger.y_true, anchor.keeper.y_true):
        yield "the anchor: challenger and keeper were scored on different rows"
