"""Rows from Parquet and CSV: one file, a folder or a glob, on disk or on S3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from tasks.core.errors import FetchError, SourceUnavailable
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.sources.csv_file import CsvFile
from tasks.sources.listing import Listing, absent, format_of, list_files, partitions_of
from tasks.sources.shape import Tally, first_key, needed, require_identity, shaped
from tasks.sources.times import DATE_LIKE, kind_of, pushed
from tasks.sources.where import Where
from tasks.sources.wrapped import count_streamed
from tasks.store.s3 import filesystem

BATCH_ROWS = 50_000
_PASSING = re.compile(
    r"NETWORK_CONNECTION|timed? ?out|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|THROTTL|HTTP status 5",
    re.IGNORECASE,
)


class FileSource:
    """Files read where they are: reading them again costs no more than a copy of them would."""

    incremental = False

    def __init__(
        self, spec: ModelSpec, url: str, settings: Settings | None = None, *, name: str | None = None
    ):
        self._spec = spec
        self._settings = settings
        self._shown = name or url
        self._pattern = unquote(url[7:]) if url.startswith("file://") else url.removeprefix("s3://")
        self._csv_files: dict[str, CsvFile] = {}
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
    def _listing(self) -> Listing:
        pattern = self._pattern if self._s3 else str(Path(self._pattern).expanduser().absolute())
        with self._told("the files"):
            return list_files(self._filesystem, pattern, self._shown, self._spec)

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many files of the folder were passed over, by reason."""
        return self._listing.skipped

    @property
    def dialect(self) -> Mapping[str, object]:
        """How the first CSV file is written, as `source.csv` would say it; nothing where there is none."""
        first = next((path for path in self._listing.paths if format_of(path) == "csv"), None)
        return self._csv(first).written() if first else {}

    def schema(self) -> list[str]:
        """Return the names of all columns of any of the files, in order of appearance."""
        names: dict[str, None] = {}
        for path in self._listing.paths:
            with self._told(path):
                names |= dict.fromkeys(self._names(path))
        return list(names)

    def batches(self, columns: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        """Yield the matching rows file by file; a file without a wanted column comes without it."""
        tally = Tally(self._spec)
        for path in self._listing.paths:
            with self._told(path):
                yield from self._rows(path, columns, where, tally)
        tally.judge(lambda: sum(self._count(path) for path in self._listing.paths))

    def count(self, where: Where, distinct: str | None = None) -> int:
        """Return how many rows match, reading only the columns that decide."""
        return count_streamed(self, where, distinct or first_key(self._spec), distinct=distinct is not None)

    def _names(self, path: str) -> list[str]:
        """The file's own columns, then those that stand in the names of its folders."""
        is_csv = self._kind(path) == "csv"
        own = self._csv(path).dialect.names if is_csv else self._dataset(path).schema.names
        return list(dict.fromkeys([*own, *partitions_of(path)]))

    def _rows(
        self, path: str, columns: Sequence[str], where: Where, tally: Tally
    ) -> Iterator[pa.RecordBatch]:
        names = self._names(path)
        name = path.rsplit("/", 1)[-1]
        require_identity(names, self._spec, f"file {name!r}")
        read = needed(columns, where, names)
        is_csv = self._kind(path) == "csv"
        layout = self._csv(path).layout if is_csv else None
        for batch in self._csv_batches(path, read) if is_csv else self._parquet(path, read, where):
            full = _with_partitions(batch, partitions_of(path), read)
            yield shaped(full, columns, where, self._spec, names, part=name, layout=layout, tally=tally)

    def _csv_batches(self, path: str, read: Sequence[str]) -> Iterator[pa.RecordBatch]:
        file = self._csv(path)
        own = [name for name in read if name in file.dialect.names]
        return file.batches(own or file.dialect.names[:1])

    def _parquet(self, path: str, read: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        dataset = self._dataset(path)
        own = [name for name in read if name in dataset.schema.names]
        filter_ = self._expression(dataset.schema, where)
        for piece in self._pieces(dataset, filter_):
            scanner = piece.scanner(
                columns=own,
                filter=filter_,
                batch_size=BATCH_ROWS,
                batch_readahead=2,
                fragment_readahead=1,
                use_threads=False,
            )
            yield from scanner.to_batches()

    def _count(self, path: str) -> int:
        if self._kind(path) == "parquet":
            return int(self._dataset(path).count_rows())
        return sum(batch.num_rows for batch in self._csv_batches(path, []))

    def _pieces(self, dataset: ds.Dataset, filter_: pc.Expression | None) -> Iterator[ds.Fragment]:
        """Yield what is scanned at once, a row group: a scan keeps what it read to its end."""
        for fragment in dataset.get_fragments(filter_):
            yield from fragment.split_by_row_group(filter_)

    def _kind(self, path: str) -> str:
        kind = format_of(path)
        if kind is None:
            raise FetchError(
                f"file {path.rsplit('/', 1)[-1]!r} of unknown kind",
                "a name that ends in .parquet, .csv or .tsv, packed or not",
                "rename it or correct source.url",
                model=self._spec.name,
            )
        return kind

    def _csv(self, path: str) -> CsvFile:
        if path not in self._csv_files:
            self._csv_files[path] = CsvFile(self._filesystem, path, self._spec)
        return self._csv_files[path]

    def _dataset(self, path: str) -> ds.Dataset:
        # Read ahead only where each request costs: what is read ahead stays in memory to the file's end.
        options = ds.ParquetFragmentScanOptions(pre_buffer=self._s3, use_buffered_stream=not self._s3)
        format_ = ds.ParquetFileFormat(
            default_fragment_scan_options=options, coerce_int96_timestamp_unit="us"
        )
        return ds.dataset(path, format=format_, filesystem=self._filesystem)

    def _expression(self, schema: pa.Schema, where: Where) -> pc.Expression | None:
        parts = []
        for part in where:
            both = pc.scalar(True)
            for clause in part:
                if clause.column not in schema.names:
                    continue  # it stands in the name of a folder
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

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        name = path.rsplit("/", 1)[-1]
        try:
            yield
        except FileNotFoundError as err:
            raise absent(f"no file {name!r}", self._shown, self._spec) from err
        except pa.ArrowInvalid:
            raise FetchError(
                f"{name!r} of {self._shown} damaged or incomplete, or no Parquet file",
                "a whole Parquet file",
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


def _with_partitions(
    batch: pa.RecordBatch, partitions: Mapping[str, str | None], read: Sequence[str]
) -> pa.RecordBatch:
    """Return the batch with the wanted columns that stand in the names of folders."""
    for name, value in partitions.items():
        if name in read and name not in batch.schema.names:
            constant = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
            batch = batch.append_column(name, constant)
    return batch
