"""What `${…}` in a source's URL and parameters stands for, looked up at the moment of reading."""

from __future__ import annotations

import os
from collections.abc import Callable

from tasks.aws import secret_of_block
from tasks.core.errors import SpecError, WorkflowError
from tasks.core.placeholders import Placeholder, fill, fill_url
from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import Scalar


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


def _values(model: str) -> Callable[[Placeholder], str]:
    def value_of(asked: Placeholder) -> str:
        if asked.kind != "env":
            try:
                return secret_of_block(asked.kind, asked.name, asked.field)
            except WorkflowError as err:
                raise type(err)(err.found, err.expected, err.todo, model=model) from None
        if asked.name not in os.environ:
            raise SpecError(
                f"source with {asked.text}, which is not set",
                "an environment variable of that name",
                f"export {asked.name} where the flow runs",
                model=model,
            )
        return os.environ[asked.name]

    return value_of
