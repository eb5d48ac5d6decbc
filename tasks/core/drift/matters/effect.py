"""How much a feature's drift moves the model's answers: the column is put back, and the model asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.counting.places import NULL, places_of
from tasks.core.drift.counting.sample import pick

if TYPE_CHECKING:
    from tasks.core.drift.profile import Reference
    from tasks.core.model.pipeline import Predictions
    from tasks.core.spec import ModelSpec

MOST_ROWS = 500
MOST_FEATURES = 10
Floats = NDArray[np.float64]


def effects_of(
    model: Any,  # Any: a fitted pipeline
    rows: pd.DataFrame,
    reference: Reference,
    names: Sequence[str],
    spec: ModelSpec,
    *,
    key: bytes | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Return by feature the mean absolute change of the model's answer when its drift is undone.

    Of a classifier, the change of its probabilities (from 0 to 1); of a regression, of its prediction, in the
    label's unit. Each row keeps its rank within the column, so that how columns hang together stays, and an
    unmoved column changes nearly nothing.

    Args:
        model: The champion.
        rows: Of the window; at most 500 seeded ones are used.
        reference: The champion's.
        names: Features that drifted, the most important first; at most ten are tried.
        spec: The model's spec.
        key: Secret under which sensitive categories are hashed.
        seed: Of rows and draws.
    """
    from tasks.core.model.pipeline import predict

    chosen = rows[spec.features.all].iloc[pick(len(rows), MOST_ROWS, seed)].reset_index(drop=True)
    bins = {cell.name: cell for cell in reference.bins}
    tried = [name for name in names if name in bins and name in chosen.columns][:MOST_FEATURES]
    if chosen.empty or not tried:
        return {}
    rng = np.random.default_rng(seed)
    now, effects = _answers(predict(model, chosen)), {}
    for name in tried:
        before = put_back(chosen[name], bins[name], reference.profile.features[name], rng, key=key)
        then = _answers(predict(model, chosen.assign(**{name: before})))
        effects[name] = float(np.abs(now - then).sum(axis=1).mean()) / (2 if now.shape[1] > 1 else 1)
    return effects


def put_back(
    column: pd.Series, bins: Bins, reference: Counts, rng: np.random.Generator, *, key: bytes | None = None
) -> pd.Series:
    """Return the column as it would stand had it not drifted from the reference, each row in its old rank.

    A category that the reference knew only as a hash, and that no row shows, cannot be put back; what the
    reference never had a value for stays as it is.
    """
    codes = places_of(bins, column, key=key).codes
    if not reference.values or not (codes >= 0).any():
        return column
    return (
        _numbers(column, codes, bins, reference, rng)
        if bins.kind == "numeric"
        else _categories(column, codes, bins, reference, rng)
    )


def _numbers(
    column: pd.Series, codes: NDArray[np.int64], bins: Bins, reference: Counts, rng: np.random.Generator
) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    there = codes >= 0
    ends = _ends(bins, values[there])
    inside = _inside(bins, values[there], codes[there], ends)
    if bins.values:
        inside = rng.random(int(there.sum()))  # rows of one value have no rank among each other
    now = np.bincount(codes[there], minlength=bins.cells) / there.sum()
    then = np.array(reference.cells) / reference.values
    rank = (np.cumsum(now) - now)[codes[there]] + inside * now[codes[there]]
    before = values.copy()
    before[there] = _at(rank, then, ends, bins)
    more = round(reference.nulls / reference.rows * len(values)) - int((codes == NULL).sum())
    if more > 0:
        before[rng.choice(np.flatnonzero(there), min(more, int(there.sum())), replace=False)] = np.nan
    elif more < 0:
        filled = rng.choice(np.flatnonzero(codes == NULL), -more, replace=False)
        before[filled] = _at(rng.random(-more), then, ends, bins)
    return pd.Series(before, index=column.index)


def _inside(bins: Bins, values: Floats, codes: NDArray[np.int64], ends: Floats) -> Floats:
    """Return how far into its cell each value lies, from 0 to 1; by rank where values pass the cell's end."""
    width = np.diff(ends)[codes]
    inside: Floats = np.clip((values - ends[codes]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    for cell, past in ((0, values < ends[0]), (bins.cells - 1, values > ends[-1])):
        if past.any():
            held = np.flatnonzero(codes == cell)
            inside[held[np.argsort(values[held], kind="stable")]] = (np.arange(len(held)) + 0.5) / len(held)
    return inside


def _ends(bins: Bins, values: Floats) -> Floats:
    """Return the ends of the cells, the outer ones closed by the reference's extremes or the rows' own."""
    edges = bins.edges or (float(values.max()),)
    low = min(edges[0], float(values.min()) if bins.low is None else bins.low)
    high = max(edges[-1], float(values.max()) if bins.high is None else bins.high)
    return np.array([low, *bins.edges, high])


def _at(rank: Floats, then: Floats, ends: Floats, bins: Bins) -> Floats:
    """Return the value at each rank, from 0 to 1, of the reference."""
    total = np.cumsum(then)
    last = int(np.flatnonzero(then)[-1])
    cell = np.minimum(np.searchsorted(total, rank, side="right"), last)
    inside = np.clip((rank - (total - then)[cell]) / then[cell], 0.0, 1.0)
    found: Floats = ends[cell] + inside * (ends[cell + 1] - ends[cell])
    if bins.values:
        known = np.searchsorted(bins.edges, bins.values, side="left")
        own = np.searchsorted(known, cell)
        fits = (own < len(known)) & (known[np.minimum(own, len(known) - 1)] == cell)
        found = np.where(fits, np.array(bins.values)[np.minimum(own, len(known) - 1)], found)
    return found


def _categories(
    column: pd.Series, codes: NDArray[np.int64], bins: Bins, reference: Counts, rng: np.random.Generator
) -> pd.Series:
    cells = bins.cells  # and one more for what is missing
    place = np.where(codes == NULL, cells, codes)
    usable = place >= 0
    now = np.bincount(place[usable], minlength=cells + 1) / max(int(usable.sum()), 1)
    then = np.array([*reference.cells, reference.nulls]) / max(reference.values + reference.nulls, 1)
    before = column.astype(object).to_numpy(copy=True)
    shown = dict(zip(place.tolist(), before.tolist(), strict=True))
    if not bins.masked:
        shown |= dict(enumerate(bins.categories))
    shown[cells] = None
    lacking = np.maximum(then - now, 0.0)
    lacking[[at for at in range(cells + 1) if at not in shown]] = 0.0
    surplus = np.maximum(now - then, 0.0) / np.where(now > 0, now, 1.0)
    leaving = np.flatnonzero(usable & (rng.random(len(place)) < surplus[place]))
    if lacking.sum() > 0:
        drawn = rng.choice(cells + 1, len(leaving), p=lacking / lacking.sum())
        for row, cell in zip(leaving.tolist(), drawn.tolist(), strict=True):
            before[row] = shown[cell]
    return pd.Series(before, index=column.index, dtype=object)


def _answers(said: Predictions) -> Floats:
    """Return answers whose differences mean something: probabilities, labels as 0 and 1, or numbers."""
    if said.probabilities is not None:
        return said.probabilities
    if said.classes is not None:
        same = [np.asarray(said.prediction == name, dtype=np.float64) for name in said.classes]
        return np.column_stack(same)
    return np.asarray(said.prediction, dtype=np.float64)[:, None]
