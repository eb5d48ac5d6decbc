"""Rows from a Parquet or CSV file on the web: downloaded whole, checked, then read as a file."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

import httpx
import pyarrow as pa

from tasks.core.errors import FetchError, SourceUnavailable
from tasks.core.spec import ModelSpec
from tasks.sources.files import FileSource
from tasks.sources.listing import FORMATS
from tasks.sources.where import Where
from tasks.store.deadline import LEAST_BYTES, SECONDS, NoAnswer, within

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
        self._shown = spec.source.url  # as written: what was filled in is shown nowhere
        self._folder = Path(tempfile.mkdtemp(prefix=f"{spec.name}-", dir=folder))
        self._max_bytes = max_bytes
        self._written = 0

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
        until = time.monotonic() + SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            left = max(until - time.monotonic(), 0.0)
            try:
                return self._download(left)
            except SourceUnavailable:
                if attempt == ATTEMPTS or time.monotonic() + 0.5 * 2**attempt >= until:
                    raise
                _wait(0.5 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _download(self, seconds: float) -> Path:
        """Return the whole file; the server may be silent, or send next to nothing, for so many seconds."""
        client = httpx.Client(
            timeout=seconds, follow_redirects=True, event_hooks={"request": [self._refuse_detour]}
        )
        self._written = 0

        def work() -> Path:
            with client, client.stream("GET", self._url) as response:
                self._check(response)
                path = self._folder / f"download{self._suffix(response)}"
                self._write(response, path)
                return path

        try:
            return within(seconds, work, progress=lambda: self._written, give_up=client.close)
        except NoAnswer:
            raise SourceUnavailable(
                f"{self._shown} that sends next to nothing for {seconds:.0f} seconds",
                f"{LEAST_BYTES // 1024} KiB in that time",
                "check that the server is up and the line is free",
                model=self._spec.name,
            ) from None
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

    def _refuse_detour(self, request: httpx.Request) -> None:
        """Refuse to be led away from https, or from a public server into this network."""
        there, start = request.url, self._url
        if there == start:
            return
        is_plain = start.scheme == "https" and there.scheme != "https"
        if is_plain or (not leads_inside(start.host) and leads_inside(there.host)):
            raise FetchError(
                f"{self._shown} leading to {there.scheme}://{there.host}",
                "https:// to the end" if is_plain else "a public address, as source.url has one",
                "name the file's own address in source.url",
                model=self._spec.name,
            )

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
        with path.open("wb") as file:
            for chunk in response.iter_bytes():
                self._written += len(chunk)
                if self._written > self._max_bytes:
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


def leads_inside(host: str) -> bool:
    """Return whether this name or address leads to a machine that is not on the public internet."""
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):  # no such name: the request fails by itself
        return False
    return not all(ip_address(address).is_global for address in found)


def _wait(seconds: float) -> None:
    time.sleep(seconds)
