"""The shadow: rows scored beside the requests, in a thread of its own, and written down in batches."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Engine

from serving.holder import Served
from serving.request import BadRows
from serving.scoring import Answer
from tasks.store import exposures

MOST_WAITING = 5_000
"""Rows that may wait for the shadow, our choice: beyond it they are dropped and counted, never waited for."""
MOST_UNWRITTEN = 10_000
"""Shadow answers that may wait for a store that does not answer."""
_TOGETHER = 500  # rows scored at once
_WRITE_SECONDS = 1.0  # so long answers come together before they are written: one writer on SQLite
_NICENESS = 10


@dataclass(frozen=True)
class _Handed:
    served: Served
    request_id: str
    rows: Sequence[Mapping[str, Any]]  # Any: checked values
    at: datetime


class Shade:
    """Scores what it is handed as far as it keeps up; `kept` rows are in the store, `dropped` are not."""

    def __init__(self, store: Callable[[], Engine], model: str):
        self.kept = 0
        self.dropped = 0
        self._store = store
        self._model = model
        self._queue: queue.Queue[_Handed | None] = queue.Queue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_open = True
        self._unwritten: list[dict[str, Any]] = []  # Any: column values
        self._wrote = 0.0

    def hand(self, served: Served, request_id: str, rows: Sequence[Mapping[str, Any]], at: datetime) -> None:
        """Take rows to be scored by and by; never waits, never raises."""
        with self._lock:
            if not self._is_open or self._waiting + len(rows) > MOST_WAITING:
                self.dropped += len(rows)
                return
            self._waiting += len(rows)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                self._thread.start()
        self._queue.put_nowait(_Handed(served, request_id, rows, at))

    def close(self) -> None:
        """Score and write what waits, then end."""
        with self._lock:
            self._is_open, thread = False, self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # Linux has a niceness per thread; elsewhere it goes without
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        is_last = False
        while not is_last:
            together, is_last = self._gathered()
            for part in _by_version(together):
                self._unwritten += answered(part[0].served, part)
            with self._lock:
                self._waiting -= sum(len(one.rows) for one in together)
            if is_last or time.monotonic() - self._wrote >= _WRITE_SECONDS:
                self._write()
        self.dropped += len(self._unwritten)

    def _gathered(self) -> tuple[list[_Handed], bool]:
        """Return what is to be scored next, and whether nothing comes after it."""
        found: list[_Handed] = []
        rows = 0
        try:
            one = self._queue.get(timeout=_WRITE_SECONDS if self._unwritten else None)
            while one is not None:
                found.append(one)
                rows += len(one.rows)
                if rows >= _TOGETHER:
                    return found, False
                one = self._queue.get_nowait()
        except queue.Empty:
            return found, False
        return found, True

    def _write(self) -> None:
        self._wrote = time.monotonic()
        if not self._unwritten:
            return
        try:
            exposures.keep_shadows(self._store(), self._unwritten)
        except Exception:  # the store is away: tried again with what comes next, as long as there is room
            lost = max(0, len(self._unwritten) - MOST_UNWRITTEN)
            self.dropped += lost
            del self._unwritten[:lost]
            return
        self.kept += len(self._unwritten)
        self._unwritten = []


def answered(served: Served, handed: Sequence[_Handed]) -> list[dict[str, Any]]:  # Any: column values
    """Return a record per row: the answer with the time its batch took, or what kind of error it was."""
    rows = [(one, index, row) for one in handed for index, row in enumerate(one.rows)]
    began = time.perf_counter()
    said: list[Answer | str] = _said(served, [row for _, _, row in rows])
    took = (time.perf_counter() - began) * 1000
    found = []
    for (one, index, _), answer in zip(rows, said, strict=True):
        given = {} if isinstance(answer, str) else answer
        found.append(
            {
                "model": served.name,
                "prediction_id": f"{one.request_id}/{index}",
                "version": served.version,
                "at": one.at,
                "prediction": given.get("prediction"),
                "score": list(given["probabilities"].values()) if "probabilities" in given else None,
                "latency_ms": took,
                "error": answer if isinstance(answer, str) else None,
            }
        )
    return found


def _said(served: Served, rows: Sequence[Mapping[str, Any]]) -> list[Answer | str]:
    try:
        return list(served.scorer.answers(rows))
    except Exception as err:  # one row may be the reason: it alone goes without an answer
        if len(rows) == 1:
            return ["contract" if isinstance(err, BadRows) else type(err).__name__]
    half = len(rows) // 2
    return _said(served, rows[:half]) + _said(served, rows[half:])


def _by_version(handed: Sequence[_Handed]) -> list[list[_Handed]]:
    parts: dict[int, list[_Handed]] = {}
    for one in handed:
        parts.setdefault(one.served.version, []).append(one)
    return list(parts.values())
