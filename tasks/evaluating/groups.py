"""The groups in which rows are also compared one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.model.columns import text_column
from tasks.core.spec import ModelSpec

_BINS = 4


def groups_of(spec: ModelSpec, rows: pd.DataFrame, name: str) -> NDArray[Any]:  # Any: texts
    """Return each row's group: its value, a quarter of the rows for numbers, a rank for what is personal.

    Missing values are the group "missing", and so are infinite numbers. Ranks count from the most frequent
    value, "#1".
    """
    column = rows[name]
    if name in spec.features.numeric and column.nunique() > _BINS:
        finite = column.astype("float64").replace([np.inf, -np.inf], np.nan)
        parts = pd.qcut(finite, _BINS, duplicates="drop")
        values = parts.astype(object).where(parts.notna(), "missing").astype(str).to_numpy(dtype=object)
    else:
        values = text_column(column, "")
        values[pd.isna(values)] = "missing"
    if name not in spec.features.sensitive:
        return values
    order = pd.Series(values, dtype=object).value_counts().index
    ranks = {value: f"#{rank}" for rank, value in enumerate(order, start=1)}
    return np.array([ranks[value] for value in values], dtype=object)
