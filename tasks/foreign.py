"""Errors that nobody foresaw: one line with a report number for people, the rest in a file of this place."""

from __future__ import annotations

import traceback
import uuid
from pathlib import Path

from tasks.settings import Settings

_NUMBER = "_evergreen_report"


def report_of(err: BaseException, *, settings: Settings | None = None) -> str:
    """Return the number of the report on this error; the first call writes it, with the traceback.

    The error's own text may quote a row, so the file can be read by its owner only, and no text of it goes
    anywhere else.
    """
    known = getattr(err, _NUMBER, None)
    if known:
        return str(known)
    number = uuid.uuid4().hex[:8]
    try:
        setattr(err, _NUMBER, number)
        path = _path(number, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text("".join(traceback.format_exception(err)), encoding="utf-8")
    except (OSError, AttributeError):  # a full disk: the line with kind and place is still told
        pass
    return number


def in_one_line(err: BaseException, *, settings: Settings | None = None) -> str:
    """Return kind and place of an unforeseen error, and where its report lies."""
    number = report_of(err, settings=settings)
    frames = traceback.extract_tb(err.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    where = _path(number, settings)
    told = f"its report lies in {where}" if where.exists() else "its report could not be written"
    return f"{type(err).__name__}{place}, which nobody foresaw: report {number}; {told}; please pass it on"


def _path(number: str, settings: Settings | None) -> Path:
    return (settings or Settings()).root / "reports" / f"{number}.txt"
