"""Mistakes in a model block in a reader's words: which field, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.core.window import DURATION_PATTERN

IMPORT_PATTERN = r"^[A-Za-z_][\w.]*[.:][A-Za-z_]\w*$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

_SCALARS = {"str", "int", "float", "bool", "constrained-float"}
_FORMS = {
    DURATION_PATTERN: "Input should be a whole number and one of s, m, h, d, w, like 90d",
    IMPORT_PATTERN: "Input should be an import path, like package.module.Name",
    NAME_PATTERN: "Input should be at most 64 letters, digits, _ . or -, beginning with a letter or digit",
}


def problems_of(err: ValidationError, root: type[BaseModel], named: type[BaseModel]) -> list[str]:
    """Return one line per wrong field; `named` is the model of the parts whose keys are free (columns)."""
    return list(dict.fromkeys(_problem(item, root, named) for item in err.errors(include_url=False)))


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return a hint at the allowed name most like the given one, or nothing.

    Example:
        >>> did_you_mean("tabel", ["url", "table"])
        "; did you mean 'table'?"
    """
    close = get_close_matches(given, [str(name) for name in allowed], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _problem(item: Any, root: type[BaseModel], named: type[BaseModel]) -> str:  # Any: pydantic's ErrorDetails
    path = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        keys = _keys_at(path[:-1], root, named)
        return f"{'.'.join(path)}: unknown key{did_you_mean(path[-1], keys)}; allowed: {', '.join(keys)}"
    if item["type"] == "missing":
        return f"{'.'.join(path)}: missing"
    message = item["msg"].removeprefix("Value error, ")
    if path and path[-1] in _SCALARS:  # one line for the value, not one per type it might have had
        path, message = path[:-1], "Input should be text, a finite number or a boolean"
    if item["type"] == "model_type" and item["ctx"]["class_name"] == named.__name__:
        keys = _keys_at(path[:-1], root, named)
        message = f"Input should be the rules of a column, like {{ge: 0}}{did_you_mean(path[-1], keys)}"
    elif item["type"] == "model_type":
        message = f"Input should have the keys {', '.join(_keys_at(path, root, named))}"
    message = _FORMS.get(item.get("ctx", {}).get("pattern", ""), message)
    given = "" if "stands in it" in message else _given(item["input"])  # a secret, perhaps at its beginning
    return f"{'.'.join(path) or 'the block'}: {message}{given}"


def _given(value: object) -> str:
    """Return what was given, shortened, and without anything that might hold a password."""
    if isinstance(value, dict | list | BaseModel):
        return ""
    text = str(value)
    return f" (given {'a URL' if '://' in text else repr(text[:40])})"


def _keys_at(path: list[str], root: type[BaseModel], named: type[BaseModel]) -> list[str]:
    """Return the keys allowed at this place of a block."""
    part = root
    for step in path:
        kinds = {info.alias or name: info.annotation for name, info in part.model_fields.items()}
        kind = kinds.get(step)
        part = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else named
    return [info.alias or name for name, info in part.model_fields.items()]
