"""Pages that are kept below the artifact root, found and read again."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.core.errors import RegistryError
from tasks.core.spec_problems import NAME_PATTERN
from tasks.settings import Settings
from tasks.store.s3 import filesystem, s3_errors

FLEET = "_fleet"
"""Where the page about all models stands; no model may be called so."""
MOST_BYTES = 16_000_000
"""Largest page that is read; our choice: twice the largest that is ever written."""
_STAMP = r"\d{8}T\d{6}Z_\d{8}T\d{6}Z"
_NAME = re.compile(rf"(board|fleet|scorecard|review-\d{{4}}-\d{{2}}|drift/{_STAMP})\.html")


def is_page(model: str, name: str) -> bool:
    """Return whether a page may be called so: anything else leads out of the folder of reports.

    Example:
        >>> is_page("churn", "board.html"), is_page("churn", "../keys.html"), is_page("..", "board.html")
        (True, False, False)
    """
    known = model == FLEET or re.fullmatch(NAME_PATTERN[1:-1], model)
    return bool(known and _NAME.fullmatch(name))


def read_page(model: str, name: str, settings: Settings | None = None) -> bytes | None:
    """Return the page as it was kept last; None where there is none of this name.

    Raises:
        RegistryError: when it cannot be read, or is larger than any page of ours.
    """
    if not is_page(model, name):
        return None
    place = settings or Settings()
    target = f"{place.artifact_root}/reports/{model}/{name}"
    data = _from_s3(target, place) if target.startswith("s3://") else _from_file(place, target, model)
    if data is not None and len(data) > MOST_BYTES:
        raise RegistryError(f"a page above {MOST_BYTES:,} bytes", "a page of ours", model=model)
    return data


def drift_reports(model: str, settings: Settings | None = None) -> frozenset[str]:
    """Return the windows, as files name them, whose drift report is kept; none where nobody can look."""
    place = settings or Settings()
    folder = f"{place.artifact_root}/reports/{model}/drift"
    if not re.fullmatch(NAME_PATTERN[1:-1], model):
        return frozenset()
    try:
        names = _listed(folder, place) if folder.startswith("s3://") else _files(Path(folder))
    except (RegistryError, OSError):
        return frozenset()  # a board without links is better than none
    return frozenset(name[:-5] for name in names if re.fullmatch(rf"{_STAMP}\.html", name))


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _from_file(place: Settings, target: str, model: str) -> bytes | None:
    reports, path = Path(place.artifact_root, "reports").resolve(), Path(target).resolve()
    if not path.is_relative_to(reports):  # a link that leads out of the folder is not followed
        return None
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as err:
        raise RegistryError(
            f"a page that cannot be read ({type(err).__name__})", "a readable artifact root", model=model
        ) from err


def _from_s3(target: str, place: Settings) -> bytes | None:
    try:
        with s3_errors("reading"):
            files, path = filesystem(target, place)
            with files.open_input_stream(path) as stream:
                return bytes(stream.read(MOST_BYTES + 1))
    except FileNotFoundError:
        return None
    except OSError as err:  # pyarrow's own kind
        raise RegistryError("S3 that does not give a page", "a bucket that answers", "ask again") from err


def _listed(folder: str, place: Settings) -> list[str]:
    from pyarrow import fs

    with s3_errors("listing"):
        files, path = filesystem(folder, place)
        found = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return [one.base_name for one in found]
