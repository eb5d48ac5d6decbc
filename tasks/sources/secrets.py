"""What `${…}` in a source's URL and parameters stands for, looked up at the moment of reading."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import quote

from tasks.aws import secret_of_block
from tasks.core.errors import SpecError, WorkflowError
from tasks.core.placeholders import Placeholder, fill, fill_url
from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import Scalar

_SHORTEST = 3  # shorter values stand in too many words
_WORD = (
    8  # shorter ones are replaced as whole words only: a database called `app` is no part of `application`
)
_filled: dict[str, str] = {}


def filled_url(spec: ModelSpec) -> str:
    """Return the source's URL with every placeholder filled; never log it.

    Raises:
        SpecError: when a variable is not set, or a block, secret or field is not there.
        SourceUnavailable: when what keeps the secret does not answer.
    """
    return fill_url(spec.source.url, _values(spec.name))


def filled_parameters(spec: ModelSpec) -> dict[str, Scalar]:
    """Return the query's bound parameters with every placeholder filled; never log them.

    Raises:
        SpecError: see `filled_url`.
        SourceUnavailable: see `filled_url`.
    """
    value_of = _values(spec.name)
    return {
        name: fill(value, value_of) if isinstance(value, str) else value
        for name, value in spec.source.parameters.items()
    }


def as_written(text: str) -> str:
    """Return the text with all that this process filled in for a `${…}`, and its parts, as it was written."""
    for value, written in sorted(_filled.copy().items(), key=lambda pair: len(pair[0]), reverse=True):
        edge = r"\b" if len(value) < _WORD and value.isalnum() else ""
        text = re.sub(f"{edge}{re.escape(value)}{edge}", lambda _, written=written: written, text)
    return text


def written_error(err: WorkflowError) -> WorkflowError:
    """Return the same error with its texts as written, without the causes that it was made from."""
    found, expected, todo = (as_written(part) for part in (err.found, err.expected, err.todo))
    return type(err)(found, expected, todo, model=err.model, window=err.window)


def _keep(value: str, text: str) -> str:
    """Remember a value and its parts, so that no message shows them; return it."""
    parts = re.split(r"[/:@?&=#;,\s]+", value.partition("://")[2] or value)
    for part in (value, quote(value, safe=""), *parts):
        if len(part) >= _SHORTEST:
            _filled[part] = text
    return value


def _values(model: str) -> Callable[[Placeholder], str]:
    def value_of(asked: Placeholder) -> str:
        if asked.kind != "env":
            try:
                return _keep(secret_of_block(asked.kind, asked.name, asked.field), asked.text)
            except WorkflowError as err:
                raise type(err)(err.found, err.expected, err.todo, model=model) from None
        if asked.name not in os.environ:
            raise SpecError(
                f"source with {asked.text}, which is not set",
                "an environment variable of that name",
                f"export {asked.name} where the flow runs",
                model=model,
            )
        return _keep(os.environ[asked.name], asked.text)

    return value_of
