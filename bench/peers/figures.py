"""Figures: one JSON line each, numbers with no more digits than they carry."""

from __future__ import annotations

import json
import math
from typing import Any


def figure(name: str, **facts: Any) -> dict[str, Any]:  # Any: JSON values
    """Print the figure on a line of its own and return it."""
    line = {"figure": name, **{key: _short(value) for key, value in facts.items()}}
    print(json.dumps(line), flush=True)
    return line


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None  # JSON knows no NaN
    return value
