"""Which rows of a holdout become a model's frozen trusted set."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.model.columns import number_column
from tasks.core.model.labels import labels_of
from tasks.core.spec import ModelSpec

RARE_ROWS = 5  # our choice: of every class at least so many, where there are
_CLASSES = 2


def choose_anchor(spec: ModelSpec, holdout: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return at most `gate.anchor.rows` rows, and why there are none where they would not be enough.

    The rows are spread evenly over time, within every class of a classification by its share, so that the
    anchor is neither of one moment nor of one class. The same holdout gives the same rows. Rows that could
    never be judged are passed over: with infinite features, or a weight that is none.

    Args:
        spec: Names the columns and the size.
        holdout: Labelled rows that no version has learnt from.
    """
    none, most, least = holdout.iloc[:0], spec.gate.anchor.rows, spec.gate.min_rows
    if missing := missing_columns(spec, holdout):
        return none, f"no column {', '.join(missing)[:100]}"
    fit = holdout[_can_be_judged(spec, holdout)]
    ordered = fit.sort_values([spec.source.timestamp, spec.source.key], kind="stable", ignore_index=True)
    if min(len(ordered), most) < least:
        return none, f"{min(len(ordered), most)} rows, fewer than gate.min_rows ({least})"
    if spec.task == "regression":
        return ordered.iloc[_spread(len(ordered), most)].reset_index(drop=True), ""
    codes, classes = pd.factorize(labels_of(ordered, spec))
    if len(classes) < _CLASSES:
        return none, "rows of one class only"
    counts = np.bincount(codes)
    chosen = [
        np.flatnonzero(codes == code)[_spread(int(count), wanted)]
        for code, (count, wanted) in enumerate(zip(counts, _shares(counts, most), strict=True))
    ]
    return ordered.iloc[np.sort(np.concatenate(chosen))].reset_index(drop=True), ""


def missing_columns(spec: ModelSpec, rows: pd.DataFrame) -> list[str]:
    """Return what the spec's models are judged by and these rows lack, as after a feature was added."""
    source, weight = spec.source, spec.gate.weight
    needed = [source.key, source.timestamp, spec.label.column, *spec.features.all]
    return [name for name in [*needed, *([weight] if weight else [])] if name not in rows]


def infinite_in(spec: ModelSpec, rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return which rows hold infinite values, by numeric feature; only features that have some."""
    found = {}
    for name in spec.features.numeric:
        try:
            flags = np.isinf(number_column(rows[name]))
        except (TypeError, ValueError):  # for the model to refuse
            continue
        if flags.any():
            found[name] = flags
    return found


def _can_be_judged(spec: ModelSpec, rows: pd.DataFrame) -> NDArray[np.bool_]:
    fit = np.ones(len(rows), dtype=bool)
    for flags in infinite_in(spec, rows).values():
        fit &= ~flags
    if spec.gate.weight is not None:
        weights = pd.to_numeric(rows[spec.gate.weight], errors="coerce").to_numpy(dtype=np.float64)
        fit &= np.isfinite(weights) & (weights >= 0)
    return fit


def _spread(rows: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of these positions, evenly spaced, the first and the last among them."""
    places: NDArray[np.int64] = np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64)
    return np.unique(places)


def _shares(counts: NDArray[np.int64], most: int) -> list[int]:
    """Return how many rows of each class make up the anchor: by share, and a few of the rarest too."""
    if counts.sum() <= most:
        return [int(count) for count in counts]
    wanted = [max(int(count * most / counts.sum()), min(int(count), RARE_ROWS)) for count in counts]
    largest = int(counts.argmax())  # it makes room for the rare ones, and takes what rounding left
    wanted[largest] = min(max(wanted[largest] + most - sum(wanted), 1), int(counts[largest]))
    return wanted
