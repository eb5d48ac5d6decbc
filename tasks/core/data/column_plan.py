"""What the contract asks of each column, read from the spec."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from tasks.core.data.coerce import canonical
from tasks.core.data.parse_numbers import Mask
from tasks.core.data.spelling import reader_of
from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import ColumnRule

Kind = Literal["number", "integer", "boolean", "string", "category", "label", "key", "time"]


@dataclass(frozen=True)
class ValueCheck:
    """A rule on single values: `passes` gets converted values without missing ones."""

    code: str
    text: str
    passes: Callable[[pd.Series[Any]], Mask]


@dataclass(frozen=True)
class ColumnPlan:
    """How one column is converted and what its values must satisfy."""

    name: str
    kind: Kind
    required: bool = False
    unique: bool = False
    sensitive: bool = False
    numeric: bool = False
    checks: tuple[ValueCheck, ...] = ()

    @property
    def as_float(self) -> bool:
        """Whether the values are float64 once converted."""
        return self.numeric or self.kind in {"number", "integer"}

    def finished(self, values: pd.Series[Any]) -> pd.Series[Any]:
        """Return converted values as the model gets them: a numeric feature is always float64."""
        if self.as_float and values.dtype != np.float64:
            return pd.Series(pd.to_numeric(values, errors="coerce").astype("float64"))
        return values


def plan_columns(spec: ModelSpec, *, with_label: bool = True, identity: bool = True) -> list[ColumnPlan]:
    """Return the plan of every column the contract covers, key and times first.

    Example:
        >>> from tasks.core.spec import ModelSpec
        >>> source = {"url": "rows.parquet", "key": "id", "timestamp": "at"}
        >>> spec = ModelSpec(name="m", source=source, label={"column": "y"}, features={"numeric": ["x"]})
        >>> [(plan.name, plan.kind) for plan in plan_columns(spec)]
        [('id', 'key'), ('at', 'time'), ('x', 'number'), ('y', 'label')]
    """
    source, rules = spec.source, spec.contract.columns
    plans: dict[str, ColumnPlan] = {}

    def add(name: str | None, kind: Kind, **more: Any) -> None:  # Any: fields of ColumnPlan
        if name and name not in plans:
            plans[name] = _plan(name, kind, rules.get(name) or ColumnRule(), **more)

    if identity:
        add(source.key, "key", required=True, unique=True)
        add(source.timestamp, "time", required=True)
        add(source.updated, "time")
    for name in spec.features.all:
        numeric = name in spec.features.numeric
        sensitive = name in spec.features.sensitive
        add(name, "number" if numeric else "category", numeric=numeric, sensitive=sensitive)
    if with_label:
        kind: Kind = "number" if spec.task == "regression" else "label"
        add(spec.label.column, kind, required=True, numeric=spec.task == "regression")
        for name in spec.gate.slices:
            add(name, "category")
    if identity:
        add(source.group, "category")
    return list(plans.values())


def _plan(name: str, kind: Kind, rule: ColumnRule, *, required: bool = False, **more: Any) -> ColumnPlan:
    kind = _kind(kind, rule)
    checks = tuple(_bounds(rule) if kind in {"number", "integer"} else [])
    checks += tuple(_allowed(rule, kind))
    return ColumnPlan(name, kind, required=required or not rule.nullable, checks=checks, **more)


def _kind(kind: Kind, rule: ColumnRule) -> Kind:
    """Return the declared type, or for a category the one that its rule implies."""
    if rule.dtype is not None:
        return rule.dtype
    if kind not in {"category", "label"}:
        return kind
    if rule.isin and all(isinstance(value, bool) for value in rule.isin):
        return "boolean"
    return "number" if rule.bounded else kind


def _bounds(rule: ColumnRule) -> list[ValueCheck]:
    found = []
    if rule.ge is not None:
        found.append(ValueCheck("too_small", f"at least {rule.ge:g}", _compare(np.greater_equal, rule.ge)))
    if rule.gt is not None:
        found.append(ValueCheck("too_small", f"more than {rule.gt:g}", _compare(np.greater, rule.gt)))
    if rule.le is not None:
        found.append(ValueCheck("too_large", f"at most {rule.le:g}", _compare(np.less_equal, rule.le)))
    if rule.lt is not None:
        found.append(ValueCheck("too_large", f"less than {rule.lt:g}", _compare(np.less, rule.lt)))
    return found


def _compare(operator: Callable[[Any, float], Any], bound: float) -> Callable[[pd.Series[Any]], Mask]:
    return lambda values: np.asarray(operator(values.to_numpy(), bound), dtype=bool)


def _allowed(rule: ColumnRule, kind: Kind) -> list[ValueCheck]:
    found = []
    if rule.isin is not None and kind in {"number", "integer"}:
        numbers = [float(value) for value in rule.isin]
        found.append(
            ValueCheck(
                "not_allowed", f"one of {rule.isin}", lambda values: np.isin(values.to_numpy(), numbers)
            )
        )
    elif rule.isin is not None:
        texts = set(canonical(pd.Series(rule.isin, dtype=object)))
        read = reader_of(texts) if kind != "string" else str
        allowed = {read(text) for text in texts}
        found.append(
            ValueCheck("not_allowed", f"one of {rule.isin}", lambda values: _is_in(values, allowed, read))
        )
    if rule.matches is not None:
        pattern = re.compile(rule.matches)
        found.append(
            ValueCheck("no_match", f"text matching {rule.matches}", lambda values: _matches(values, pattern))
        )
    return found


def _is_in(values: pd.Series[Any], texts: set[str], read: Callable[[str], str]) -> Mask:
    codes, levels = pd.factorize(canonical(values))
    return np.array([*(read(str(level)) in texts for level in levels), False], dtype=bool)[codes]


def _matches(values: pd.Series[Any], pattern: re.Pattern[str]) -> Mask:
    codes, levels = pd.factorize(canonical(values))
    return np.array([pattern.fullmatch(str(level)) is not None for level in levels], dtype=bool)[codes]
