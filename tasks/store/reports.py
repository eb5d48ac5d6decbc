"""Reports that outlive the machine that made them: copies below the artifact root."""

from __future__ import annotations

import mimetypes
import os
import shutil
from pathlib import Path

from tasks.core.errors import RegistryError
from tasks.settings import Settings
from tasks.store.s3 import put_file


def keep_report(path: Path, model: str, *, name: str = "", settings: Settings | None = None) -> str:
    """Return where the report now stands: `<artifact root>/reports/<model>/<name>`.

    A report of the same name is replaced, whole or not at all; `name` (default: the file's own) may hold
    folders, so that a caller who wants history puts a window or a run there.

    Raises:
        RegistryError: when the name leads elsewhere, or the place cannot be written.
    """
    place = settings or Settings()
    inside = Path(name or path.name)
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise RegistryError(f"report name {name!r}", "a name below the model's folder", model=model)
    target = f"{place.artifact_root}/reports/{model}/{inside.as_posix()}"
    try:
        if target.startswith("s3://"):
            kind, _ = mimetypes.guess_type(path.name)
            kind = f"{kind}; charset=utf-8" if kind and kind.startswith("text/") else kind
            put_file(path, target, place, content_type=kind or "application/octet-stream")
        else:
            _copy(path, Path(target))
    except OSError as err:
        raise RegistryError(
            f"a report that could not be kept ({type(err).__name__})",
            "a report that stands and a writable artifact root",
            "check EVERGREEN_ARTIFACTS and the disk",
            model=model,
        ) from err
    return target


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(path, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
