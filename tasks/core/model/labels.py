"""Labels in the one type this project keeps them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.errors import TrainingError
from tasks.core.spec import ModelSpec


def labels_of(frame: pd.DataFrame, spec: ModelSpec) -> NDArray[Any]:
    """Return the labels in the one type this project keeps them in, whatever type a source gave.

    Regression: float64. Classification: booleans, whole numbers as int64, other numbers as float64, and
    everything else as text.

    Raises:
        TrainingError: when a label is missing, or is no finite number in a regression.
    """
    column = frame[spec.label.column]
    if column.isna().any():
        raise _bad_labels(spec, f"{int(column.isna().sum())} rows without a label", "a label on every row")
    if spec.task == "regression":
        try:
            numbers = column.to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as err:
            raise _bad_labels(spec, f"labels of type {column.dtype}", "numbers for a regression") from err
        if not np.isfinite(numbers).all():
            raise _bad_labels(spec, f"{int((~np.isfinite(numbers)).sum())} infinite labels", "finite numbers")
        return numbers
    return _class_labels(column)


def _class_labels(column: pd.Series) -> NDArray[Any]:
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred == "boolean":
        return column.to_numpy(dtype=bool)
    if inferred in {"integer", "floating", "mixed-integer-float", "decimal"}:
        numbers = column.to_numpy(dtype=np.float64)
        return numbers.astype(np.int64) if (numbers == np.floor(numbers)).all() else numbers
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _class_labels(column.astype(column.cat.categories.dtype))
    return column.astype(str).to_numpy(dtype=object)


def _bad_labels(spec: ModelSpec, found: str, expected: str) -> TrainingError:
    todo = f"look at column {spec.label.column!r} in the source"
    return TrainingError(found, expected, todo, model=spec.name)
