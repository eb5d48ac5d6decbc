"""Windows drawn as counts from a large population, so that a thousand checks take about a minute.

A reference is rows drawn with replacement from the population, and a window's counts are multinomial with the
population's own shares in the reference's cells: just what profiling rows drawn the same way would give.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.core.drift.counting.bins import FARTHEST, STEP, Bins, Counts
from tasks.core.drift.profile import Profile, Reference, build_reference, profile_frame
from tasks.core.spec import ModelSpec


class Population:
    """Rows that never change, and windows of them in the cells of one reference."""

    def __init__(self, frame: pd.DataFrame, spec: ModelSpec, rows: int, rng: np.random.Generator) -> None:
        drawn = frame.iloc[rng.integers(0, len(frame), rows)].reset_index(drop=True)
        self.reference: Reference = build_reference(drawn, spec)
        self._rng = rng
        whole = profile_frame(frame, self.reference)
        self._urns = [_Urn(b, whole.features[b.name], frame[b.name]) for b in self.reference.bins]

    def window(self, rows: int) -> Profile:
        """Return the profile of so many undrifted rows."""
        features = {urn.name: urn.draw(rows, self._rng) for urn in self._urns}
        return Profile(self.reference.id, rows, features)


class _Urn:
    def __init__(self, bins: Bins, counts: Counts, column: pd.Series) -> None:
        self.name = bins.name
        self._bins = bins
        self._cells = np.array(counts.cells, dtype=np.float64)
        self._null = counts.nulls / counts.rows
        self._share = self._cells / self._cells.sum()
        if bins.kind == "numeric":
            self._means = np.array(counts.sums) / np.maximum(self._cells, 1)
            values = column.dropna().to_numpy(dtype=np.float64)
            steps = np.rint(np.clip((values - bins.center) / (bins.scale or 1), -FARTHEST, FARTHEST) / STEP)
            place = np.searchsorted(bins.edges, values, side="left")
            self._outer = {cell: steps[place == cell] for cell in (0, bins.cells - 1)}
            self._beyond = [0.0, 0.0]
            if bins.low is not None and bins.high is not None:
                found = ((values < bins.low).sum(), (values > bins.high).sum())
                self._beyond = [found[i] / max(self._cells[-i], 1) for i in (0, 1)]

    def draw(self, rows: int, rng: np.random.Generator) -> Counts:
        nulls = int(rng.binomial(rows, self._null))
        cells = rng.multinomial(rows - nulls, self._share)
        if self._bins.kind == "categorical":
            unseen = int(cells[-1]) if self._bins.complete else 0
            return Counts(rows, nulls, 0, 0, unseen, tuple(cells.tolist()))
        sums = np.rint(cells * self._means).astype(np.int64)
        for cell, steps in self._outer.items():
            if cells[cell]:
                sums[cell] = int(rng.choice(steps, cells[cell]).sum())
        if self._bins.values:
            known = np.searchsorted(self._bins.edges, self._bins.values, side="left")
            unseen = int(cells.sum() - cells[known].sum())
        else:
            unseen = int(sum(rng.binomial(cells[-i], self._beyond[i]) for i in (0, 1)))
        return Counts(rows, nulls, 0, 0, unseen, tuple(cells.tolist()), tuple(sums.tolist()))
