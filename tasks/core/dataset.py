"""References to rows on disk: what travels between tasks instead of frames."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.window import Window


@dataclass(frozen=True)
class Dataset:
    """A Parquet file of rows, and what is known about it without opening it.

    `columns` are all names the source had for these rows; `missing` are columns the spec needs that at
    least one part of the source with rows in this window lacked (a rename, most likely). `clashes` are
    the columns whose types in different parts of the source cannot be one, each with a sentence on it.
    `unreadable` is a Parquet file of rows whose time cannot be read: bad rows of whoever validates these.
    """

    path: str
    rows: int
    sha256: str
    window: Window
    columns: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    clashes: tuple[tuple[str, str], ...] = ()
    unreadable: str = ""
