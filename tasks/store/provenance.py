"""On what code and with which libraries something was made."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LOCK = PROJECT / "requirements.lock"
# What a process needs that loads a version through MLflow; their own dependencies follow from them.
_SERVING = ("mlflow", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "skops")


@dataclass(frozen=True)
class CodeState:
    """Commit, whether files differed from it, lock, libraries and image; None is "not known", never "clean".

    `image` is the digest of the container image, as whoever started the container says it in
    EVERGREEN_IMAGE_DIGEST: an image cannot know its own.
    """

    commit: str | None
    dirty: bool | None
    lock_sha256: str | None
    python: str
    scikit_learn: str
    evergreen: str | None
    image: str | None = None


def code_state() -> CodeState:
    """Return the state of the project's code, or what the image says of it where there is no git.

    An image sets EVERGREEN_GIT_COMMIT when it is built; it holds committed code only, so it is not dirty.
    """
    stamped = os.environ.get("EVERGREEN_GIT_COMMIT")
    commit = stamped or _git("rev-parse", "HEAD")
    changes = "" if stamped else _git("status", "--porcelain", "--untracked-files=no")
    return CodeState(
        commit=commit or None,
        dirty=None if changes is None or not commit else bool(changes),
        lock_sha256=hashlib.sha256(LOCK.read_bytes()).hexdigest() if LOCK.is_file() else None,
        python=platform.python_version(),
        scikit_learn=metadata.version("scikit-learn"),
        evergreen=_installed("evergreen"),
        image=os.environ.get("EVERGREEN_IMAGE_DIGEST", "").strip() or None,
    )


@lru_cache(maxsize=1)
def pinned_requirements() -> tuple[str, ...]:
    """Return `name==version` of what loading a version needs: from the lock, else from what is installed."""
    text = LOCK.read_text("utf-8") if LOCK.is_file() else ""
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", text, flags=re.MULTILINE))
    return tuple(f"{name}=={pins.get(name) or metadata.version(name)}" for name in _SERVING)


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(PROJECT), *words],  # noqa: S607 - the git of this place
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
