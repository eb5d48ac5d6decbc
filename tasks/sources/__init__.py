"""Sources of rows: SQL, files and the web behind one small protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.sources.where import Where

_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_]\w*)\}")


class Source(Protocol):
    """Rows somewhere: what they are called, which there are, and how many."""

    incremental: bool
    """Whether keeping a local copy of what was read saves anything."""

    def schema(self) -> list[str]:
        """Return the names of all columns."""

    def batches(self, columns: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        """Yield the matching rows: times in UTC, existing `columns` only, in bounded batches."""

    def count(self, where: Where, distinct: str | None = None) -> int:
        """Return how many rows match, or how many different values they have in one column."""

    def checksum(self, where: Where) -> str | None:
        """Return a digest of the matching rows made where they are, or None where that is no cheaper."""

    def close(self) -> None:
        """Let go of connections and temporary files."""


def open_source(spec: ModelSpec, settings: Settings) -> Source:
    """Return the source that `spec.source.url` names; nothing is read yet, and it must be closed.

    Raises:
        SpecError: when the URL needs an environment variable that is not set.
    """
    url = expand(spec.source.url, spec.name)
    if url.startswith(("http://", "https://")):
        from tasks.sources.web import WebSource

        return WebSource(spec, url, settings.work_dir("downloads"))
    if "://" in url and not url.startswith(("s3://", "file://")):
        from tasks.sources.sql import SqlSource

        return SqlSource(spec, url)
    from tasks.sources.files import FileSource

    return FileSource(spec, url)


def expand(url: str, model: str) -> str:
    """Return the URL with every `${NAME}` filled from the environment; never log the result.

    Raises:
        SpecError: when a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise SpecError(
                f"source.url with ${{{name}}}, which is not set",
                "an environment variable of that name",
                f"export {name} where the flow runs",
                model=model,
            )
        return os.environ[name]

    return _PLACEHOLDER.sub(value, url)


def count_streamed(source: Source, where: Where, column: str, *, distinct: bool) -> int:
    """Return how many rows match, or how many different values `column` has in them, by reading them."""
    rows = 0
    seen: list[pa.Array] = []
    for batch in source.batches([column], where):
        rows += batch.num_rows
        if distinct:
            seen.append(pc.unique(pc.drop_null(batch.column(0)).cast(pa.string())))
    if not distinct:
        return rows
    return len(pc.unique(pa.chunked_array(seen, pa.string()))) if seen else 0
