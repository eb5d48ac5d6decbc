"""Immutable copies of training rows, named by their sha256, in a folder or on S3."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

from tasks.core.dataset import Dataset
from tasks.core.errors import RegistryError, RegistryUnavailable
from tasks.settings import Settings
from tasks.store.leftovers import sweep
from tasks.store.passing import may_pass
from tasks.store.s3 import filesystem, put_file, size_of

_CHUNK = 1 << 20


def keep_snapshot(dataset: Dataset, *, settings: Settings | None = None) -> Dataset:
    """Return the dataset at its lasting place, `<artifact root>/snapshots/<sha256>.parquet`.

    Keeping the same rows twice is harmless; what is there is never overwritten.

    Raises:
        RegistryError: when the file does not have the digest it is said to have, when something else stands
            under that name, or when the place cannot be written.
    """
    place = settings or Settings()
    target = f"{place.artifact_root}/snapshots/{dataset.sha256}.parquet"
    try:
        with Path(dataset.path).open("rb") as handle:
            _expect(hashlib.file_digest(handle, "sha256").hexdigest(), dataset.sha256, "the rows to keep")
        if target.startswith("s3://"):
            _keep_remote(dataset, target, place)
        else:
            _keep_local(dataset, Path(target))
    except OSError as err:
        error = RegistryUnavailable if may_pass(err) else RegistryError
        raise error(
            f"a snapshot that could not be written ({type(err).__name__})",
            "a writable artifact root",
            "check EVERGREEN_ARTIFACTS, the disk and the credentials",
        ) from err
    return replace(dataset, path=target)


def local_snapshot(
    path: str,
    sha256: str,
    folder: Path,
    settings: Settings,
    *,
    model: str,
    todo: str = "restore the artifact root",
) -> Path:
    """Return a file of this machine with the rows of this digest; from S3 they are copied into `folder`.

    Raises:
        RegistryError: when the rows are gone, cannot be read, or have another digest. `todo` is its advice.
    """
    try:
        local = _found_here(path, sha256, folder, settings)
        with local.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as err:
        error = RegistryUnavailable if may_pass(err) else RegistryError
        raise error(
            f"rows that cannot be read ({type(err).__name__})",
            f"the file with digest {sha256[:12]}…",
            todo,
            model=model,
        ) from err
    if found != sha256:
        raise RegistryError(f"rows with digest {found[:12]}…", f"{sha256[:12]}…", todo, model=model)
    return local


def _found_here(path: str, sha256: str, folder: Path, settings: Settings) -> Path:
    if not path.startswith("s3://"):
        # A place may be mounted elsewhere since: its artifact root is where its snapshots are.
        moved = Path(settings.artifact_root, "snapshots", f"{sha256}.parquet")
        return Path(path) if Path(path).is_file() or not moved.is_file() else moved
    kept = folder / f"{sha256}.parquet"
    if kept.is_file() and hashlib.sha256(kept.read_bytes()).hexdigest() == sha256:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    draft = kept.with_name(f".{kept.name}.{os.getpid()}.part")
    files, there = filesystem(path, settings)
    with files.open_input_stream(there) as source, draft.open("wb") as target:
        shutil.copyfileobj(source, target)
    draft.replace(kept)
    return kept


def _keep_local(dataset: Dataset, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        sweep(target.parent)
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        shutil.copyfile(dataset.path, draft)
        draft.chmod(stat.S_IRUSR | stat.S_IRGRP)
        try:
            os.link(draft, target)  # fails if the name is taken, where a rename would replace it
        except FileExistsError:
            pass  # another process kept it first; what it kept is checked below
        finally:
            draft.unlink()
    with target.open("rb") as handle:
        _expect(hashlib.file_digest(handle, "sha256").hexdigest(), dataset.sha256, "the snapshot kept before")


def _keep_remote(dataset: Dataset, target: str, place: Settings) -> None:
    if size_of(target, place) is None:  # two at once are harmless: the name says what the bytes are
        put_file(Path(dataset.path), target, place)
    files, path = filesystem(target, place)
    digest = hashlib.sha256()
    with files.open_input_stream(path) as stored:
        while chunk := stored.read(_CHUNK):
            digest.update(chunk)
    _expect(digest.hexdigest(), dataset.sha256, "the snapshot kept before")


def _expect(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise RegistryError(
            f"{what} with digest {found[:12]}…",
            f"{expected[:12]}…",
            "fetch the rows again; never change a snapshot in place",
        )
