"""Rows from a Parquet or CSV file on the web: downloaded whole, checked, then read as a file."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import httpx
import pyarrow as pa

from tasks.core.errors import FetchError, SourceUnavailable
from tasks.core.spec import ModelSpec
from tasks.sources.files import FileSource
from tasks.sources.listing import FORMATS
from tasks.sources.where import Where

MAX_BYTES = 2 * 1024**3
ATTEMPTS = 3
_PASSING = {408, 425, 429}
_KINDS = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/vnd.apache.parquet": ".parquet",
}


class WebSource:
    """A file behind http(s); downloaded once per opened source and removed on close."""

    incremental = False

    def __init__(
        self,
        spec: ModelSpec,
        url: str,
        folder: Path,
        *,
        max_bytes: int = MAX_BYTES,
    ):
        self._spec = spec
        self._url = httpx.URL(url)
        self._shown = f"{self._url.scheme}://{self._url.host}{self._url.path}"  # no user, password or query
        self._folder = Path(tempfile.mkdtemp(prefix=f"{spec.name}-", dir=folder))
        self._max_bytes = max_bytes

    def close(self) -> None:
        """Remove the download."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @cached_property
    def _file(self) -> FileSource:
        return FileSource(self._spec, str(self._downloaded()), name=self._shown)

    @property
    def skipped(self) -> Mapping[str, int]:
        """Nothing: it is one file."""
        return {}

    @property
    def dialect(self) -> Mapping[str, object]:
        """How the download is written, where it is CSV."""
        return self._file.dialect

    def schema(self) -> list[str]:
        """Return the names of all columns."""
        return self._file.schema()

    def batches(self, columns: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        """Yield the matching rows of the download."""
        return self._file.batches(columns, where)

    def count(self, where: Where, distinct: str | None = None) -> int:
        """Return how many rows match."""
        return self._file.count(where, distinct)

    def checksum(self, where: Where) -> str | None:
        """Return None: the file is read whole anyway."""
        return None

    def _downloaded(self) -> Path:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._download()
            except SourceUnavailable:
                if attempt == ATTEMPTS:
                    raise
                _wait(0.5 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _download(self) -> Path:
        timeout = httpx.Timeout(60, connect=10)
        try:
            with (
                httpx.Client(timeout=timeout, follow_redirects=True) as client,
                client.stream("GET", self._url) as response,
            ):
                self._check(response)
                path = self._folder / f"download{self._suffix(response)}"
                self._write(response, path)
                return path
        except httpx.TransportError as err:
            # A body shorter than announced ends here too: the connection closed before its end.
            raise SourceUnavailable(
                f"{self._shown} that broke off: {type(err).__name__}",
                "a whole answer",
                "check that the server is up",
                model=self._spec.name,
            ) from None  # httpx keeps the request, with its URL and password
        except (httpx.TooManyRedirects, httpx.DecodingError, httpx.InvalidURL) as err:
            raise FetchError(
                f"{self._shown} unreadable: {type(err).__name__}", "a plain file", model=self._spec.name
            ) from None

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            announced = response.headers.get("content-length", "0")
            if announced.isdigit() and int(announced) > self._max_bytes:
                raise self._too_large()
            return
        passing = status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _PASSING
        kind = SourceUnavailable if passing else FetchError
        raise kind(
            f"HTTP {status} from {self._shown}",
            "HTTP 200 and the file",
            "try later; the server says the fault is its own"
            if passing
            else "check source.url and the rights",
            model=self._spec.name,
        )

    def _write(self, response: httpx.Response, path: Path) -> None:
        written = 0
        with path.open("wb") as file:
            for chunk in response.iter_bytes(1024 * 1024):
                written += len(chunk)
                if written > self._max_bytes:
                    raise self._too_large()
                file.write(chunk)

    def _too_large(self) -> FetchError:
        return FetchError(
            f"more than {self._max_bytes:,} bytes from {self._shown}",
            "a file within the limit",
            "publish it in parts on S3, or as a database",
            model=self._spec.name,
        )

    def _suffix(self, response: httpx.Response) -> str:
        name = self._url.path.lower()
        for ending in sorted(FORMATS, key=len, reverse=True):
            if name.endswith(ending):
                return ending
        return _KINDS.get(response.headers.get("content-type", "").split(";")[0].strip(), ".parquet")


def _wait(seconds: float) -> None:
    time.sleep(seconds)
