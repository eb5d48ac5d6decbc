"""Answers that the store could not take, in files of the state folder until it can.

One process writes one file and holds its lock; a file whose process died is free, and the next one that
starts takes it over. What is appended is on the disk before `append` returns. What is read again may have
been read before: the store knows each prediction by its id.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import secrets
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.core.errors import StoreError
from tasks.store.schema import dump_json

MOST_BYTES = 256 * 2**20
"""Of one process's file, our choice: about half a million answers; beyond it requests are refused."""
_TIMES = ("event_time", "served_at")

Record = dict[str, Any]  # Any: column values of `predictions`


@dataclass
class _File:
    path: Path
    handle: io.BufferedRandom
    size: int
    rows: int
    read: int = 0


class Spool:
    """Rows that wait for the store; one thread at a time may use it.

    `rows` says how many wait, `damaged` how many lines could not be read again: those lie in a file beside.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES):
        self._folder = folder
        self._most = most_bytes
        self._own: _File | None = None
        self._left: list[_File] = []
        self._torn: list[bytes] = []  # lines among those that `waiting` gave last
        self.damaged = 0
        if folder.is_dir():
            self.adopt()

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(one.rows for one in self._files())

    def append(self, rows: Sequence[Record]) -> None:
        """Keep the rows on disk.

        Raises:
            StoreError: when the file is full or cannot be written; then none of them is kept.
        """
        data = b"".join(_line(row) for row in rows)
        try:
            own = self._own = self._own or self._made()
            if own.size + len(data) > self._most:
                raise StoreError(
                    f"a spool of {own.size >> 20} MB",
                    f"at most {self._most >> 20} MB",
                    "bring the store back",
                )
            try:
                _write(own.handle.fileno(), data, own.size)
            except OSError:
                self._cut(own)
                raise
        except OSError as err:
            raise StoreError(
                f"a spool that cannot be written ({type(err).__name__})",
                "room on the disk of the state folder",
                "free some, and bring the store back",
            ) from err
        own.size += len(data)
        own.rows += len(rows)

    def waiting(self, most: int) -> list[Record]:
        """Return at most `most` rows, oldest first, without removing them; [] when none waits."""
        for one in self._files():
            one.handle.seek(one.read)
            self._torn = []  # it may be asked again for the same rows
            found: list[Record] = []
            while len(found) < most and (line := one.handle.readline()):
                row = _row(line)
                if row is not None:
                    found.append(row)
                elif line.endswith(b"\n"):  # without one its process died before it told anybody
                    self._torn.append(line)
            if found:
                return found
            self._set_torn_aside()
            self._emptied(one)
        return []

    def taken(self, rows: Sequence[Record]) -> None:
        """Note that the store has the rows that `waiting` gave last; a file read to its end goes."""
        self._set_torn_aside()
        for one in self._files():
            one.read = one.handle.tell()
            one.rows = max(one.rows - len(rows), 0)
            if one.read >= one.size:
                self._emptied(one)
            return

    def set_aside(self, line: bytes) -> None:
        """Keep a line that can never go into the store where a person will find it, and count it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "damaged.txt").open("ab") as handle:
            handle.write(line if line.endswith(b"\n") else line + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        self.damaged += 1

    def refuse(self, row: Record) -> None:
        """Set a row aside that the database will never take."""
        self.set_aside(_line(row))

    def close(self) -> None:
        """Let the files go; what waits in them stays for the next process."""
        for one in self._files():
            if not one.rows:
                with suppress(OSError):
                    one.path.unlink()
            one.handle.close()
        self._own, self._left = None, []

    def adopt(self) -> None:
        """Take over the files of processes that ended."""
        held = {one.path for one in self._files()}
        for path in sorted(self._folder.glob("*.jsonl")):
            if path in held:
                continue
            with suppress(FileNotFoundError):
                handle = path.open("r+b")
                if not _locked(handle) or not path.exists():
                    handle.close()
                    continue
                lines = sum(1 for _ in handle)
                self._left.append(_File(path, handle, path.stat().st_size, lines))

    def _files(self) -> list[_File]:
        return [*self._left, *([self._own] if self._own else [])]

    def _made(self) -> _File:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{os.getpid()}-{secrets.token_hex(6)}.jsonl"
        new = path.with_suffix(".new")  # nobody takes it over before it is locked and has its name
        handle = os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b")
        try:
            if not _locked(handle):
                raise BlockingIOError(errno.EWOULDBLOCK, "a new file that somebody else holds")
            new.rename(path)
            _sync(self._folder)
        except OSError:
            for one in (new, path):
                with suppress(OSError):
                    one.unlink()
            handle.close()
            raise
        return _File(path, handle, 0, 0)

    def _set_torn_aside(self) -> None:
        while self._torn:
            self.set_aside(self._torn[0])
            self._torn.pop(0)

    def _cut(self, own: _File) -> None:
        """Remove what was written of rows that nobody was told are kept; else write no further into it."""
        try:
            os.ftruncate(own.handle.fileno(), own.size)
        except OSError:
            self._left.append(own)
            self._own = None

    def _emptied(self, one: _File) -> None:
        with suppress(OSError):
            one.path.unlink()
        with suppress(OSError):
            one.handle.close()
        if one is self._own:
            self._own = None
        else:
            self._left.remove(one)


def _write(descriptor: int, data: bytes, at: int) -> None:
    # Past the handle's buffer, which would write later what failed now.
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], at + done)
    os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(handle: io.BufferedRandom) -> bool:
    try:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _line(row: Record) -> bytes:
    text = dump_json(row).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _row(line: bytes) -> Record | None:
    """Return the row; None for a line that is not whole."""
    check, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
        return None
    row: Record = json.loads(text)
    return {**row, **{name: datetime.fromisoformat(row[name]) for name in _TIMES}}
