"""How labels are spread: rows per class, or per tenth of a number's range, as plain counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

TENTHS = 10
MOST_CLASSES = 1_000


@dataclass(frozen=True)
class LabelMix:
    """Rows per class, by its text; of numbers, rows per cell between `edges`, as "cell 0", "cell 1" …"""

    counts: dict[str, int]
    edges: tuple[float, ...] = ()

    @property
    def rows(self) -> int:
        """How many labels there were."""
        return sum(self.counts.values())

    def of(self, labels: Iterable[Any]) -> dict[str, int]:
        """Return how often each class or cell stands among these labels; those without value are left out."""
        known = [value for value in labels if not pd.isna(value)]
        if not self.edges:
            return dict(Counter(label_text(value) for value in known))
        numbers = pd.to_numeric(pd.Series(known, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
        cells = np.searchsorted(self.edges, numbers[np.isfinite(numbers)], side="left")
        return {f"cell {cell}": int(rows) for cell, rows in enumerate(np.bincount(cells)) if rows}

    def to_plain(self) -> dict[str, Any]:  # Any: JSON values
        """Return the mix as JSON values."""
        return {"counts": dict(sorted(self.counts.items())), "edges": list(self.edges)}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> LabelMix:  # Any: JSON values
        """Return the mix that `to_plain` wrote.

        Raises:
            ValueError: when it is something else.
        """
        counts = {str(name): int(rows) for name, rows in raw["counts"].items()}
        edges = tuple(float(edge) for edge in raw["edges"])
        if len(counts) > MOST_CLASSES or len(edges) > TENTHS or any(rows < 0 for rows in counts.values()):
            raise ValueError("counts that cannot be")
        if not np.isfinite(edges).all() or list(edges) != sorted(edges):
            raise ValueError("edges that do not rise")
        return cls(counts, edges)


def label_mix(labels: Iterable[Any], *, numbers: bool) -> LabelMix:
    """Return the mix of these labels; of more than 1,000 classes the commonest.

    Example:
        >>> label_mix([1, 0, 0], numbers=False).counts
        {'0': 2, '1': 1}
    """
    known = [value for value in labels if not pd.isna(value)]
    if not numbers:
        counts = Counter(label_text(value) for value in known).most_common(MOST_CLASSES)
        return LabelMix(dict(counts))
    if not known:
        return LabelMix({})
    cuts = np.quantile(np.array(known, dtype=np.float64), np.linspace(0, 1, TENTHS + 1)[1:-1])
    empty = LabelMix({}, tuple(np.unique(cuts).tolist()))
    return LabelMix(empty.of(known), empty.edges)


def label_text(label: Hashable) -> str:
    """Return the text a label is known by, so that 1, 1.0, True and "1" are one label.

    Example:
        >>> [label_text(value) for value in (1, 1.0, True, "1", "yes")]
        ['1', '1', '1', '1', 'yes']
    """
    whole = isinstance(label, bool | int | float | np.number | np.bool_) and float(label).is_integer()
    return str(int(label)) if whole else str(label)  # type: ignore[call-overload]  # a number, when whole
