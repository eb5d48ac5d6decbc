"""What a request may hold: rows that keep the contract of the version which answers, as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from serving.fields import Field, WrongValue, feature_fields, identity_fields
from tasks.core.data.checks import broken_rows, find_check
from tasks.core.data.coerce import coerce
from tasks.core.data.renames import likely_renames
from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec

MOST_ROWS = 1000
_ROWS_TOLD, _PROBLEMS_TOLD, _FIELDS_TOLD = 20, 100, 12  # enough to see what is wrong
_LONGEST_NAME = 60

Row = Mapping[str, Any]  # Any: numbers, text, booleans or None, as JSON gives them
Wrongs = list[tuple[str | None, str]]
_ABSENT = object()


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
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return f"{len(self.problems)} problems"


class RowChecker:
    """Checks rows against one version's spec; what it needs is made once, when the version is taken.

    Raises:
        SpecError: when a cross-column check of the contract does not exist here.
    """

    def __init__(self, spec: ModelSpec):
        self.spec = spec
        self.names = tuple(spec.features.all)
        self.fields = feature_fields(spec)
        self.identity_fields = identity_fields(spec)
        self.identity = tuple(field.name for field in self.identity_fields)
        for name in spec.contract.checks:
            find_check(name)

    def check(self, rows: Sequence[Row]) -> list[dict[str, Any]]:  # Any: see Row
        """Return the rows with their values in the contract's types, by column name.

        Key and timestamp may stand beside the features; where they do not, they are None.

        Raises:
            BadRows: naming every wrong field of the first rows that have any, and likely renames.
        """
        good: list[dict[str, Any]] = []
        problems: list[Problem] = []
        hints: dict[str, str] | None = None
        told = 0
        for number, row in enumerate(rows):
            found, wrong = self._read(row)
            if not wrong:
                good.append(found)
                continue
            if hints is None and any(said in (_MISSING, _UNKNOWN) for _, said in wrong):
                hints = self._renames(row, wrong)  # of one row: the others were written by the same program
            problems += [Problem(number, *_told(*one, hints or {})) for one in wrong]
            told += 1
            if told >= _ROWS_TOLD or len(problems) >= _PROBLEMS_TOLD:
                break
        problems = problems or self._across(good)
        if problems:
            raise BadRows(problems)
        return good

    def _read(self, row: object) -> tuple[dict[str, Any], Wrongs]:
        if not isinstance(row, Mapping):
            return {}, [(None, "a row is an object of named fields")]
        found: dict[str, Any] = {}
        wrong: Wrongs = []
        seen = 0
        for field in self.fields:
            value = row.get(field.name, _ABSENT)
            if value is _ABSENT:
                wrong.append((field.name, _MISSING))
                continue
            seen += 1
            _take(field, value, found, wrong)
        for field in self.identity_fields:
            value = row.get(field.name, _ABSENT)
            seen += value is not _ABSENT
            if value is _ABSENT or value is None:
                found[field.name] = None
            else:
                _take(field, value, found, wrong)
        if seen < len(row):
            known = {*self.names, *self.identity}
            wrong += [(name, _UNKNOWN) for name in _some(name for name in row if name not in known)]
        return found, wrong

    def _renames(self, row: Row, wrong: Wrongs) -> dict[str, str]:
        missing = [str(name) for name, said in wrong if said == _MISSING][:_FIELDS_TOLD]
        extra = [str(name) for name, said in wrong if said == _UNKNOWN]
        return likely_renames(missing, [name for name in extra if len(name) <= _LONGEST_NAME])

    def _across(self, rows: Sequence[Row]) -> list[Problem]:
        """Return the rows that break a check across columns, asked of all of them together as in training."""
        if not self.spec.contract.checks:
            return []
        frame, problems = self._typed(rows), []
        for name in self.spec.contract.checks:
            for number in self._broken(frame, name)[:_ROWS_TOLD]:
                problems.append(Problem(int(number), None, f"the row breaks the check {name!r}"))
        return problems

    def _broken(self, frame: pd.DataFrame, name: str) -> list[int]:
        try:
            return [int(at) for at in broken_rows(frame, self.spec, name).nonzero()[0]]
        except ContractError:  # the check cannot answer: silence is not ok, so these rows are not good
            if len(frame) == 1:
                return [0]
        found = []
        for at in range(len(frame)):
            if self._broken(frame.iloc[[at]], name):
                found.append(at)
            if len(found) >= _ROWS_TOLD:
                break
        return found or list(range(len(frame)))  # fine one by one and not together: none can be told good

    def _typed(self, rows: Sequence[Row]) -> pd.DataFrame:
        """Return the rows as checks across columns get them, in the contract's types."""
        fields = list(self.fields)
        fields += [one for one in self.identity_fields if all(row[one.name] is not None for row in rows)]
        columns = {}
        for one in fields:
            column = pd.Series([row[one.name] for row in rows], dtype=object)
            columns[one.name] = one.plan.finished(coerce(column, one.plan.kind).values)
        return pd.DataFrame(columns)


_MISSING = "this field is missing (null says that a value is not known)"
_UNKNOWN = "the model knows no such field"


def _take(field: Field, value: object, found: dict[str, Any], wrong: Wrongs) -> None:
    if value is None:
        if field.plan.required:
            wrong.append((field.name, "a value is needed, null is none"))
        found[field.name] = None
        return
    try:
        found[field.name] = field.read(value)
    except WrongValue as err:
        wrong.append((field.name, str(err)))


def _some(names: Any) -> list[str]:  # Any: an iterator of names
    return [name for name, _ in zip(names, range(_FIELDS_TOLD), strict=False)]


def _told(field: str | None, said: str, hints: Mapping[str, str]) -> tuple[str | None, str]:
    if said == _MISSING and field is not None and field in hints:
        return field, f"{said}; {hints[field]!r} looks like it"
    if said == _UNKNOWN and field is not None:
        back = {found: name for name, found in hints.items()}
        said += f"; did you mean {back[field]!r}?" if field in back else ""
        return _short(field), said
    return field, said


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
