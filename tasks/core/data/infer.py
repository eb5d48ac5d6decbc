"""A first contract, read from data: wide enough for the next window, meant to be corrected by a person."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.data.coerce import coerce
from tasks.core.data.contract import check_frame
from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec

FEWEST_ROWS = 100
_MOST_VALUES = 20
_FEWEST_EACH = 5
_SURELY_COMPLETE = 1000  # with no null in n rows their share is below 3/n at 95 % confidence (rule of three)
_TAIL = 0.001


def infer_contract(frame: pd.DataFrame, spec: ModelSpec) -> dict[str, Any]:  # Any: YAML values
    """Return a `contract:` block that every row of `frame` keeps, with room for rows not seen yet.

    Numbers get bounds one whole observed range beyond the smallest and largest value, rounded outwards, and
    zero where nothing is negative. Categories get a list of values when they are few and each was seen
    often; not the sensitive ones, whose values do not belong in a file. `nullable: false` needs a thousand
    rows without a null. The rules of the spec's own contract are neither used nor copied.

    Raises:
        ContractError: when there are too few rows, or they break even the plain types.
    """
    plain = spec.model_copy(update={"contract": type(spec.contract)(max_bad_share=0.0)})
    report = check_frame(frame, plain, with_label=False, identity=False).report
    if report.outcome == "block" or len(frame) < FEWEST_ROWS:
        raise ContractError(
            f"{report.sentence()}",
            f"at least {FEWEST_ROWS} rows that fit the types of the features",
            "correct the rows or the spec, then infer again",
            model=spec.name,
        )
    rules = {name: _rule(frame[name], name, spec) for name in spec.features.all}
    return {**{name: rule for name, rule in rules.items() if rule}, "max_bad_share": 0.01}


def contract_yaml(frame: pd.DataFrame, spec: ModelSpec) -> str:
    """Return the inferred block as YAML, each rule beside what it was read from.

    Raises:
        ContractError: as `infer_contract`.
    """
    lines = ["contract:  # a first proposal: correct it, then paste it into the model's block"]
    for name, rule in infer_contract(frame, spec).items():
        if name == "max_bad_share":
            lines.append(f"  {name}: {rule}  # more bad rows than this share block retraining")
            continue
        body = ", ".join(f"{key}: {_yaml(value)}" for key, value in rule.items())
        lines.append(f"  {_yaml(name)}: {{{body}}}  # {_seen(frame[name], name, spec)}")
    return "\n".join(lines) + "\n"


def _rule(column: pd.Series[Any], name: str, spec: ModelSpec) -> dict[str, Any]:  # Any: YAML values
    rule = _bounds(column) if name in spec.features.numeric else _values(column)
    if name in spec.features.sensitive:
        rule.pop("isin", None)
    if len(column) >= _SURELY_COMPLETE and column.notna().all():
        rule["nullable"] = False
    return rule


def _bounds(column: pd.Series[Any]) -> dict[str, Any]:  # Any: YAML values
    numbers = coerce(column, "number").values.dropna()
    if numbers.empty:
        return {}
    low, high = float(numbers.min()), float(numbers.max())
    room = (high - low) or abs(high) or 1.0
    rule: dict[str, Any] = {"ge": 0 if low >= 0 else _outwards(low - room, math.floor)}
    rule["le"] = 0 if high <= 0 else _outwards(high + room, math.ceil)
    # float columns of whole numbers may only look whole; a column of integers means it
    if pd.api.types.is_integer_dtype(column.dtype):
        rule["dtype"] = "integer"
    return {key: value for key, value in rule.items() if not isinstance(value, float) or math.isfinite(value)}


def _outwards(bound: float, rounding: Any) -> float | int:  # Any: math.floor or math.ceil
    """Return the bound to two significant digits, never closer to zero than it was."""
    if not math.isfinite(bound):
        return bound
    step = 10.0 ** (math.floor(math.log10(abs(bound))) - 1) if bound else 1.0
    rounded = float(f"{rounding(bound / step) * step:.12g}") if step else bound
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _values(column: pd.Series[Any]) -> dict[str, Any]:  # Any: YAML values
    values = coerce(column, "category").values.dropna()
    counts = values.value_counts()
    rule: dict[str, Any] = {}
    if pd.api.types.infer_dtype(values) == "string":
        rule["dtype"] = "string"
    if 0 < len(counts) <= _MOST_VALUES and counts.min() >= _FEWEST_EACH:
        rule["isin"] = sorted((_scalar(value) for value in counts.index), key=str)
    return rule


def _scalar(value: Any) -> Any:  # Any: a category as Python writes it
    return value.item() if isinstance(value, np.generic) else value


def _yaml(value: Any) -> str:  # Any: YAML values
    """Return the value as YAML reads it back: JSON, but 6e+16 without a dot would be text."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def _seen(column: pd.Series[Any], name: str, spec: ModelSpec) -> str:
    """Return what a rule was read from, in counts, and in round numbers where they tell nothing personal."""
    nulls = f"{column.isna().mean():.1%} missing in {len(column):,} rows"
    if name in spec.features.sensitive or name in spec.features.categorical:
        return f"{column.nunique()} values seen, {nulls}"
    low, middle, high = coerce(column, "number").values.quantile([_TAIL, 0.5, 1 - _TAIL])
    if np.isnan(middle):
        return f"no value seen in {len(column):,} rows"
    return f"mostly {low:.3g} to {high:.3g}, middle {middle:.3g}; {nulls}"
