"""What answers are worth, row by row, as the spec's `gate.value` says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.errors import SpecError
from tasks.core.evaluation.evidence import Worth
from tasks.core.evaluation.scoring import Scored
from tasks.core.importing import load_object
from tasks.core.model.columns import category_text
from tasks.core.spec import ModelSpec


def worth_of(spec: ModelSpec, rows: pd.DataFrame, mine: Scored, theirs: Scored | None) -> Worth | None:
    """Return the worth of both models' answers to these rows; None where the spec names none.

    Raises:
        SpecError: when the function is not there, fails, or gives anything but one number per row; or when
            an outcome names a label that neither these rows nor a model know.
    """
    value = spec.gate.value
    if not value.outcomes and not value.function:
        return None
    if value.outcomes and len(rows):
        _check_labels(spec, [mine] if theirs is None else [mine, theirs])
    return Worth(_worth(spec, rows, mine), None if theirs is None else _worth(spec, rows, theirs))


def _check_labels(spec: ModelSpec, parts: list[Scored]) -> None:
    """Refuse an outcome of a label that nobody knows: a mistyped one would silently be worth nothing."""
    named = {label for pair in _outcomes(spec) for label in pair}
    known: set[str] = set()
    for one in parts:
        known |= {*_texts(one.y_true), *_texts(one.prediction), *map(category_text, one.classes or ())}
    if unknown := sorted(named - known):
        raise SpecError(
            f"gate.value.outcomes naming {', '.join(map(repr, unknown))[:80]}, "
            "no label of these rows or models",
            "labels as they stand in the data",
            "write them as label>prediction, for example 1>0",
            model=spec.name,
        )


def _outcomes(spec: ModelSpec) -> dict[tuple[str, str], float]:
    """Return the worth of each (label, prediction) that the spec names."""
    found = {}
    for name, each in spec.gate.value.outcomes.items():
        label, _, prediction = name.partition(">")
        found[_label(label), _label(prediction)] = each
    return found


def _worth(spec: ModelSpec, rows: pd.DataFrame, scored: Scored) -> NDArray[np.float64]:
    return _by_function(spec, rows, scored) if spec.gate.value.function else _by_outcome(spec, scored)


def _by_outcome(spec: ModelSpec, scored: Scored) -> NDArray[np.float64]:
    worth, truth, said = _outcomes(spec), _texts(scored.y_true), _texts(scored.prediction)
    pairs = zip(truth, said, strict=True)
    return np.array([worth.get(pair, 0.0) for pair in pairs], dtype=np.float64)


def _by_function(spec: ModelSpec, rows: pd.DataFrame, scored: Scored) -> NDArray[np.float64]:
    path = str(spec.gate.value.function)
    function = load_object(path, field="gate.value.function")
    probabilities = None if scored.probabilities is None else scored.probabilities.copy()
    try:
        given = np.asarray(function(rows.copy(), scored.prediction.copy(), probabilities), dtype=np.float64)
    except Exception as err:  # the user's code may fail in any way; its text may quote a row
        raise _unfit(spec, f"{path} failing ({type(err).__name__})") from err
    if given.shape != (len(rows),) or not np.isfinite(given).all():
        raise _unfit(spec, f"{path} giving shape {given.shape} or values that are not finite")
    return given


def _unfit(spec: ModelSpec, found: str) -> SpecError:
    return SpecError(found, "one finite number per row", "repair gate.value.function", model=spec.name)


def _label(text: str) -> str:
    return category_text(text.strip())


def _texts(labels: NDArray[Any]) -> list[str]:  # Any: labels of any type
    codes, uniques = pd.factorize(np.asarray(labels), use_na_sentinel=False)
    texts = [category_text(label) for label in uniques.tolist()]
    return [texts[code] for code in codes]
