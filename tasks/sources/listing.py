"""The files of a path, a folder or a glob: which are rows, which are passed over, and which are refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

import pyarrow.fs as pafs

from tasks.core.errors import FetchError
from tasks.core.spec import ModelSpec

FORMATS = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **{
        f"{ending}{packed}": "csv"
        for ending in (".csv", ".tsv")
        for packed in ("", ".gz", ".zip", ".bz2", ".zst")
    },
}
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

_BESIDE = re.compile(r"/(?:\.[^/]*|_temporary|_SUCCESS|_spark_metadata|_change_data|__MACOSX)(?:/|$)")
# Folders of tables whose own log says which files count: the others lie there until they are swept away.
_LOGS = (
    (re.compile(r"(.*)/_delta_log/[^/]+"), "a Delta table"),
    (re.compile(r"(.*)/metadata/[^/]+\.metadata\.json"), "an Iceberg table"),
    (re.compile(r"(.*)/\.hoodie/.+"), "a Hudi table"),
)


@dataclass(frozen=True)
class Listing:
    """The files to read, in order, and how many of their neighbours were passed over, by reason."""

    paths: tuple[str, ...]
    skipped: Counter[str] = field(default_factory=Counter)


def format_of(path: str) -> str | None:
    """Return `parquet` or `csv` by a file's name, None for anything else."""
    return next((kind for end, kind in FORMATS.items() if path.lower().endswith(end)), None)


def partitions_of(path: str) -> dict[str, str | None]:
    """Return the columns that stand in the names of folders, as in year=2026/plan=pro/.

    Example:
        >>> partitions_of("data/plan=a%20b/day=__HIVE_DEFAULT_PARTITION__/part-0.parquet")
        {'plan': 'a b', 'day': None}
    """
    pairs = [part.split("=", 1) for part in path.split("/")[:-1] if re.match(r"[^=]+=", part)]
    return {unquote(name): None if value == NO_VALUE else unquote(value) for name, value in pairs}


def list_files(filesystem: pafs.FileSystem, pattern: str, shown: str, spec: ModelSpec) -> Listing:
    """Return the files at a path, below a folder or matching a glob; a path that exists is no glob.

    Raises:
        FetchError: when there is none, all are empty, or they belong to a table with a log of its own.
    """
    info = filesystem.get_file_info(pattern.rstrip("/"))
    if info.type == pafs.FileType.File:
        return Listing((info.path,))
    if info.type == pafs.FileType.NotFound and not _is_glob(pattern):
        raise absent("no file", shown, spec)
    is_folder = info.type == pafs.FileType.Directory
    base = pattern.rstrip("/") if is_folder else _base(pattern)
    matcher = re.compile(re.escape(base) + "/.*", re.DOTALL) if is_folder else _regex(pattern)
    items = filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
    files = [item for item in items if item.type == pafs.FileType.File]
    listing = _chosen([item for item in files if matcher.fullmatch(item.path)], base)
    _refuse_tables((item.path for item in files), listing.paths, base, shown, spec)
    if not listing.paths:
        empty = listing.skipped["empty"]
        what = f"{empty} empty files and no other" if empty else "no Parquet or CSV file"
        raise absent(what, shown, spec)
    return listing


def absent(what: str, shown: str, spec: ModelSpec) -> FetchError:
    """Return the error of a place with nothing to read."""
    return FetchError(f"{what} at {shown}", "at least one", "check source.url", model=spec.name)


def _chosen(files: Iterable[pafs.FileInfo], base: str) -> Listing:
    paths, skipped = [], Counter[str]()
    for item in files:
        below = item.path[len(base) :]
        if _BESIDE.search(below if below.startswith("/") else f"/{below}"):
            skipped["beside the data"] += 1
        elif format_of(item.path) is None:
            skipped["of another kind"] += 1
        elif item.size == 0:
            skipped["empty"] += 1
        else:
            paths.append(item.path)
    return Listing(tuple(sorted(paths)), skipped)


def _refuse_tables(
    every: Iterable[str], chosen: Iterable[str], base: str, shown: str, spec: ModelSpec
) -> None:
    tables = {}
    for path in every:
        for pattern, kind in _LOGS:
            match = pattern.fullmatch(path)
            if match:
                tables[match[1]] = kind
    files = list(chosen)
    for folder, kind in tables.items():
        if folder.startswith(base) and (not files or any(path.startswith(f"{folder}/") for path in files)):
            raise FetchError(
                f"{kind} at {shown}",
                "plain files: of those of a table some are superseded, and only its log says which",
                "export its rows, or read it as SQL (DuckDB, Trino, Spark) with source.query",
                model=spec.name,
            )


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
    return re.compile("".join(signs.get(part) or _set_or_text(part) for part in parts))


def _set_or_text(part: str) -> str:
    if not part.startswith("["):
        return re.escape(part)
    return f"[^{part[2:]}" if part.startswith("[!") else part
