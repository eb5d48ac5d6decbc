"""What a version is made of: the files of a bundle and the manifest that vouches for them.

The manifest names every other file with its sha256, so the manifest's digest is the digest of the version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from tasks.core.errors import RegistryError, SpecError
from tasks.core.window import Window

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.skops"
SPEC = "spec.json"
REFERENCE = "reference.json"
GOLDEN = "golden.parquet"
REQUIRED = (MODEL, SPEC, REFERENCE, GOLDEN)
_FILE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_REBUILD = "register the version anew; do not serve this one"


@dataclass(frozen=True)
class Promise:
    """The score a version was promoted on, with its interval; higher is better, as scorers have it."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True)
class ChampionRef:
    """What a comparison needs of the champion: its model, its number, and up to when it has learnt."""

    model_path: str
    version: int
    train_end: datetime


@dataclass(frozen=True)
class Manifest:
    """Everything known about a version without opening its files.

    `files` maps file name to sha256. Every row the model was fitted on is older than `cut`: what is newer in
    `train_window` was kept for the comparison, nothing after a refit on all rows. Promise and gate are those
    of the model that was judged, which `training["refit"]` names. `classes` are the labels in the order of
    the probabilities; None for a regressor. `snapshot`, `code`, `decision`, `gate` and `training` are plain
    JSON records.
    """

    model: str
    attempt: str
    created: datetime
    files: Mapping[str, str]
    promise: Promise
    train_window: Window
    cut: datetime
    decision_id: str = ""
    classes: tuple[Any, ...] | None = None  # Any: labels may be text, whole numbers or booleans
    snapshot: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON record, as are those below
    code: Mapping[str, Any] = field(default_factory=dict)
    decision: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the manifest as canonical JSON: the same manifest always gives the same text."""
        return json.dumps(plain(self), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def digest(self) -> str:
        """The sha256 that names this version."""
        return digest_of(self.to_json().encode())

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return the manifest written in `text`.

        Raises:
            RegistryError: when it is no manifest of this format, lacks a required file, or names one that is
                not a plain file name.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise RegistryError(
                    f"manifest format {raw['format']!r}", f"format {FORMAT}", "use matching code"
                )
            manifest = cls(
                **{
                    **{name.name: raw[name.name] for name in dataclasses.fields(cls)},
                    "created": datetime.fromisoformat(raw["created"]),
                    "cut": datetime.fromisoformat(raw["cut"]),
                    "promise": Promise(**raw["promise"]),
                    "train_window": window_from(raw["train_window"]),
                    "classes": None if raw["classes"] is None else tuple(raw["classes"]),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError, SpecError) as err:
            raise RegistryError(
                f"a manifest that cannot be read ({type(err).__name__})",
                "the manifest of a version",
                _REBUILD,
            ) from err
        _check_files(manifest.files)
        return manifest


def window_from(raw: Mapping[str, str]) -> Window:
    """Return the window from its plain form."""
    return Window(datetime.fromisoformat(raw["start"]), datetime.fromisoformat(raw["end"]))


def digest_of(data: bytes) -> str:
    """Return the sha256 of these bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def safe_url(url: str) -> str:
    """Return the URL without password and without the values of its query, for keeping in a bundle.

    Example:
        >>> safe_url("postgresql+psycopg://ann:secret@db/x?sslkey=k")
        'postgresql+psycopg://ann:***@db/x?sslkey=***'
        >>> safe_url("https://token@host/x.csv#sig=abc")
        'https://***@host/x.csv'
    """
    url = url.partition("#")[0]
    if "@" in url.partition("://")[2]:  # up to the last @: a password may hold a slash
        scheme, _, rest = url.partition("://")
        who, _, place = rest.rpartition("@")
        name, colon, _ = who.partition(":")
        url = f"{scheme}://{name}:***@{place}" if colon else f"{scheme}://***@{place}"
    masked = re.sub(r";[^/?]*", "", url)
    head, mark, query = masked.partition("?")
    if not mark or "://" not in head:
        return masked
    return head + mark + re.sub(r"=[^&]*", "=***", query)


def plain(value: Any) -> Any:  # Any: a tree of dataclasses, numpy scalars, times and containers
    """Return the value as JSON would give it back; numbers that are not finite become null."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int | float | datetime):
        return _plain_scalar(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset | list | tuple):
        items = [plain(item) for item in value]
        return items if isinstance(value, list | tuple) else sorted(items, key=str)
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _plain_scalar(value: str | bool | int | float | datetime | None) -> str | bool | int | float | None:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _check_files(files: object) -> None:
    if not isinstance(files, dict):
        raise RegistryError("a manifest without files", "file names with digests", _REBUILD)
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise RegistryError(f"a manifest without {missing}", f"{list(REQUIRED)}", _REBUILD)
    for name, sha256 in files.items():
        if not _FILE_NAME.match(name) or name == MANIFEST or not _SHA256.match(str(sha256)):
            raise RegistryError("a manifest with an unsafe file name or digest", "plain names", _REBUILD)
