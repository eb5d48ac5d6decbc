"""Sources of rows: SQL, files and the web behind one small protocol."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from prefect.exceptions import PrefectException

from tasks.core.errors import FetchError, WorkflowError
from tasks.core.placeholders import placeholders
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.sources.keyed import keyed
from tasks.sources.secrets import filled_parameters, filled_url, written_error
from tasks.sources.where import Where


class Source(Protocol):
    """Rows somewhere: what they are called, which there are, and how many."""

    incremental: bool
    """Whether keeping a local copy of what was read saves anything."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many files beside those with rows were passed over, by reason."""

    @property
    def dialect(self) -> Mapping[str, object]:
        """How its CSV is written, as `source.csv` would say it; nothing where it has none."""

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


@contextmanager
def opened(spec: ModelSpec, settings: Settings) -> Iterator[Source]:
    """Open the source that `spec.source.url` names for the block, and close it.

    An error that nobody foresaw leaves as a FetchError naming its kind and where it arose: its own text, and
    that of its causes, may show rows or credentials, and Prefect would log it.

    Raises:
        SpecError: when the URL needs a variable or a secret that is not there.
        FetchError: when reading fails in a way no source foresaw.
    """
    try:
        with closing(_source(spec, settings)) as source:
            yield keyed(source, spec)
    except WorkflowError as err:
        if placeholders(spec.source.url) or any(
            "${" in str(value) for value in spec.source.parameters.values()
        ):
            raise written_error(err) from None
        raise
    except (PrefectException, TimeoutError):
        raise
    except Exception as err:
        at = traceback.extract_tb(err.__traceback__)[-1]
        raise FetchError(
            f"{type(err).__name__} in {Path(at.filename).name}, line {at.lineno}",
            "rows that can be read",
            "read the source there by hand, or report this as a bug",
            model=spec.name,
        ) from None


def _source(spec: ModelSpec, settings: Settings) -> Source:
    url = filled_url(spec)
    if url.startswith(("http://", "https://")):
        from tasks.sources.web import WebSource

        return WebSource(spec, url, settings.work_dir("downloads"))
    if "://" in url and not url.startswith(("s3://", "file://")):
        from tasks.sources.sql import SqlSource

        return SqlSource(spec, url, filled_parameters(spec))
    from tasks.sources.files import FileSource

    return FileSource(spec, url, settings)
