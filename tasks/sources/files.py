"""Rows from Parquet and CSV: one file, a folder or a glob, on disk or on S3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from pyarrow import csv

from tasks.core.errors import FetchError, SourceUnavailable
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.sources import count_streamed
from tasks.sources.shape import Tally, needed, require_identity, shaped
from tasks.sources.times import DATE_LIKE, kind_of, pushed
from tasks.sources.where import Where
from tasks.store.s3 import filesystem

BATCH_ROWS = 50_000
_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".csv.gz": "csv"}
_PASSING = re.compile(
    r"NETWORK_CONNECTION|timed? ?out|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|THROTTL|HTTP status 5",
    re.IGNORECASE,
)
_NO_NUMBER = pa.array(["NA", "N/A", "NaN", "nan", "null", "NULL", "None"])


class FileSource:
    """Files read where they are: reading them again costs no more than a copy of them would."""

    incremental = False

    def __init__(
        self, spec: ModelSpec, url: str, settings: Settings | None = None, *, name: str | None = None
    ):
        self._spec = spec
        self._settings = settings
        self._shown = name or url
        self._pattern = url.removeprefix("s3://").removeprefix("file://")
        self._s3 = url.startswith("s3://")

    def close(self) -> None:
        """Nothing is kept open."""

    def checksum(self, where: Where) -> str | None:
        """Return None: files have no cheaper digest than their rows."""
        return None

    @cached_property
    def _filesystem(self) -> pafs.FileSystem:
        if not self._s3:
            return pafs.LocalFileSystem()
        return filesystem(f"s3://{self._pattern}", self._settings)[0]

    @cached_property
    def _files(self) -> list[str]:
        pattern = self._pattern if self._s3 else str(Path(self._pattern).expanduser().absolute())
        with self._told("the files"):
            info = None if _is_glob(pattern) else self._filesystem.get_file_info(pattern.rstrip("/"))
            if info is not None and info.type == pafs.FileType.File:
                return [info.path]
            if info is not None and info.type == pafs.FileType.NotFound:
                raise self._absent("no file")
            glob = pattern if info is None else f"{pattern.rstrip('/')}/**"
            base = _base(glob)
            selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
            matcher = _regex(glob)
            found = [
                item.path
                for item in self._filesystem.get_file_info(selector)
                if item.type == pafs.FileType.File and matcher.fullmatch(item.path) and _format(item.path)
            ]
        if not found:
            raise self._absent("no Parquet or CSV file")
        return sorted(found)

    def schema(self) -> list[str]:
        """Return the names of all columns of any of the files, in order of appearance."""
        names: dict[str, None] = {}
        for path in self._files:
            with self._told(path):
                names |= dict.fromkeys(self._dataset(path).schema.names)
        return list(names)

    def batches(self, columns: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        """Yield the matching rows file by file; a file without a wanted column comes without it."""
        tally = Tally(self._spec)
        for path in self._files:
            with self._told(path):
                yield from self._rows(path, columns, where, tally)
        tally.judge(lambda: sum(self._dataset(path).count_rows() for path in self._files))

    def count(self, where: Where, distinct: str | None = None) -> int:
        """Return how many rows match, reading only the columns that decide."""
        return count_streamed(self, where, distinct or self._spec.source.key, distinct=distinct is not None)

    def _rows(
        self, path: str, columns: Sequence[str], where: Where, tally: Tally
    ) -> Iterator[pa.RecordBatch]:
        dataset = self._dataset(path)
        names = dataset.schema.names
        require_identity(names, self._spec, f"file {path.rsplit('/', 1)[-1]!r}")
        is_csv = _format(path) == "csv"
        read = needed(columns, where, names)
        filter_ = None if is_csv else self._expression(dataset.schema, where)
        for piece in self._pieces(dataset, filter_, is_csv):
            scanner = piece.scanner(
                columns=read,
                filter=filter_,
                batch_size=BATCH_ROWS,
                batch_readahead=2,
                fragment_readahead=1,
                use_threads=False,
            )
            for batch in scanner.to_batches():
                typed = self._typed(batch) if is_csv else batch
                yield shaped(
                    typed, columns, where, self._spec, names, part=path.rsplit("/", 1)[-1], tally=tally
                )

    def _pieces(
        self, dataset: ds.Dataset, filter_: pc.Expression | None, is_csv: bool
    ) -> Iterator[ds.Dataset | ds.Fragment]:
        """Yield what is scanned at once: of Parquet a row group, for a scan keeps what it read to its end."""
        if is_csv:
            yield dataset
            return
        for fragment in dataset.get_fragments(filter_):
            yield from fragment.split_by_row_group(filter_)

    def _dataset(self, path: str) -> ds.Dataset:
        kind = _format(path)
        if kind is None:
            raise FetchError(
                f"file {path.rsplit('/', 1)[-1]!r} of unknown kind",
                "a name that ends in .parquet or .csv",
                "rename it or correct source.url",
                model=self._spec.name,
            )
        if kind == "parquet":
            # Read ahead only where each request costs: what is read ahead stays in memory to the file's end.
            options = ds.ParquetFragmentScanOptions(pre_buffer=self._s3, use_buffered_stream=not self._s3)
            format_ = ds.ParquetFileFormat(
                default_fragment_scan_options=options, coerce_int96_timestamp_unit="us"
            )
            return ds.dataset(path, format=format_, filesystem=self._filesystem)
        with self._filesystem.open_input_stream(path) as stream:
            names = csv.open_csv(stream).schema.names
        options = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
        )
        return ds.dataset(path, format=ds.CsvFileFormat(convert_options=options), filesystem=self._filesystem)

    def _expression(self, schema: pa.Schema, where: Where) -> pc.Expression | None:
        parts = []
        for part in where:
            both = pc.scalar(True)
            for clause in part:
                field = pc.field(clause.column)
                kind = kind_of(schema.field(clause.column).type, clause.column, self._spec)
                if kind is None or pa.types.is_dictionary(schema.field(clause.column).type):
                    continue
                if clause.op in ("null", "unreadable"):
                    both &= pc.scalar(True) if kind == "text" else field.is_null()
                    continue
                bound = pc.scalar(pa.scalar(pushed(clause, kind, self._spec)))
                compared = field >= bound if clause.op == "ge" else field < bound
                both &= compared | ~pc.match_like(field, DATE_LIKE) if kind == "text" else compared
            parts.append(both)
        whole = parts[0] if parts else None
        for part in parts[1:]:
            whole |= part
        return whole

    def _typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give CSV text its type batch by batch; identities and categories stay as written ("007")."""
        source = self._spec.source
        as_written = {source.key, source.timestamp, source.updated, *self._spec.features.categorical}
        as_written |= {source.group, *self._spec.gate.slices}
        as_written |= set() if self._spec.task == "regression" else {self._spec.label.column}
        arrays = [
            column if name in as_written else _guessed(column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        name = path.rsplit("/", 1)[-1]
        try:
            yield
        except FileNotFoundError as err:
            raise self._absent(f"no file {name!r}") from err
        except pa.ArrowInvalid:
            raise FetchError(
                f"{name!r} of {self._shown} damaged or incomplete",
                "a whole Parquet or CSV file",
                "write it again, elsewhere first and then renamed into place",
                model=self._spec.name,
            ) from None  # Arrow's own text may show a value
        except OSError as err:
            passing = self._s3 and _PASSING.search(str(err))
            kind = SourceUnavailable if passing else FetchError
            code = re.search(r"AWS Error ([A-Z_0-9]+)", str(err))
            reason = code.group(1) if code else type(err).__name__
            raise kind(
                f"{name!r} of {self._shown} unreadable: {reason}",
                "storage that answers" if passing else "readable files",
                "check the bucket, the path and the rights",
                model=self._spec.name,
            ) from err

    def _absent(self, what: str) -> FetchError:
        return FetchError(
            f"{what} at {self._shown}", "at least one", "check source.url", model=self._spec.name
        )


def _format(path: str) -> str | None:
    return next((kind for end, kind in _FORMATS.items() if path.lower().endswith(end)), None)


def _is_glob(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def _base(glob: str) -> str:
    fixed = [
        part for part in re.split(r"(?<=/)", re.split(r"[*?\[]", glob, maxsplit=1)[0]) if part.endswith("/")
    ]
    return "".join(fixed).rstrip("/") or "/"


def _regex(glob: str) -> re.Pattern[str]:
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return re.compile(
        "".join(signs.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts)
    )


def _guessed(texts: pa.Array) -> pa.Array:
    numbers = pc.if_else(pc.is_in(texts, _NO_NUMBER), pa.scalar(None, pa.string()), texts)
    if numbers.null_count == len(numbers):
        return texts if texts.null_count < len(texts) else pa.nulls(len(texts))
    for kind in (pa.int64(), pa.float64()):
        try:
            return pc.utf8_trim_whitespace(numbers).cast(kind)
        except pa.ArrowInvalid:
            continue
    return texts
