"""Whether a window has about as many rows as the windows before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
from scipy.stats import poisson

from tasks.core.policy.alerting import Look
from tasks.core.window import Window

THIN = 0.25
"""Share of the usual rows below which a window has lost some; our choice: between a quiet week, a half, and a
lost partition or a filter upstream, a tenth."""
LEAST_WINDOWS = 2
LEAST_ROWS = 20
"""Usual rows below which a share of them tells nothing; our choice."""
_CHANCE = 0.001
_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class VolumeVerdict:
    """The rows of a window beside the usual ones; NaN and `undecided` where those are not known.

    `windows` earlier ones tell what is usual; with none it is the mean of the rows trained on.
    """

    outcome: Literal["ok", "drift", "undecided"]
    rows: int
    usual: float
    windows: int
    window: Window

    def sentence(self) -> str:
        """Return the finding as one line."""
        if self.outcome == "undecided":
            return f"{self.rows:,} rows in {self.window}; what is usual is not known yet"
        said = (
            f"{self.rows:,} rows in {self.window}, where {self.windows} windows before had {self.usual:,.0f}"
        )
        if self.outcome == "ok":
            return said
        return f"{said}: look for a lost partition, a filter, or an export that stopped half way"

    def looks(self) -> tuple[Look, ...]:
        """Return what this says of the incident `row volume`; nothing where it could not be told."""
        if self.outcome == "undecided":
            return ()
        return (Look("row volume", "warning", self.outcome == "drift", self.sentence()),)


def judge_volume(
    window: Window, rows: int, earlier: Sequence[tuple[Window, int]], *, trained: float | None = None
) -> VolumeVerdict:
    """Return whether the window lost most of its rows.

    Usual is the median of the windows that began on the same weekday at the same hour; where fewer than two
    are known, the fewest rows that any window of this length had, so that a first weekend is compared with
    nothing but working days only once.

    Args:
        window: The window.
        rows: Its rows.
        earlier: Windows before it, each with its rows; those of another length do not count.
        trained: Mean rows of as long a time of training; it counts where fewer than two windows are known and
            a window is a week or longer, as shorter ones have weekdays.

    Example:
        >>> from datetime import datetime, timedelta, UTC
        >>> start = datetime(2026, 1, 5, tzinfo=UTC)
        >>> weeks = [Window.ending(start + timedelta(weeks=n), "7d") for n in range(4)]
        >>> judge_volume(weeks[3], 60, [(week, 600) for week in weeks[:3]]).outcome
        'drift'
    """
    length = window.end - window.start
    alike = [
        (one, count) for one, count in earlier if one.end - one.start == length and one.end <= window.start
    ]
    same = [count for one, count in alike if _slot(one) == _slot(window)]
    if len(same) >= LEAST_WINDOWS:
        usual, count = float(np.median(same)), len(same)
    elif len(alike) >= LEAST_WINDOWS:
        usual, count = float(min(count for _, count in alike)), len(alike)
    elif trained and length >= _WEEK:
        usual, count = trained, 0
    else:
        return VolumeVerdict("undecided", rows, float("nan"), len(alike), window)
    if usual < LEAST_ROWS:
        return VolumeVerdict("undecided", rows, usual, count, window)
    is_thin = rows < THIN * usual and poisson.cdf(rows, usual) < _CHANCE
    return VolumeVerdict("drift" if is_thin else "ok", rows, usual, count, window)


def _slot(window: Window) -> tuple[int, int, int]:
    return window.start.weekday(), window.start.hour, window.start.minute
