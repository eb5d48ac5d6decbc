"""One row through a fitted pipeline, step by step: what each step made of it, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing


@dataclass(frozen=True)
class Step:
    """What a step gave: its name (with those it is part of), and its values by name, in their order.

    `trouble` is the kind of error by which it could not be followed; it has no values then.
    """

    name: str
    values: tuple[tuple[str, Any], ...]  # Any: numbers, texts, None
    trouble: str = ""


def walk(model: Any, row: pd.DataFrame) -> tuple[Step, ...]:  # Any: a fitted model
    """Return what each step makes of a frame of one row, the last one's answer not among it.

    Steps within a step come before it. A model that is no pipeline has no steps. A step that raises is the
    last one told; one within a step ends that part only.
    """
    steps: list[Step] = []
    if isinstance(model, Pipeline):
        names: Sequence[str] = [str(name) for name in row.columns]
        given: Any = row
        for name, part in model.steps[:-1]:
            try:
                given, names = _through(name, part, given, names, steps)
            except Exception as err:  # whatever it is: what is known so far is told
                steps.append(Step(name, (), type(err).__name__))
                break
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
            try:
                _part(f"{name}.{inner}", one, given, columns, steps)
            except Exception as err:  # the whole may go through where we cannot follow a part
                steps.append(Step(f"{name}.{inner}", (), type(err).__name__))
    made = part.transform(given)
    row = _first_row(made)
    names = _names(part, names, len(row), name)
    steps.append(Step(name, tuple(zip(names, row, strict=True))))
    return made, names


def _part(
    name: str, part: Any, given: pd.DataFrame, columns: Any, steps: list[Step]
) -> None:  # Any: a transformer; one column or several, by name or place
    if isinstance(part, str):
        return
    some = _safe_indexing(given, columns, axis=1)  # as the transformer itself: a bare name gives a series
    found = [some.name] if isinstance(some, pd.Series) else some.columns
    _through(name, part, some, [str(column) for column in found], steps)


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
