"""Errors that nobody foresaw: one line with a report number for people, the rest in a file of this place."""

from __future__ import annotations

import errno
import traceback
import uuid
from pathlib import Path

from tasks.core.errors import WorkflowError
from tasks.settings import Settings

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REPORTED = "_evergreen_report"  # attribute of an error whose report is written


def in_one_line(err: BaseException, *, settings: Settings | None = None) -> str:
    """Return kind and place of an unforeseen error, and where its report lies; the first call writes it.

    The error's own text may quote a row, so the report can be read by its owner only, and no text of it goes
    anywhere else. Where it cannot be written the line says so: this never raises.
    """
    if full := _without_room(err, settings):
        return full
    report = getattr(err, _REPORTED, None) or _write(err, settings)
    frames = traceback.extract_tb(err.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(err).__name__}{place}, which nobody foresaw: {report}; please pass it on"


def _without_room(err: BaseException, settings: Settings | None) -> str:
    """Return one line naming the place whose disk is full; empty where that is not what is wrong."""
    cause: BaseException | None = err
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            break
        if "database or disk is full" in str(cause):  # SQLite's words
            break
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return ""
    place = getattr(cause, "filename", None)
    try:
        place = place or (settings or Settings()).root
    except WorkflowError:
        place = "this place"
    return f"no room is left on the disk of {place}: free some, then run again; nothing was decided"


def _write(err: BaseException, settings: Settings | None) -> str:
    """Return where the report with the traceback lies, or that it could not be written."""
    number = uuid.uuid4().hex[:8]
    try:
        path = (settings or Settings()).root / "reports" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text("".join(traceback.format_exception(err)), encoding="utf-8")
        report = f"report {number} lies in {path}"
    except (OSError, WorkflowError) as fault:  # a full disk, or a place whose settings are wrong
        report = f"report {number} could not be written ({type(fault).__name__})"
    err.__dict__[_REPORTED] = report
    return report
