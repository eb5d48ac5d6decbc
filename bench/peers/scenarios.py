"""Whose alarms are counted on what: references, and windows drawn like them or changed in one way.

A family is a kind of data with its references. Every window is drawn from its own seed, so each detector is
given the same rows, however many of them it manages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd

from bench import draws
from bench.peers.protocol import Columns
from tasks.core.window import Window

Family = Literal["mixed", "series", "weekend"]
START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
HISTORY_DAYS = 84
SERIES = Columns(tuple(f"x{place}" for place in range(30)), ())
COLUMNS: dict[Family, Columns] = {
    "mixed": Columns(draws.NUMERIC, draws.CATEGORICAL),
    "series": SERIES,
    "weekend": SERIES,
}
SAYS: dict[Family, str] = {
    "mixed": "30 mixed features, independent rows",
    "series": "30 features, each an AR(0.9) series",
    "weekend": "30 features, 10 of them 0.5 sd higher at weekends; one window is one day",
}
REFERENCE_ROWS = (20_000, 100_000)  # fewest and most; between them ten windows' worth
RAMP = 0.1  # sd by which the mean moves on with each window of a ramp
RUN = 10  # windows of a ramp, and of what a delay is counted in
# In which feature each change of draws.CHANGES is found.
WHERE = {
    "shift": {"normal_c"},
    "variance": {"normal_c"},
    "ramp": {"normal_c"},
    "categories": {"plan"},
    "new": {"plan"},
    "missing": {"gamma"},
    "correlation": {"normal_a", "normal_b"},
}


@dataclass(frozen=True)
class Cell:
    """Windows of one family and length, undrifted (`change` None) or changed in one way.

    A change is a name of draws.CHANGES, or "ramp": each window is a little further away than the one before.
    """

    family: Family
    rows: int
    change: str | None = None

    @property
    def name(self) -> str:
        return f"{self.family}-{self.rows}-{(self.change or 'undrifted').replace(' ', '_')}"

    @property
    def changed(self) -> set[str]:
        """Features that the change is in."""
        return WHERE[self.change.split()[0]] if self.change else set()


def reference_rows(cell: Cell) -> int:
    """Return how many rows the references of this cell's windows hold."""
    if cell.family == "weekend":
        return HISTORY_DAYS * cell.rows
    return int(np.clip(10 * cell.rows, *REFERENCE_ROWS))


def reference_name(cell: Cell, place: int) -> str:
    """Return what this cell's reference `place` is called: cells that share it get one name."""
    return f"{cell.family}-{reference_rows(cell)}-{place}"


def reference_of(cell: Cell, place: int, seed: int) -> tuple[pd.DataFrame, pd.Series | None]:
    """Return the rows of this cell's reference `place` and their times (None: unknown)."""
    rows = reference_rows(cell)
    rng = _rng(seed, cell.family, place, rows)
    if cell.family == "mixed":
        return draws.reference_frame(rows, rng), None
    if cell.family == "series":
        return draws.series_frame(rows, rng), None
    frame = draws.weekend_frame(range(HISTORY_DAYS), cell.rows, rng)
    days = np.repeat(np.arange(HISTORY_DAYS), cell.rows)
    within = np.tile(np.arange(cell.rows), HISTORY_DAYS) * (DAY / cell.rows)
    return frame, pd.Series(pd.Timestamp(START) + pd.to_timedelta(days, unit="D") + pd.to_timedelta(within))


def windows_of(cell: Cell, place: int, count: int, seed: int) -> Iterator[tuple[pd.DataFrame, Window | None]]:
    """Return windows to be checked against reference `place`, and when they were, where that is known.

    Windows of a ramp come in runs, each of which starts all but undrifted.
    """
    for number in range(count):
        rng = _rng(seed, cell.name, place, 1 + number)
        if cell.family == "series":
            yield draws.series_frame(cell.rows, rng), None
        elif cell.family == "weekend":
            day = HISTORY_DAYS + number
            start = START + day * DAY
            yield draws.weekend_frame([day], cell.rows, rng), Window(start, start + DAY)
        elif cell.change == "ramp":
            frame = draws.reference_frame(cell.rows, rng)
            yield draws.shifted(RAMP * (1 + number % RUN))(frame, rng), None
        else:
            yield draws.window_frame(cell.rows, rng, change=cell.change), None


def _rng(seed: int, name: str, *places: int) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode(), *places])
