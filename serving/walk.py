"""One row through a fitted pipeline, step by step: what each step made of it, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Step:
    """What a step gave: its name (with those it is part of), and its values by name, in their order."""

    name: str
    values: tuple[tuple[str, Any], ...]  # Any: numbers, texts, None


def walk(model: Any, row: pd.DataFrame) -> tuple[Step, ...]:  # Any: a fitted model
    """Return what each step makes of a frame of one row, the last one's answer not among it.

    Steps within a step come before it. A model that is no pipeline has no steps.
    """
    steps: list[Step] = []
    if isinstance(model, Pipeline):
        names: Sequence[str] = [str(name) for name in row.columns]
        given: Any = row
        for name, part in model.steps[:-1]:
            given, names = _through(name, part, given, names, steps)
    return tuple(steps)


def _through(
    name: str, part: Any, given: Any, names: Sequence[str], steps: list[Step]
) -> tuple[Any, Sequence[str]]:  # Any: transformers, frames and arrays of any kind
    if part is None or part == "passthrough":
        return given, names
    if isinstance(part, Pipeline):
        for inner, one in part.steps:
            given, names = _through(f"{name}.{inner}", one, given, names, steps)
        return given, names
    if isinstance(part, ColumnTransformer) and isinstance(given, pd.DataFrame):
        for inner, one, columns in part.transformers_:
            if not isinstance(one, str):
                some = given[list(columns)] if not isinstance(columns, slice) else given.iloc[:, columns]
                _through(f"{name}.{inner}", one, some, [str(column) for column in some.columns], steps)
    made = part.transform(given)
    row = _first_row(made)
    names = _names(part, names, len(row), name)
    steps.append(Step(name, tuple(zip(names, row, strict=True))))
    return made, names


def _first_row(made: Any) -> list[Any]:  # Any: a frame, an array, a sparse matrix
    if hasattr(made, "toarray"):
        made = made.toarray()
    values = np.asarray(made, dtype=object)
    return [value.item() if isinstance(value, np.generic) else value for value in values.reshape(-1)]


def _names(part: Any, names: Sequence[str], width: int, step: str) -> list[str]:  # Any: a transformer
    for given in ([np.asarray(names, dtype=object)], []):  # some know better which columns they were given
        try:
            found = [str(name) for name in part.get_feature_names_out(*given)]
        except Exception:  # noqa: S112 -- the names are for people: a transformer that has none is numbered
            continue
        if len(found) == width:
            return found
    return [f"{step}_{at}" for at in range(width)]
