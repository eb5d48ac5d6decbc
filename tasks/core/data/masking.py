"""Features as they may be kept: sensitive ones as keyed hashes, in the form that references know them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.drift.counting.bins import mask
from tasks.core.drift.counting.values import label_of
from tasks.core.spec_parts import Features


def masked_inputs(
    features: Features,
    row: Mapping[str, Any],  # Any: numbers, text, booleans or None
    key: bytes,
) -> dict[str, Any]:  # Any: see row
    """Return the features of a row by name; what is missing stays None, as there is nothing to hide.

    Example:
        >>> kept = masked_inputs(Features(numeric=["x"], categorical=["who"], sensitive=["who"]),
        ...                      {"x": 1.5, "who": "ann", "more": 1}, b"key")
        >>> kept["x"], len(kept["who"]), sorted(kept)
        (1.5, 16, ['who', 'x'])
    """
    kept = {name: row[name] for name in features.all}
    for name in features.sensitive:
        if kept[name] is not None:
            kept[name] = mask(name, label_of(kept[name]) or str(kept[name]), key)
    return kept
