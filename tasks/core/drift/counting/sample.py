"""Rows as cell numbers: what a classifier over whole rows needs, without a single value at rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.bins import Bins
from tasks.core.drift.counting.packed import pack, unpack
from tasks.core.drift.counting.places import NULL, places_of

if TYPE_CHECKING:
    import pandas as pd

INVALID = -2  # an infinity, or nothing that could be read
MOST_ROWS = 5_000  # that a reference keeps


@dataclass(frozen=True, eq=False)
class Sample:
    """Some rows, each feature as the number of its cell.

    Attributes:
        names: The features, in the order of the columns of `codes`.
        codes: int16, one row per row and one column per feature: the cell of the reference's bins, or NULL
            or INVALID.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.codes)

    def to_plain(self) -> dict[str, Any]:  # Any: JSON values
        """Return the sample as JSON values."""
        return {"names": list(self.names), "codes": pack(self.codes)}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Sample:
        """Return the sample that `to_plain` wrote.

        Raises:
            ValueError: when it is something else.
        """
        names, codes = raw["names"], unpack(raw["codes"], "<i2")
        if len(set(names)) != len(names) or codes.shape[1] != len(names):
            raise ValueError("a sample of other columns than it names")
        if codes.size and codes.min() < INVALID:
            raise ValueError("a sample of cells that cannot be")
        return cls(tuple(names), codes)


def sample_codes(frame: pd.DataFrame, bins: Sequence[Bins], *, key: bytes | None = None) -> Sample:
    """Return every row of the frame as cell numbers; a feature without a column is NULL in all of them.

    Args:
        frame: One row per event.
        bins: The reference's; those of scores, which no frame holds, are left out by the caller.
        key: Secret under which sensitive categories are hashed.
    """
    codes = np.full((len(frame), len(bins)), NULL, dtype=np.int16)
    for place, cell in enumerate(bins):
        if cell.name in frame.columns:
            codes[:, place] = np.maximum(places_of(cell, frame[cell.name], key=key).codes, INVALID)
    return Sample(tuple(cell.name for cell in bins), codes)


def pick(rows: int, most: int, seed: int) -> NDArray[np.intp]:
    """Return the places of at most `most` rows, drawn without replacement, in rising order."""
    if rows <= most:
        return np.arange(rows, dtype=np.intp)
    chosen = np.random.default_rng(seed).choice(rows, most, replace=False)
    return np.sort(chosen).astype(np.intp)
