"""What one field of a request may hold: the plan that its column has in training, asked of single values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from tasks.core.data.column_plan import ColumnPlan, ValueCheck, plan_columns
from tasks.core.data.parse_numbers import EXACT_LIMIT
from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import ColumnRule

LONGEST_TEXT = 1000
_WIDEST = 2**63  # of whole numbers that are no quantities: what databases hold
_REMEMBERED = 10_000  # values of a column whose check need not be asked again
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})"
)
_FIRST, _LAST = datetime(1677, 9, 22, tzinfo=UTC), datetime(2262, 4, 11, tzinfo=UTC)  # of nanoseconds
_ZONED = "a time with its zone is needed, for example 2026-05-12T08:00:00Z"

Read = Callable[[Any], Any]  # Any: a JSON scalar in, the same in the contract's type out


class WrongValue(ValueError):
    """A value that the contract refuses; the text says what is needed and never holds the value."""


@dataclass(frozen=True)
class Field:
    """One field by name; `read` gives a value in the contract's type or raises `WrongValue`."""

    name: str
    plan: ColumnPlan
    rule: ColumnRule
    read: Read


def feature_fields(spec: ModelSpec) -> tuple[Field, ...]:
    """Return a field per feature, numeric then categorical, in the order written.

    What a field takes, training takes as well and in the same sense; JSON knows more types than a table, so
    a number in quotes, which training would read, is refused here.
    """
    plans = {plan.name: plan for plan in plan_columns(spec, with_label=False, identity=False)}
    return tuple(_field(plans[name], spec) for name in spec.features.all)


def identity_fields(spec: ModelSpec) -> tuple[Field, ...]:
    """Return the fields of the row's key and of its time: with them a label finds its prediction.

    A key of several columns may be given as these, or joined under its own name.
    """
    plans = {plan.name: plan for plan in plan_columns(spec, with_label=False)}
    source = spec.source
    parts = () if isinstance(source.identity, str) else spec.key_parts
    others = [name for name in parts if name not in (*spec.features.all, source.timestamp)]
    made = [_field(replace(plans[source.key], name=name), spec) for name in others]
    return _field(plans[source.key], spec), _field(plans[source.timestamp], spec), *made


def _field(plan: ColumnPlan, spec: ModelSpec) -> Field:
    rule = spec.contract.columns.get(plan.name) or ColumnRule()
    read = _READS[plan.kind]
    if plan.kind in {"number", "integer"}:
        return Field(plan.name, plan, rule, _within(read, rule))
    return Field(plan.name, plan, rule, _checked(read, plan.checks) if plan.checks else read)


def _number(value: Any) -> float:
    if type(value) is not float and (type(value) is bool or not isinstance(value, int | float)):
        raise WrongValue("a number is needed")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise WrongValue("a finite number is needed")
    return number


def _whole(value: Any) -> float:
    number = _number(value)
    if not number.is_integer():
        raise WrongValue("a whole number is needed")
    if abs(value) >= EXACT_LIMIT:
        raise WrongValue("a whole number is needed that a double holds exactly")
    return number


def _truth(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is int and value in (0, 1):
        return value == 1
    raise WrongValue("true or false is needed")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue("text is needed")
    if len(value) > LONGEST_TEXT:
        raise WrongValue(f"text of at most {LONGEST_TEXT} characters is needed")
    if "\0" in value:  # Postgres keeps no such text
        raise WrongValue("text without a NUL is needed")
    if not value.isascii() and not _is_utf8(value):
        raise WrongValue("text is needed that UTF-8 can hold")
    return value


def _category(value: Any) -> str | bool | int | float:
    if isinstance(value, str):
        return _text(value)
    if type(value) is bool:
        return value
    if type(value) is int:
        return _code(value)
    if type(value) is float:
        return _number(value)
    raise WrongValue("text, a number, true or false is needed")


def _code(value: int) -> int:
    if not -_WIDEST <= value < _WIDEST:
        raise WrongValue("a whole number of at most 64 bits is needed")
    return value


def _key(value: Any) -> str | int:
    if isinstance(value, str):
        return _text(value)
    if type(value) is int:
        return _code(value)
    raise WrongValue("text or a whole number is needed")


def _moment(value: Any) -> str:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise WrongValue(_ZONED)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as err:
        raise WrongValue(_ZONED) from err
    if not _FIRST <= moment < _LAST:
        raise WrongValue("a time from 1678 to 2261 is needed")
    return value


_READS: Mapping[str, Read] = {
    "number": _number,
    "integer": _whole,
    "boolean": _truth,
    "string": _text,
    "category": _category,
    "key": _key,
    "time": _moment,
}


def _within(read: Read, rule: ColumnRule) -> Read:
    """Return the reader of numbers with its bounds: comparisons, because a column's own check costs 30 µs."""
    low, above, high, below = rule.ge, rule.gt, rule.le, rule.lt
    allowed = None if rule.isin is None else frozenset(float(value) for value in rule.isin)
    if allowed is None and not rule.bounded:
        return read

    def within(value: Any) -> float:
        number: float = read(value)
        if low is not None and number < low:
            raise WrongValue(f"a number greater than or equal to {low:g} is needed")
        if above is not None and number <= above:
            raise WrongValue(f"a number greater than {above:g} is needed")
        if high is not None and number > high:
            raise WrongValue(f"a number less than or equal to {high:g} is needed")
        if below is not None and number >= below:
            raise WrongValue(f"a number less than {below:g} is needed")
        if allowed is not None and number not in allowed:
            raise WrongValue(f"one of {sorted(allowed)[:20]} is needed")
        return number

    return within


def _checked(read: Read, checks: tuple[ValueCheck, ...]) -> Read:
    """Return the reader with the column's own checks behind it; what passed once is remembered."""
    passed: dict[tuple[type, object], None] = {}

    def checked(value: Any) -> Any:
        kept = read(value)
        known = (type(kept), kept)  # 1, 1.0 and True are equal, and not the same
        if known in passed:
            return kept
        column = pd.Series([kept], dtype=bool if type(kept) is bool else object)
        for check in checks:
            if not bool(check.passes(column)[0]):
                raise WrongValue(_wanted(check.text))
        if len(passed) < _REMEMBERED:
            passed[known] = None
        return kept

    return checked


def _wanted(text: str) -> str:
    return f"{text if len(text) <= 300 else text[:299] + '…'} is needed"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair
        return False
    return True
