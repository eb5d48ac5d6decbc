"""One CSV file as batches of text or numbers, and what is wrong with it when it cannot be read."""

from __future__ import annotations

import codecs
import csv
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from pyarrow import csv as arrow_csv

from tasks.core.errors import FetchError
from tasks.core.spec import ModelSpec
from tasks.sources.csv_dialect import NO_NUMBER, SAMPLE_BYTES, Dialect, guess, numeric_columns, unread_by
from tasks.sources.shape import time_columns

_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zstd"))
_BLOCKS = (1 << 20, 1 << 26)
_NO_NUMBER = pa.array(sorted(set(NO_NUMBER)))


class CsvFile:
    """A CSV file in whatever dialect, plain or packed."""

    def __init__(self, filesystem: pafs.FileSystem, path: str, spec: ModelSpec):
        self._filesystem = filesystem
        self._path = path
        self._name = path.rsplit("/", 1)[-1]
        self._spec = spec

    @cached_property
    def dialect(self) -> Dialect:
        """How the file is written.

        Raises:
            FetchError: when its encoding cannot be told, it has no header, or a name stands there twice.
        """
        with closing(self._open()) as stream:
            sample = stream.read(SAMPLE_BYTES)
        dialect = guess(sample, self._spec, self._name)
        if not any(dialect.names):
            raise self._error("without a header", "a first line with the names of the columns", "write one")
        doubled = [name for name, count in Counter(dialect.names).items() if count > 1]
        ours = sorted(set(doubled) & set(self._spec.columns))
        if ours:
            named = ", ".join(map(repr, ours))
            raise self._error(f"with columns that stand more than once: {named}", "each column name once", "")
        return dialect

    @cached_property
    def layout(self) -> str | None:
        """The strptime format of its times, None where they are ISO 8601 or numbers.

        Raises:
            FetchError: when they can be read as day or month first.
        """
        layouts = self.dialect.layouts
        if len(layouts) < 2:
            return layouts[0] if layouts else None
        names = [name for name in time_columns(self._spec) if name in self.dialect.names]
        unread: Counter[str] = Counter(dict.fromkeys(layouts, 0))
        for batch in self.texts(names):
            for column in batch.columns:
                unread.update(unread_by(column, layouts))
        fewest = [layout for layout in layouts if unread[layout] == min(unread.values())]
        if len(fewest) > 1:
            raise self._error(
                f"with times that may be {' or '.join(fewest)}",
                "one way to read them",
                "set source.csv.timestamp_format to the right one",
            )
        return fewest[0]

    def written(self) -> dict[str, object]:
        """Return how the file is written, as `source.csv` would say it."""
        dialect = self.dialect
        plain = {"timestamp_format": self.layout} if self.layout else {}
        names = ("separator", "decimal", "thousands", "encoding", "quote", "skip_rows")
        return {name: getattr(dialect, name) for name in names} | plain

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns: numbers as numbers; identities, categories and classes as written."""
        spec, numeric = self._spec, numeric_columns(self._spec)
        written = {
            spec.source.key,
            *spec.key_parts,
            *time_columns(spec),
            spec.source.group,
            *spec.gate.slices,
        }
        written |= {*spec.features.categorical} | (
            set() if spec.task == "regression" else {spec.label.column}
        )
        for batch in self.texts(columns):
            arrays = [
                self._as_written(column)
                if name in written - numeric
                else self._numbers(column, clean=name in numeric)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def texts(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns as text, null where a cell is empty or stands for nothing.

        Raises:
            FetchError: naming line and cause of what cannot be read.
        """
        done = 0
        for size in _BLOCKS:
            skipped = 0
            try:
                with closing(self._open()) as stream, self._reader(stream, columns, size) as reader:
                    for batch in reader:
                        fresh = batch.slice(max(0, done - skipped)) if skipped < done else batch
                        skipped += batch.num_rows
                        if fresh.num_rows:
                            done += fresh.num_rows
                            yield fresh
            except (pa.ArrowInvalid, UnicodeDecodeError) as err:
                if "straddling" not in str(err) or size == _BLOCKS[-1]:
                    raise self._fault() from None  # Arrow's own text may show a value
            except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
                raise self._damaged() from None
            else:
                return

    def _reader(self, stream: Any, columns: Sequence[str], size: int) -> arrow_csv.CSVStreamingReader:
        dialect = self.dialect
        return arrow_csv.open_csv(
            stream,
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=size,
                skip_rows=dialect.skip_rows,
                encoding="utf8" if dialect.encoding in ("utf-8", "utf8") else dialect.encoding,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char=dialect.quote,
                newlines_in_values=dialect.newlines_in_values,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(dialect.names, pa.string()),
                include_columns=list(columns),
                null_values=["", *dialect.missing],
                strings_can_be_null=True,
            ),
        )

    def _open(self) -> Any:  # Any: a pyarrow file
        """Return the unpacked bytes, whatever the name says they are packed with."""
        raw = self._filesystem.open_input_file(self._path)
        try:
            start = raw.read(4)
            raw.seek(0)
            if start == b"PK\x03\x04":
                return pa.PythonFile(self._member(zipfile.ZipFile(raw)), mode="r")
            for mark, kind in _PACKED:
                if start.startswith(mark):
                    return pa.CompressedInputStream(raw, kind)
        except zipfile.BadZipFile:
            raise self._damaged() from None
        return raw

    def _member(self, archive: zipfile.ZipFile) -> Any:  # Any: a file of the archive
        names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
        if len(names) != 1:
            raise self._error(f"with {len(names)} files in it", "a zip of one CSV file", "unpack it")
        return archive.open(names[0])

    def _as_written(self, texts: pa.Array) -> pa.Array:
        if self.dialect.decimal == "." or texts.null_count == len(texts):
            return texts
        return pc.replace_substring_regex(texts, r"^(-?[0-9]+),0+$", r"\1")

    def _numbers(self, texts: pa.Array, *, clean: bool) -> pa.Array:
        """Return texts as numbers where all are; `clean` ones without what stands for nothing in any case."""
        trimmed = pc.utf8_trim_whitespace(texts)
        numbers = pc.if_else(pc.is_in(trimmed, _NO_NUMBER), pa.scalar(None, pa.string()), trimmed)
        if numbers.null_count == len(numbers):
            return texts if texts.null_count < len(texts) and not clean else pa.nulls(len(texts))
        numbers = self._plain_signs(numbers)
        for kind in (pa.int64(), pa.float64()):
            try:
                return numbers.cast(kind)
            except pa.ArrowInvalid:
                continue
        return numbers if clean else texts

    def _plain_signs(self, numbers: pa.Array) -> pa.Array:
        """Return numbers with a point before the decimals and nothing between thousands."""
        dialect = self.dialect
        if dialect.thousands:
            sign = r"[ \x{a0}\x{202f}]" if dialect.thousands == " " else f"[{dialect.thousands}]"
            decimals = f"(?:[{dialect.decimal}][0-9]*)?"
            grouped = pc.match_substring_regex(numbers, rf"^-?[0-9]{{1,3}}(?:{sign}[0-9]{{3}})+{decimals}$")
            numbers = pc.if_else(grouped, pc.replace_substring_regex(numbers, sign, ""), numbers)
        if dialect.decimal != ".":
            numbers = pc.replace_substring_regex(
                numbers, r"^(-?[0-9]*),([0-9]+(?:[eE][+-]?[0-9]+)?)$", r"\1.\2"
            )
        return numbers

    def _fault(self) -> FetchError:
        """Return the first thing that is wrong, with its line, found by reading the file once more."""
        line = 0
        try:
            with closing(self._open()) as stream:
                lines = self._decoded(io.BufferedReader(stream))
                dialect = self.dialect
                for _ in range(dialect.skip_rows):
                    next(lines, "")
                reader = csv.reader(lines, delimiter=dialect.separator, quotechar=dialect.quote)
                width = len(next(reader, []))
                for cells in reader:
                    line = reader.line_num
                    if cells and len(cells) != width:
                        at = line + dialect.skip_rows
                        return self._error(
                            f"with {len(cells)} cells in line {at}, where the header has {width}",
                            "as many in each line",
                            "correct the line; look for a separator, or a quote, inside a cell",
                        )
        except FetchError as err:
            return err
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
            return self._damaged()
        except csv.Error:
            return self._error(
                f"with a quote that is opened about line {line + 2} and never closed",
                "quotes in pairs",
                "correct the line, or set source.csv.quote",
            )
        return self._error("that cannot be read as CSV", "a CSV file", "say in source.csv how it is written")

    def _decoded(self, stream: io.BufferedReader) -> Iterator[str]:
        encoding = self.dialect.encoding
        if codecs.lookup(encoding).name.startswith("utf-16"):
            yield from io.TextIOWrapper(stream, encoding=encoding, newline="")
            return
        for number, line in enumerate(stream, start=1):
            try:
                yield line.decode(encoding).removeprefix("\ufeff")
            except UnicodeDecodeError:
                raise self._error(
                    f"with line {number} that is not {encoding.upper()} text",
                    "one encoding from beginning to end",
                    "set source.csv.encoding, e.g. cp1252, or write the file as UTF-8",
                ) from None

    def _damaged(self) -> FetchError:
        return self._error(
            "damaged or incomplete",
            "a whole file",
            "write it again, elsewhere first and then renamed into place",
        )

    def _error(self, found: str, expected: str, todo: str) -> FetchError:
        return FetchError(f"{self._name!r} {found}", expected, todo, model=self._spec.name)
