"""Classes among known labels that a model has never seen, so that it can never answer with one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

_SHOWN = 3
_LONGEST = 40


def unknown_counts(labels: Iterable[Any], classes: Sequence[Any]) -> dict[str, int]:  # Any: any labels
    """Return how many rows have each class that is not among the model's, the most frequent first.

    Numbers are equal across types: 1, 1.0 and True are one class; missing labels are none.

    Example:
        >>> unknown_counts(["yes", "paused", "no", "paused"], ["no", "yes"])
        {'paused': 2}
    """
    counts = pd.Series(list(labels), dtype=object).value_counts()
    known = set(classes)
    return {str(label): int(count) for label, count in counts.items() if label not in known}


def unknown_words(counts: Mapping[str, int], rows: int, *, of: str = "no training row") -> str:
    """Return in one sentence how many rows have an unknown class, which, and the way out.

    Example:
        >>> unknown_words({"paused": 100}, 400)[:66]
        "100 of 400 rows have the label 'paused', which no training row has"
    """
    names = [f"{name[:_LONGEST]!r}" for name in counts][:_SHOWN]
    more = f" (+{len(counts) - _SHOWN} more)" if len(counts) > _SHOWN else ""
    noun = "label" if len(counts) == 1 else "labels"
    share = f"{sum(counts.values()):,} of {rows:,} rows have the {noun} {', '.join(names)}{more}"
    todo = "correct the labels where they are mistyped, or retrain once older rows have them too"
    return f"{share}, which {of} has, so the model never answers it: {todo}"
