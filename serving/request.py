"""What a request may hold: a model of one row, made from the champion's own spec and contract."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)

from tasks.core.data.renames import likely_renames
from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import ColumnRule

MOST_ROWS = 1000
_LONGEST_TEXT = 1000

Row = Mapping[str, Any]  # Any: numbers, text, booleans or None, as JSON gives them


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a request: which row and field (None: the row itself), and what about it.

    It never holds the value: that may be personal.
    """

    row: int
    field: str | None
    problem: str


class BadRows(Exception):
    """Rows that break the contract; nothing was predicted."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__(f"{len(problems)} problems")
        self.problems = tuple(problems)


class RowChecker:
    """Checks rows against one version's spec; the models are built once, when the version is taken."""

    def __init__(self, spec: ModelSpec):
        self.spec = spec
        self.names = tuple(spec.features.all)
        self.identity = (spec.source.key, spec.source.timestamp)
        self.model = row_model(spec)

    def check(self, rows: Sequence[Row]) -> list[dict[str, Any]]:  # Any: see Row
        """Return the rows with their values in the contract's types, by column name.

        Raises:
            BadRows: naming every wrong field of the first rows that have any, and likely renames.
        """
        good, problems = [], []
        for number, row in enumerate(rows):
            try:
                good.append(self.model.model_validate(row).model_dump(by_alias=True))
            except ValidationError as err:
                problems += self._problems(number, row, err)
                if len(problems) >= 20:  # enough to see what is wrong
                    break
        if problems:
            raise BadRows(problems)
        return good

    def _problems(self, number: int, row: object, err: ValidationError) -> list[Problem]:
        given = set(row) if isinstance(row, Mapping) else set()
        renames = likely_renames(
            [name for name in self.names if name not in given], given - {*self.names, *self.identity}
        )
        back = {found: name for name, found in renames.items()}
        found = []
        for one in err.errors(include_url=False, include_context=False, include_input=False):
            field = str(one["loc"][0]) if one["loc"] else None
            told = _WORDS.get(one["type"], one["msg"].removeprefix("Value error, "))
            if one["type"] == "missing" and field in renames:
                told += f"; {renames[field]!r} looks like it"
            if one["type"] == "extra_forbidden":
                told += f"; did you mean {back[str(field)]!r}?" if field in back else ""
                field = _short(str(field))
            found.append(Problem(number, field, told))
        return found


def _without_nul(text: str) -> str:
    if "\0" in text:  # Postgres keeps no such text
        raise ValueError("text without a NUL is needed")
    return text


_TEXT = Annotated[str, Field(max_length=_LONGEST_TEXT), AfterValidator(_without_nul)]
_WORDS = {
    "missing": "this field is missing (null says that a value is not known)",
    "extra_forbidden": "the model knows no such field",
    "model_type": "a row is an object of named fields",
}


def row_model(spec: ModelSpec) -> type[BaseModel]:
    """Return the model of one row: every feature by its column name, strict about types and bounds.

    The row's key and timestamp may stand beside the features; with them a label finds its prediction.
    """
    rules = spec.contract.columns
    fields: dict[str, Any] = {}  # Any: pydantic's own (type, field) pairs
    for index, name in enumerate(spec.features.all):
        rule = rules.get(name, ColumnRule())
        kind = _number(rule) if name in spec.features.numeric else _category(rule)
        wanted = kind | None if rule.nullable else kind
        fields[f"f{index}"] = (wanted, Field(alias=name, description=_described(rule)))
    for index, (name, kind) in enumerate(_identity(spec)):
        fields[f"k{index}"] = (kind | None, Field(None, alias=name))
    return create_model(
        f"{re.sub(r'[^A-Za-z0-9]', '', spec.name.title())}Row",
        __config__=ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, populate_by_name=False),
        **fields,
    )


def _identity(spec: ModelSpec) -> list[tuple[str, Any]]:
    moment = Annotated[_TEXT, AfterValidator(_moment)]
    return [(spec.source.key, _TEXT | int), (spec.source.timestamp, moment)]


def _number(rule: ColumnRule) -> Any:  # Any: an annotated type
    bounds = {name: getattr(rule, name) for name in ("ge", "gt", "le", "lt")}
    given = {name: limit for name, limit in bounds.items() if limit is not None}
    number = Annotated[float, BeforeValidator(_finite), Field(allow_inf_nan=False, strict=False, **given)]
    checks = [BeforeValidator(_whole)] if rule.dtype == "integer" else []
    checks += [BeforeValidator(_one_of(rule.isin))] if rule.isin else []
    for check in checks:
        number = Annotated[number, check]
    return number


def _category(rule: ColumnRule) -> Any:  # Any: an annotated type
    kinds: dict[str | None, Any] = {
        "boolean": bool,
        "integer": int,
        "number": float,
        "string": _TEXT,
        None: bool | int | Annotated[float, Field(allow_inf_nan=False)] | _TEXT,
    }
    kind = kinds[rule.dtype]
    if rule.matches is not None:
        kind = Annotated[kind, BeforeValidator(_matching(rule.matches))]
    return Annotated[kind, BeforeValidator(_one_of(rule.isin))] if rule.isin else kind


def _finite(value: object) -> object:
    if isinstance(value, bool) or (value is not None and not isinstance(value, int | float)):
        raise ValueError("a number is needed")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number is needed")
    if isinstance(value, int) and abs(value) > 2**53:
        raise ValueError("a number is needed that a double can hold exactly")
    return value


def _whole(value: object) -> object:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("a whole number is needed")
    return value


def _one_of(allowed: Sequence[Any]) -> Callable[[object], object]:  # Any: scalars of the contract
    known = set(allowed)

    def check(value: object) -> object:
        if value is not None and (not isinstance(value, str | int | float) or value not in known):
            raise ValueError(f"one of {sorted(map(str, known))[:20]} is needed")
        return value

    return check


def _matching(pattern: str) -> Callable[[object], object]:
    compiled = re.compile(pattern)

    def check(value: object) -> object:
        if isinstance(value, str) and not compiled.fullmatch(value[:_LONGEST_TEXT]):
            raise ValueError("text of another form is needed")
        return value

    return check


def _described(rule: ColumnRule) -> str:
    return ", ".join(f"{name} {value}" for name, value in rule.model_dump(exclude_defaults=True).items())


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time with its zone is needed, for example 2026-05-12T08:00:00Z")
    return text


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:59]}…"
