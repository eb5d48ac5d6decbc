"""How many rows weights leave: what counts for nothing is no evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def effective_rows(
    weights: NDArray[Any] | None,  # Any: integers and floats
    rows: int,
) -> float:
    """Return how many rows of equal weight would tell as much as these; `rows` where there are no weights.

    From 1 (one row carries everything) to the number of rows; 0 where no weight is above zero.

    Source: Kish, Survey Sampling (1965), section 11.7: (sum of weights)^2 / sum of their squares.

    Example:
        >>> effective_rows(np.array([1.0, 1.0, 0.0, 0.0]), 4)
        2.0
        >>> effective_rows(None, 4)
        4.0
    """
    if weights is None:
        return float(rows)
    given = np.asarray(weights, dtype=np.float64)
    most = float(given.max(initial=0.0))
    if not most > 0:
        return 0.0
    given = given / most  # squares of very large or small weights stay numbers
    return round(float(given.sum() ** 2 / (given**2).sum()), 6)
